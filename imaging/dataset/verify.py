"""Every check a snapshot must pass, all problems at once.

Freezing makes sure of most of this by construction; here it is looked up in the files, for tests,
for `labloop task check` and for whoever was handed a snapshot on a disk.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from imaging.dataset.cases import CaseRecord, load_case
from imaging.dataset.folds_file import FOLDS_FILE, assigned_patients
from imaging.dataset.manifest import Snapshot, SnapshotCase
from imaging.errors import ImagingError, SnapshotError
from imaging.io.nifti import read_label_volume
from imaging.io.picture import read_label_map
from imaging.publish import read_json, sha256_of, verify_folder


def problems_of(snapshot: Snapshot) -> list[str]:
    """What is wrong with a published snapshot, a sentence each; nothing when it is sound."""
    found = [*_file_problems(snapshot), *_split_problems(snapshot), *_fold_problems(snapshot)]
    for case in snapshot.cases:
        try:
            found += _case_problems(snapshot, case)
        except (ImagingError, OSError) as error:
            found.append(f"{case.case}: {error}")
    return found


def require_sound(snapshot: Snapshot) -> None:
    """Refuse a snapshot with any problem.

    Raises:
        SnapshotError: the message lists every problem.
    """
    problems = problems_of(snapshot)
    if problems:
        raise SnapshotError(f"{snapshot.id}: " + "; ".join(problems))


def _file_problems(snapshot: Snapshot) -> Iterator[str]:
    try:
        verify_folder(snapshot.folder)
    except ImagingError as error:
        yield str(error)


def _split_problems(snapshot: Snapshot) -> Iterator[str]:
    sides: dict[str, set[str]] = {}
    seen: set[str] = set()
    for case in snapshot.cases:
        sides.setdefault(case.patient, set()).add(case.split)
        if case.case in seen:
            yield f"{case.case} is listed twice"
        seen.add(case.case)
    for patient, splits in sides.items():
        if len(splits) > 1:
            yield f"{patient} is in {' and '.join(sorted(splits))}"
    if not snapshot.of("train"):
        yield "nobody trains"
    try:
        decided = assigned_patients(snapshot)
    except ImagingError as error:
        yield str(error)
        return
    for patient, splits in sides.items():
        if {decided.get(patient)} != splits:
            yield f"{patient} is {decided.get(patient)} in {FOLDS_FILE}, {splits} in the manifest"


def _fold_problems(snapshot: Snapshot) -> Iterator[str]:
    try:
        folds: list[dict[str, list[str]]] = read_json(snapshot.folder / FOLDS_FILE)["folds"]
        sides = [(set(fold["train"]), set(fold["validation"])) for fold in folds]
    except (ImagingError, KeyError, TypeError) as error:
        yield f"{FOLDS_FILE}: {error!r}"
        return
    patient_of = {case.case: case.patient for case in snapshot.cases}
    held_out = {case.case for case in snapshot.of("test")}
    expected = tuple({case.case for case in snapshot.of(side)} for side in ("train", "validation"))
    if not sides or sides[0] != expected:
        yield "fold 0 is not the split of the manifest"
    for number, (train, validation) in enumerate(sides):
        if (train | validation) & held_out:
            yield f"fold {number} holds cases that are held out"
        if (train | validation) - patient_of.keys():
            yield f"fold {number} holds cases that are not in the manifest"
        both = {patient_of.get(case, "") for case in train}
        both &= {patient_of.get(case, "") for case in validation}
        if both:
            yield f"fold {number} has patients on both sides: {', '.join(sorted(both))}"


def _case_problems(snapshot: Snapshot, case: SnapshotCase) -> Iterator[str]:
    if any(sha256_of(image.path) != image.sha256 for image in case.images):
        yield f"{case.case}: the image has changed since the snapshot"
    record = load_case(case.image.parent)
    if record.patient != case.patient:
        yield f"{case.case}: belongs to {record.patient}, in the manifest to {case.patient}"
    if snapshot.kind == "classification":
        yield from _class_problems(snapshot, case)
    elif case.labels is None:
        yield f"{case.case}: has no label map"
    else:
        labels = _label_map(case.labels, record)
        if int(labels.max(initial=0)) > len(snapshot.scheme.labels):
            yield f"{case.case}: label map holds {labels.max()}, beyond the label scheme"
    yield from _volume_problems(case, record)


def _label_map(path: Path, record: CaseRecord) -> NDArray[np.uint8]:
    """A label map on its image's own grid.

    Raises:
        ImagingError: it cannot be read, or lies on another grid.
    """
    if record.volume is not None:
        return read_label_volume(path, record.volume.grid)
    return read_label_map(path, record.shape_HW)


def _volume_problems(case: SnapshotCase, record: CaseRecord) -> Iterator[str]:
    facts = record.volume
    if case.is_volume != (facts is not None):
        yield f"{case.case}: is {'a' if facts else 'no'} volume, and the manifest says otherwise"
    if facts is None:
        return
    named = tuple(image.path.name for image in case.images)
    if named != facts.images:
        yield f"{case.case}: has channels {', '.join(facts.images)}, in the manifest {named}"
    beyond = [index for index in case.interpolated if not 0 <= index < facts.plane.count]
    if beyond:
        yield f"{case.case}: interpolates slice {beyond[0]} of {facts.plane.count}"


def _class_problems(snapshot: Snapshot, case: SnapshotCase) -> Iterator[str]:
    classes: tuple[str, ...] = case.classes if case.classes is not None else ()
    unknown = [name for name in classes if snapshot.scheme.find(name) is None]
    if unknown:
        yield f"{case.case}: classes {unknown} are not in the label scheme"
    if case.classes is None or (not snapshot.multi_label and len(classes) != 1):
        yield f"{case.case}: has {len(classes)} classes, expected one"
