"""The formats there are, what they can hold, and what its folder is called."""

from imaging.dataset.manifest import Snapshot
from imaging.export.nnunet import dataset_name

DRAWN = ("nnunet", "coco", "dicom-seg", "png")  # hold masks or regions, no classes


def misfit(what: str, snapshot: Snapshot) -> str | None:
    """Why a format cannot hold a snapshot, as a sentence; None when it can."""
    if snapshot.kind == "classification" and what in DRAWN:
        return f"{what} holds masks, and {snapshot.task} is a task of classes"
    if what == "dicom-seg" and not any(case.is_volume for case in snapshot.cases):
        return f"DICOM-SEG needs the DICOM series it refers to, and {snapshot.task} is of pictures"
    return None


def folder_name(what: str, task: str) -> str:
    """What the folder of an export is called where nobody says it."""
    return dataset_name(task) if what == "nnunet" else f"{task}-{what}"
