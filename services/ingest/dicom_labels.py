"""DICOM-SEG and RTSTRUCT objects: labels of the series that they name, wherever that lies.

Several objects of one series that come together (one for each structure, as some programs write
them) become one label map. One that comes later than the first finds the case labelled already.
"""

from collections.abc import Sequence

import numpy as np

from imaging.dataset.cases import load_case
from imaging.dataset.quarantine import series_key
from imaging.errors import VolumeError
from imaging.io.dicom.header import text_of
from imaging.io.dicom.labels import read_label_object
from imaging.io.dicom.references import referenced_instances
from imaging.io.dicom.series import LabelObject, Series, sort_dicom
from imaging.io.volumes import LabelArray
from imaging.publish import sha256_of
from imaging.volume import Grid
from services.ingest.errors import RefusedError
from services.ingest.inside import held_paths
from services.ingest.take import Intake, refused_links
from services.ingest.take_labels import has_answers, land_volume


def series_of(intake: Intake, path: str) -> str:
    """The raw UID of the series that a label object refers to; empty when it names none.

    Raises:
        VolumeError: it cannot be read.
        RefusedError: `symlink` or `permission-denied`.
    """
    with refused_links(), held_paths(intake.task.rawdata, [path]) as held:
        return _object(sort_dicom(held, intake.beat, intake.volume_limits).labels, held).series_uid


def land_objects(
    intake: Intake, paths: Sequence[str], images: Sequence[str], cases: Sequence[str]
) -> str | None:
    """Land the label map of label objects.

    Args:
        intake: the task.
        paths: the objects, below rawdata; all of one series.
        images: the files of that series.
        cases: the cases that were made of it: several, where the series was split.

    Returns:
        The case that got the label, or None when people have answered, or a label landed before.

    Raises:
        VolumeError: `label-values`, `other-grid`, `several-patients` or no whole object.
        RefusedError: as `series_of`.
    """
    if any(has_answers(intake, case) for case in cases):
        return None
    rawdata = intake.task.rawdata
    with refused_links(), held_paths(rawdata, [*paths, *images]) as held:
        found = sort_dicom(held, intake.beat, intake.volume_limits)
        objects = [_object(found.labels, [file]) for file in held[: len(paths)]]
        labels_XYZ, case = _read(intake, objects, found.series, cases)
    return case if land_volume(intake, case, labels_XYZ) else None


def _read(
    intake: Intake,
    objects: Sequence[LabelObject],
    series: Sequence[Series],
    cases: Sequence[str],
) -> tuple[LabelArray, str]:
    """All objects on the grid of the first case that they lie on.

    Times of one series share a grid, so the case whose images the objects refer to comes first.
    """
    named = frozenset().union(*(referenced_instances(one.header) for one in objects))
    found: list[tuple[int, str, Series, Grid]] = []
    for case in cases:
        record = load_case(intake.task.case(case))
        grid = record.volume.grid if record.volume else None
        own = [one for one in series if one.stack.grid == grid]
        if len(own) > 1:
            made_from = [one for one in own if _key(one) == record.source.sha256]
            own = made_from or own
        if grid is not None and own:
            images = {text_of(header, "SOPInstanceUID") for header in own[0].headers}
            found.append((len(images & named), case, own[0], grid))
    refusal: VolumeError | None = None
    for _, case, one, grid in sorted(found, key=lambda place: -place[0]):
        try:
            return _combined(intake, objects, one, grid), case
        except VolumeError as error:
            refusal = error
    raise refusal or RefusedError("mask-without-picture", "the series of its case has changed")


def _key(series: Series) -> str:
    """What case.json says that a case of this series was made from."""
    return series_key(sha256_of(file) for file in series.files)


def _combined(
    intake: Intake, objects: Sequence[LabelObject], series: Series, grid: Grid
) -> LabelArray:
    scheme = intake.config.scheme
    combined_XYZ: LabelArray = np.zeros(grid.shape_XYZ, dtype=np.uint8)
    for one in objects:
        labels_XYZ = read_label_object(one, series, grid, scheme, intake.volume_limits)
        np.maximum(combined_XYZ, labels_XYZ, out=combined_XYZ)  # the higher index wins
        intake.beat()
    return combined_XYZ


def _object(labels: Sequence[LabelObject], files: Sequence[object]) -> LabelObject:
    found = [one for one in labels if one.path in files]
    if not found:
        raise VolumeError("a damaged DICOM-SEG or RTSTRUCT object", reason="broken")
    return found[0]
