"""Proof that a model saw no volume of a test set: from what its bundle says it was trained on.

A volume counts as seen when its case (a digest of voxels and place) trained the version, chose its
weights, or did either for a version that the training began with; when it was taken in from the
test set's own folder; or when any of its channels has the values of a seen case's, whatever type
or header a copy was given. What a tool has changed, by resampling or cropping, is another volume.
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
from imaging.layout import Nas, TaskFolder
from imaging.model.bundle import Bundle, load_bundle
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
class Ancestor:
    """A version, or one that its weights began with, and what that was trained on."""

    bundle: Bundle
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
        }


@dataclass(frozen=True, slots=True)
class Proof:
    """What a version saw, compared with a test set."""

    lineage: tuple[Ancestor, ...]  # the version first, then what its weights began with
    leaks: tuple[str, ...]  # sentences; a submission must not be made with any
    notes: tuple[str, ...]

    @property
    def known_cases(self) -> frozenset[str]:
        return frozenset().union(*(one.bundle.known_cases for one in self.lineage))

    def to_json(self) -> dict[str, Any]:
        return {
            "lineage": [one.to_json() for one in self.lineage],
            "leaks": list(self.leaks),
            "notes": list(self.notes),
        }


def prove(
    nas: Nas,
    bundle: Bundle,
    prints: Sequence[Fingerprint],
    progress: Progress = lambda what: None,
) -> Proof:
    """Compare a test set with every case that trained a version or chose its weights.

    A run may begin with the weights of an earlier champion; what that one saw counts as seen.

    Args:
        nas: where cases, snapshots and versions lie.
        bundle: the version, its files checked against its manifest.
        prints: the test volumes.
        progress: called with each case whose voxels are read.

    Raises:
        SubmissionError: a version that the weights began with cannot be read, or a bundle and its
            snapshot disagree on what was trained on.
    """
    task = nas.task(bundle.task)
    notes: list[str] = []
    family = _family(nas, bundle)
    lineage = tuple(Ancestor(one, _snapshot_digest(task, one, notes)) for one in family)
    known = {case: one for one in reversed(family) for case in one.known_cases}
    by_case = {one.case: one.name for one in prints}
    leaks = [
        f"{by_case[case]} is {case}, which {_side(known[case], case)}"
        for case in sorted(known.keys() & by_case.keys())
    ]
    shapes = {one.shape_XYZ for one in prints}
    by_values = {values: one.name for one in prints for values in one.values}
    unread = 0
    for case in sorted(known.keys() - by_case.keys()):
        side = _side(known[case], case)
        try:
            record = load_case(task.case(case))
            if PurePosixPath(record.source.path).parts[:1] == (IMAGES,):
                leaks.append(f"{case}, taken in from {IMAGES}/, {side}")
            if record.volume is not None and record.volume.grid.shape_XYZ in shapes:
                progress(case)
                same = sorted(set(_values(task, record)) & by_values.keys())
                leaks += [
                    f"{by_values[one]} has the values of {case}, which {side}" for one in same
                ]
        except (ImagingError, OSError):
            unread += 1
    if unread:
        notes.append(f"{unread} cases cannot be read any more and were compared by name alone")
    return Proof(lineage, tuple(leaks), tuple(notes))


def _family(nas: Nas, bundle: Bundle) -> list[Bundle]:
    """The version, then the one that its training began with, and so on."""
    family = [bundle]
    while start := family[-1].training.get("start_from"):
        if start in {one.version for one in family}:
            break
        try:
            family.append(load_bundle(nas.model(bundle.task).version(str(start))))
        except ImagingError as error:
            raise SubmissionError(
                bundle.version,
                [
                    f"its training began with the weights of {start}, which cannot be read: nobody "
                    f"can say what those were trained on ({error})"
                ],
                hint="Restore that version from a backup, or train with `warm_start: false`.",
            ) from error
    return family


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
    is_train = case in bundle.cases["train"]
    return f"{'trained' if is_train else 'chose the weights of'} {bundle.version}"
