"""Proof that a model saw no volume of a test set: from what its bundle says it was trained on.

A volume counts as seen when its case (a digest of voxels and place) trained the version or chose
its weights, when it was taken in from the test set's own folder, or when any of its channels has
the values of a seen case's, whatever type or header a copy was given. What a tool has changed, by
resampling or cropping, is another volume.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from imaging.dataset.cases import CaseRecord, load_case
from imaging.dataset.snapshot import read_snapshot
from imaging.errors import ImagingError, SubmissionError
from imaging.export.challenge import IMAGES
from imaging.io.nifti import read_nifti
from imaging.io.volume_digest import case_id, values_digest
from imaging.layout import TaskFolder
from imaging.model.bundle import Bundle
from imaging.publish import MANIFEST, sha256_of
from imaging.volume import Volume

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """A test volume as it can be found again."""

    name: str
    case: str
    shape_XYZ: tuple[int, int, int]
    values: frozenset[str]  # of each channel

    def to_json(self) -> dict[str, Any]:
        return {"case": self.case, "values_sha256": sorted(self.values)}


def fingerprint(name: str, channels: Sequence[Volume]) -> Fingerprint:
    """What identifies a volume, channel by channel."""
    values = {values_digest(one) for volume in channels for one in volume.voxels_CXYZ}
    return Fingerprint(name, case_id(channels), channels[0].grid.shape_XYZ, frozenset(values))


@dataclass(frozen=True, slots=True)
class Proof:
    """What a version saw, compared with a test set."""

    bundle: Bundle
    leaks: tuple[str, ...]  # sentences; a submission must not be made with any
    notes: tuple[str, ...]
    snapshot_sha256: str | None  # None: the snapshot is gone, the bundle alone says what trained

    def to_json(self) -> dict[str, Any]:
        return {
            "version": self.bundle.version,
            "bundle_sha256": sha256_of(self.bundle.folder / MANIFEST),
            "run": self.bundle.run,
            "snapshot": self.bundle.snapshot,
            "snapshot_sha256": self.snapshot_sha256,
            "trained_on": sorted(self.bundle.cases["train"]),
            "chosen_on": sorted(self.bundle.cases["validation"]),
            "leaks": list(self.leaks),
            "notes": list(self.notes),
        }


def prove(
    task: TaskFolder,
    bundle: Bundle,
    prints: Sequence[Fingerprint],
    progress: Progress = lambda what: None,
) -> Proof:
    """Compare a test set with every case that trained a version or chose its weights.

    Args:
        task: where the cases lie.
        bundle: the version, its files checked against its manifest.
        prints: the test volumes.
        progress: called with each case whose voxels are read.

    Raises:
        SubmissionError: bundle and snapshot disagree on what was trained on.
    """
    leaks: list[str] = []
    notes: list[str] = []
    by_case = {one.case: one.name for one in prints}
    for case in sorted(bundle.known_cases & by_case.keys()):
        leaks.append(f"{by_case[case]} is {case}, which {_side(bundle, case)} {bundle.version}")
    shapes = {one.shape_XYZ for one in prints}
    by_values = {values: one.name for one in prints for values in one.values}
    unread = 0
    for case in sorted(bundle.known_cases - by_case.keys()):
        try:
            record = load_case(task.case(case))
            if PurePosixPath(record.source.path).parts[:1] == (IMAGES,):
                leaks.append(f"{case}, taken in from {IMAGES}/, {_side(bundle, case)} it")
            if record.volume is not None and record.volume.grid.shape_XYZ in shapes:
                progress(case)
                same = sorted(set(_values(task, record)) & by_values.keys())
                leaks += [
                    f"{by_values[one]} has the values of {case}, which {_side(bundle, case)} "
                    f"{bundle.version}"
                    for one in same[:1]
                ]
        except (ImagingError, OSError):
            unread += 1
    if unread:
        notes.append(f"{unread} cases cannot be read any more and were compared by name alone")
    snapshot_sha256 = _snapshot_digest(task, bundle, notes)
    return Proof(bundle, tuple(leaks), tuple(notes), snapshot_sha256)


def _values(task: TaskFolder, record: CaseRecord) -> Iterable[str]:
    volume = record.volume
    for name in volume.images if volume else ():
        yield values_digest(read_nifti(task.case(record.case) / name).voxels_CXYZ[0])


def _snapshot_digest(task: TaskFolder, bundle: Bundle, notes: list[str]) -> str | None:
    """The hash of the snapshot's manifest, once it was seen to say what the bundle says."""
    folder = task.snapshot(bundle.snapshot)
    try:
        snapshot = read_snapshot(folder)
    except ImagingError:
        notes.append(f"{bundle.snapshot} is gone; what was trained on is told by the bundle alone")
        return None
    found: Mapping[str, set[str]] = {
        split: {case.case for case in snapshot.of(split)} for split in ("train", "validation")
    }
    if any(found[split] != set(bundle.cases[split]) for split in found):
        raise SubmissionError(
            bundle.version,
            [f"the bundle and {bundle.snapshot} disagree on the cases that were trained on"],
        )
    return sha256_of(folder / MANIFEST)


def _side(bundle: Bundle, case: str) -> str:
    return "trained" if case in bundle.cases["train"] else "chose the weights of"
