"""Label maps that came with a volume become its imported label."""

from imaging.dataset.annotations import annotation_files
from imaging.dataset.cases import load_case
from imaging.dataset.label_maps import land_label_map
from imaging.errors import RecordError
from imaging.io.volumes import LabelArray, read_labels
from services.ingest.errors import RefusedError
from services.ingest.inside import held_paths
from services.ingest.take import Intake, refused_links


def land_labels(intake: Intake, path: str, case: str) -> bool:
    """Land the label map in a file; whether there was one to land.

    Args:
        intake: the task.
        path: a NIfTI or NRRD file, below rawdata.
        case: its image's case.

    Raises:
        VolumeError: `other-grid`, `label-values`, or no whole volume.
        RefusedError: `label-values`: the task has classes and no label maps.
    """
    if has_answers(intake, case):
        return False
    record = load_case(intake.task.case(case))
    if record.volume is None:
        raise RecordError(f"case {case} is no volume")
    with refused_links(), held_paths(intake.task.rawdata, [path]) as (file,):
        labels_XYZ = read_labels(file, record.volume.grid, intake.config.scheme)
    intake.beat()
    return land_volume(intake, case, labels_XYZ)


def land_volume(intake: Intake, case: str, labels_XYZ: LabelArray) -> bool:
    """Land a label map on its image's grid, unless people have answered or one has landed."""
    if intake.config.kind != "segmentation":
        raise RefusedError("label-values", "a label map in a task of classes")
    if has_answers(intake, case):
        return False
    land_label_map(intake.task, load_case(intake.task.case(case)), labels_XYZ, intake.config.scheme)
    return True


def has_answers(intake: Intake, case: str) -> bool:
    return next(annotation_files(intake.task.case_annotations(case)), None) is not None
