"""nnU-Net v2: a raw dataset, with our split.

    Dataset001_heart/
      dataset.json
      imagesTr/<case>_0000.nii.gz   train and validation; _0001 … are further channels
      labelsTr/<case>.nii.gz
      imagesTs/, labelsTs/          the held-out cases; nnU-Net ignores labelsTs
      splits_final.json             belongs into nnUNet_preprocessed/Dataset001_heart/

Pictures keep PNG: nnU-Net reads them with its NaturalImage2DIO, colour in one file.

Source: documentation/dataset_format.md and manual_data_splits.md of MIC-DKFZ/nnUNet 2.6.
"""

from collections.abc import Sequence
from typing import Any

from imaging.dataset.folds_file import fold_cases
from imaging.errors import ExportError
from imaging.export.folder import Export, ExportCase, Progress

BACKGROUND = "background"


def dataset_name(task: str) -> str:
    """`Dataset001_heart` for `Task001_heart`: nnU-Net finds datasets by their number."""
    return f"Dataset{task.removeprefix('Task')}"


def fill_nnunet(export: Export, cases: Sequence[ExportCase], progress: Progress) -> None:
    """Write the dataset.

    Raises:
        ExportError: the cases do not have the same channels, or a label is called background.
    """
    record = _dataset(export, cases)
    ending = record["file_ending"]
    for done, case in enumerate(cases, start=1):
        side = "Ts" if case.is_test else "Tr"
        for channel, (image, sha256) in enumerate(case.images):
            export.link(f"images{side}/{case.name}_{channel:04d}{ending}", image, sha256)
        export.link_labels(f"labels{side}/{case.name}{ending}", case)
        progress(done, len(cases))
    folds = [
        {"train": list(fold.train), "val": list(fold.validation)}
        for fold in fold_cases(export.snapshot)
    ]
    export.write_json("splits_final.json", folds)
    export.write_json("dataset.json", record)


def one_kind_of_channels(cases: Sequence[ExportCase]) -> tuple[str, ...]:
    """The channels that all cases have.

    Raises:
        ExportError: they differ.
    """
    kinds: dict[tuple[str, ...], str] = {}
    for case in cases:
        kinds.setdefault(case.channels, case.name)
    if len(kinds) > 1:
        found = "; ".join(f"{name} has {', '.join(kind)}" for kind, name in kinds.items())
        raise ExportError(f"the cases have different channels: {found:.300}")
    return next(iter(kinds))


def _dataset(export: Export, cases: Sequence[ExportCase]) -> dict[str, Any]:
    snapshot = export.snapshot
    if snapshot.scheme.find(BACKGROUND) is not None:
        raise ExportError("a label is called background, which nnU-Net keeps for index 0")
    channels = one_kind_of_channels(cases)
    return {
        "channel_names": {str(number): name for number, name in enumerate(channels)},
        "labels": {BACKGROUND: 0} | {one.name: one.index for one in snapshot.scheme.labels},
        "numTraining": sum(not case.is_test for case in cases),
        "file_ending": ".nii.gz" if cases[0].frozen.is_volume else ".png",
        "name": dataset_name(snapshot.task),
        "description": f"{snapshot.task}, snapshot {snapshot.id} of Labloop",
    }
