"""Label maps that came with volumes: landed as files, shown in Label Studio on the offered slices.

A volume's label map can have a thousand slices and Label Studio is offered a hundred of them, so
the file is what counts. What annotators see of it is made when it is shown, and again the same.
`base` reads them as what lies beneath people's answers.
"""

import hashlib

import numpy as np

from imaging.dataset.annotations import AnnotationRecord, land, parse_annotation
from imaging.dataset.base import read_base
from imaging.dataset.cases import CaseRecord, VolumeFacts
from imaging.errors import CodecError, RecordError
from imaging.ids import utc_now
from imaging.io.nifti import SUFFIX, LabelArray, write_label_volume
from imaging.labels import LabelScheme
from imaging.labelstudio.results import Result
from imaging.labelstudio.stack import results_from_label_volume
from imaging.layout import TaskFolder
from imaging.publish import read_json, sha256_of


def land_label_map(
    task: TaskFolder, case: CaseRecord, labels_XYZ: LabelArray, scheme: LabelScheme
) -> AnnotationRecord:
    """Land the label map that came with a volume; the record that is there then.

    The file is written before the record that names it. Landing the same map twice leaves the
    first record as it is.

    Args:
        task: the task folder.
        case: the volume's case.
        labels_XYZ: on its grid, RAS+; 0 = background.
        scheme: the task's labels.

    Raises:
        CodecError: the array is no uint8 label map, or holds an index beyond the scheme.
        GridMismatchError: it does not lie on the volume's grid.
        RecordError: the case is no volume.
        OSError: it cannot be written.
    """
    volume = _volume_of(case)
    shown = results_from_label_volume(labels_XYZ, scheme, volume.plane, volume.key_slices)
    if labels_XYZ.max() > len(scheme.labels):  # on a slice that is not shown
        raise CodecError(f"label map holds {labels_XYZ.max()}, the task has {len(scheme.labels)}")
    digest = hashlib.sha256(f"{case.case}{labels_XYZ.shape}".encode())
    digest.update(np.ascontiguousarray(labels_XYZ).data)
    key = f"import-{digest.hexdigest()[:12]}"
    folder = task.case_annotations(case.case)
    if (folder / f"{key}.json").exists():
        return parse_annotation(read_json(folder / f"{key}.json"), where=str(folder / key))
    path = folder / f"{key}{SUFFIX}"
    write_label_volume(path, labels_XYZ, volume.grid)
    now = utc_now()
    record = AnnotationRecord(
        case=case.case,
        key=key,
        origin="import",
        annotator="import",
        updated_at=now,
        results=(),
        landed_at=now,
        label_map=path.name,
        label_map_sha256=sha256_of(path),
        label_names=scheme.names,
        shown_digest=AnnotationRecord("", "", "import", "", "", tuple(shown)).digest,
    )
    land(task, record)
    return record


def shown_results(
    task: TaskFolder, record: AnnotationRecord, case: CaseRecord, scheme: LabelScheme
) -> list[Result]:
    """What Label Studio gets for an answer: its results, or a label map's on the key slices.

    Raises:
        ImagingError, OSError: a label map cannot be read, see `read_base`.
    """
    if record.label_map is None:
        return [dict(result) for result in record.results]
    volume = _volume_of(case)
    labels_XYZ = read_base(task, record, case, scheme)
    return results_from_label_volume(labels_XYZ, scheme, volume.plane, volume.key_slices)


def _volume_of(case: CaseRecord) -> VolumeFacts:
    if case.volume is None:
        raise RecordError(f"{case.case} is a picture, expected a volume")
    return case.volume
