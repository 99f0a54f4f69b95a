"""What a case's truth is made from: the answers that count, and an imported label map beneath them.

People answer about the slices of a volume that they are shown. What is on the others is said by a
label map that came with the image, where there is one: it stays the base of later answers.
"""

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from imaging.dataset.annotations import AnnotationRecord, answers_among
from imaging.dataset.cases import CaseRecord
from imaging.errors import CodecError, SnapshotError
from imaging.io.nifti import read_label_volume
from imaging.labels import LabelScheme
from imaging.layout import TaskFolder
from imaging.publish import sha256_of


def base_among(newest: Sequence[AnnotationRecord]) -> AnnotationRecord | None:
    """The imported label map that says what is on slices which nobody was shown; None without one.

    Args:
        newest: the newest revision of every annotation of one case.
    """
    # A deletion that is the first thing to land was of the import's own copy in Label Studio.
    if any(one.deleted and one.revision == 1 for one in newest):
        return None
    maps = [one for one in newest if one.label_map is not None and one.counts]
    return max(maps, key=lambda one: (one.updated_at, one.key), default=None)


def files_behind(newest: Iterable[AnnotationRecord]) -> tuple[str, ...]:
    """The landed files of one case that its truth is made from; none when nobody has answered."""
    known = list(newest)
    records = answers_among(known)
    names = [record.file_name for record in records]
    base = base_among(known) if records else None
    for record in [*records, *([base] if base else [])]:
        names += [record.file_name, *([record.label_map] if record.label_map else [])]
    return tuple(dict.fromkeys(names))


def read_base(
    task: TaskFolder, record: AnnotationRecord, case: CaseRecord, scheme: LabelScheme
) -> NDArray[np.uint8]:
    """An imported label map on its image's grid, `labels_XYZ`.

    Raises:
        SnapshotError: it has changed since it landed, or its case is no volume.
        CodecError: it holds a label that the task does not have.
        ImagingError: it cannot be read.
        OSError: it is not there.
    """
    if case.volume is None or record.label_map is None:
        raise SnapshotError(f"{case.case}: a label map of a volume, but the case is a picture")
    path = task.case_annotations(case.case) / record.label_map
    if sha256_of(path) != record.label_map_sha256:
        raise SnapshotError(f"the label map {record.label_map} has changed since it landed")
    labels_XYZ = read_label_volume(path, case.volume.grid)
    return _by_name(labels_XYZ, record.label_names or scheme.names, scheme)


def _by_name(
    labels_XYZ: NDArray[np.uint8], names: Sequence[str], scheme: LabelScheme
) -> NDArray[np.uint8]:
    """The label map by the task's indices of today: somebody may have put the labels in order."""
    if tuple(names) == scheme.names[: len(names)] and labels_XYZ.max(initial=0) <= len(names):
        return labels_XYZ
    table = np.zeros(256, dtype=np.uint8)
    for index in np.unique(labels_XYZ[labels_XYZ > 0]).tolist():
        name = names[index - 1] if index <= len(names) else f"number {index}"
        label = scheme.find(name)
        if label is None:
            known = ", ".join(scheme.names)
            raise CodecError(f"the label map holds {name!r:.60}, expected one of {known}")
        table[index] = label.index
    return table[labels_XYZ]
