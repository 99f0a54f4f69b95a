"""Snapshots: a frozen, hashed set of cases and their truth; what a run trains on.

Freezing reads the answers that count now, makes one truth per case, assigns new patients to
train, validation and test, and shows the finished folder in one step. A case whose answer cannot
be used is left out, with the reason in the manifest: one broken annotation stops nobody's
training. A snapshot that would equal the newest one is not made again.
"""

import contextlib
import fcntl
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from imaging.dataset.annotations import AnnotationRecord, answers_among, newest_revisions
from imaging.dataset.base import base_among, read_base
from imaging.dataset.cases import CaseRecord, load_case
from imaging.dataset.folds import Split, assign, regrouped
from imaging.dataset.folds_file import (
    FOLDS_FILE,
    RESTORE,
    assigned_cases,
    assigned_patients,
    folds_record,
)
from imaging.dataset.frozen import CaseFiles
from imaging.dataset.manifest import (
    AnswerFile,
    LeftOut,
    Snapshot,
    SnapshotCase,
    manifest_record,
    parse_manifest,
)
from imaging.dataset.truth import Truth, truth_of
from imaging.errors import CorruptFolderError, ImagingError, RecordError, SnapshotError
from imaging.ids import new_id, parse_utc, utc_now
from imaging.layout import TaskFolder
from imaging.publish import (
    MANIFEST,
    STAGING,
    manifest_files,
    publish,
    read_json,
    sha256_of,
    staging_folder,
    verify_folder,
    write_json,
)
from imaging.task import Fill, TaskConfig

__all__ = [
    "LeftOut",
    "Snapshot",
    "SnapshotCase",
    "assigned_patients",
    "freeze_snapshot",
    "load_snapshot",
    "newest_snapshot",
    "newest_snapshot_id",
    "read_snapshot",
]

SNAPSHOT_ID = re.compile(r"snap-\d{8}T\d{6}Z-[0-9a-f]{4}")
Progress = Callable[[], None]


def freeze_snapshot(
    task: TaskFolder, config: TaskConfig, progress: Progress = lambda: None
) -> Snapshot:
    """Freeze what is known now; the newest snapshot itself if that would be the same.

    Args:
        task: the task folder; only one process freezes it at a time, others wait.
        config: its task.yaml.
        progress: called after each case, for instance to show that work goes on.

    Raises:
        SnapshotError: no case can be used, nobody is left to train on, or the newest snapshot
            cannot be read, so that it is not known who is held out.
    """
    with _alone(task.snapshots):
        newest = newest_snapshot(task)
        final = task.snapshot(_next_id(newest))
        with staging_folder(final) as staging:
            freezer = _Freezer(task, config, staging, newest)
            freezer.take_all(progress)
            patients = freezer.split()
            draft = freezer.draft(final.name, patients)
            if newest and _content(draft) == _content(newest) and _is_whole(newest):
                return newest
            sides = freezer.sides | {case.case: case.split for case in draft.cases}
            record = folds_record(draft, patients, sides, config.split.seed)
            write_json(staging / FOLDS_FILE, record)
            files = manifest_files(staging)
            write_json(staging / MANIFEST, manifest_record(draft, task.root, files))
            _protect(staging)
            publish(staging, final)
    return read_snapshot(final)


def newest_snapshot_id(task: TaskFolder) -> str | None:
    """The newest published snapshot of a task."""
    if not task.snapshots.is_dir():
        return None
    names = (path.name for path in task.snapshots.iterdir() if SNAPSHOT_ID.fullmatch(path.name))
    for name in sorted(names, reverse=True):
        if (task.snapshot(name) / MANIFEST).is_file():
            return name
    return None


def newest_snapshot(task: TaskFolder) -> Snapshot | None:
    """The newest published snapshot, as its manifest describes it; its files are not checked."""
    newest = newest_snapshot_id(task)
    return read_snapshot(task.snapshot(newest)) if newest else None


def read_snapshot(folder: Path) -> Snapshot:
    """A published snapshot as its manifest describes it, without checking any hash.

    Raises:
        SnapshotError: the manifest cannot be read.
    """
    try:
        record = read_json(folder / MANIFEST)
    except RecordError as error:
        raise SnapshotError(str(error), hint=RESTORE) from error
    return parse_manifest(record, folder)


def load_snapshot(folder: Path) -> Snapshot:
    """A published snapshot whose label maps and images are what they were when it was frozen.

    Raises:
        CorruptFolderError: a file of the snapshot, or an image it names, is gone or has changed.
        SnapshotError: the manifest cannot be read.
        OSError: the share could not be read; nothing is known about its files then.
    """
    snapshot = parse_manifest(verify_folder(folder), folder)
    changed = [case.case for case in snapshot.cases if not _is_unchanged(case)]
    if changed:
        raise CorruptFolderError(f"{folder.name}: changed or missing images: {', '.join(changed)}")
    return snapshot


@dataclass
class _Freezer:
    """Collects the cases of one snapshot in its staging folder."""

    task: TaskFolder
    config: TaskConfig
    staging: Path
    newest: Snapshot | None

    def __post_init__(self) -> None:
        self.cases: list[SnapshotCase] = []
        self.left_out: list[LeftOut] = []
        # Only volumes have slices to fill; what pictures show does not depend on it.
        self.fill: Fill = self.config.annotation.fill if self.config.is_volume else "unseen"
        same_rules = self.newest is not None and (*_rules(self.newest), self.newest.fill) == (
            self.config.kind,
            self.config.multi_label,
            self.config.scheme.names,
            self.fill,
        )
        known = self.newest.cases if self.newest is not None and same_rules else ()
        self.known = {case.case: case for case in known}
        self.files = CaseFiles(self.task, self.staging, self.newest)
        self.sides = assigned_cases(self.newest) if self.newest else {}

    def take_all(self, progress: Progress) -> None:
        folder = self.task.annotations
        names = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
        for name in names:
            if not name.startswith("."):
                self.take(name)
                progress()
        if not self.cases:
            reasons = "; ".join(f"{one.case}: {one.reason}" for one in self.left_out[:5])
            raise SnapshotError(f"no case of {self.task.name} has a usable label. {reasons}")

    def take(self, case_id: str) -> None:
        """Add a case, or say why not; a case without an answer is neither."""
        files: tuple[AnswerFile, ...] = ()
        try:
            records = newest_revisions(self.task, case_id)
            answers = answers_among(records)
            if not answers:
                return
            files = self.files.answers(case_id, records)
            case = load_case(self.task.case(case_id))
            self._check_kind(case)
            known = self.known.get(case_id)
            entry = known and self.files.unchanged(known, case, files)
            if entry is None:
                truth = self._truth(records, answers, case)
                entry = self.files.made(case, files, truth)
            self.cases.append(entry)
        except ImagingError as error:
            self.left_out.append(LeftOut(case_id, str(error)[:300], files))

    def split(self) -> dict[str, Split]:
        """Everybody's split; cases that were held out and no longer can be are left out."""
        previous = assigned_patients(self.newest) if self.newest else {}
        previous = regrouped(previous, self.sides, self._patient_of_all())
        for case in list(self.cases):
            split = previous.get(case.patient)
            if self.sides.get(case.case) == "test" != split:
                self.cases.remove(case)
                if case.labels is not None:
                    case.labels.unlink()
                reason = (
                    f"it was held out, and is now said to be of {case.patient}, who is in {split}"
                )
                self.left_out.append(LeftOut(case.case, reason, case.answers))
        shown: dict[str, set[str]] = {}
        for case in self.cases:
            # Nothing to see is a kind of its own: healthy cases are held out in proportion too.
            shown.setdefault(case.patient, set()).update(case.present or ("",))
        return assign(shown, previous, self.config.split)

    def draft(self, snapshot_id: str, patients: dict[str, Split]) -> Snapshot:
        """The snapshot to be, still in staging."""
        cases = tuple(replace(case, split=patients[case.patient]) for case in self.cases)
        draft = Snapshot(
            id=snapshot_id,
            task=self.task.name,
            kind=self.config.kind,
            multi_label=self.config.multi_label,
            scheme=self.config.scheme,
            cases=cases,
            folder=self.staging,
            created_at=utc_now(),
            left_out=tuple(self.left_out),
            fill=self.fill,
        )
        if not draft.of("train"):
            raise SnapshotError(
                f"{self.task.name} has labels for {len(cases)} cases, none of a training patient",
                hint="Label cases of further patients; those labelled so far are held out.",
            )
        return draft

    def _patient_of_all(self) -> dict[str, str]:
        """The present patient of every case here or in an earlier snapshot."""
        patients = {case.case: case.patient for case in self.cases}
        for name in self.sides.keys() - patients.keys():
            with contextlib.suppress(ImagingError):  # gone, or unreadable: it stays where it was
                patients[name] = load_case(self.task.case(name)).patient
        return patients

    def _truth(
        self, records: list[AnnotationRecord], answers: list[AnnotationRecord], case: CaseRecord
    ) -> Truth:
        """What the answers say, over the label map that came with the image."""
        if case.volume is None:
            return truth_of(answers, case, self.config)
        found = base_among(records)
        base = read_base(self.task, found, case, self.config.scheme) if found else None
        return truth_of(answers, case, self.config, base=base)

    def _check_kind(self, case: CaseRecord) -> None:
        """Pictures and volumes do not train together: the task says which it is about.

        Raises:
            SnapshotError: the case is of the other kind.
        """
        if (case.volume is not None) != self.config.is_volume:
            found, expected = (
                ("a picture", "volumes") if self.config.is_volume else ("a volume", "pictures")
            )
            raise SnapshotError(
                f"it is {found}, and the task one of {expected}: task.yaml says "
                f"modality: {self.config.modality}"
            )


def _rules(snapshot: Snapshot) -> tuple[object, ...]:
    return snapshot.kind, snapshot.multi_label, snapshot.scheme.names


def _content(snapshot: Snapshot) -> tuple[object, ...]:
    """What a training could tell apart."""
    cases = [
        (one.case, one.patient, one.split, _hashes(one), one.labels_sha256, one.classes)
        for one in snapshot.cases
    ]
    return _rules(snapshot), cases


def _hashes(case: SnapshotCase) -> tuple[str, ...]:
    return tuple(image.sha256 for image in case.images)


def _is_whole(snapshot: Snapshot) -> bool:
    try:
        verify_folder(snapshot.folder)
    except ImagingError:
        return False
    return True


def _is_unchanged(case: SnapshotCase) -> bool:
    try:
        return all(sha256_of(one.path) == one.sha256 for one in case.images)
    except FileNotFoundError:
        return False


def _next_id(newest: Snapshot | None) -> str:
    """An identifier after the newest one, also within one second and after a clock was set back."""
    now = datetime.now(UTC)
    if newest is not None:
        stamp = newest.folder.name.split("-")[1]
        now = max(now, parse_utc(stamp) + timedelta(seconds=1))
    return new_id("snap", now)


def _protect(staging: Path) -> None:
    """Make the files read-only; a share that keeps no permissions is no reason to stop."""
    for path in staging.rglob("*"):
        if path.is_file():
            with contextlib.suppress(PermissionError):
                path.chmod(0o444)


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Wait until no other process freezes here, then clear what a killed one left behind.

    Two at once could put one patient on different sides. The lock ends with its process. A share
    without locks gets none; there the box that writes snapshots must be the only one.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as stream:
        with contextlib.suppress(OSError):
            fcntl.flock(stream, fcntl.LOCK_EX)
        shutil.rmtree(folder / STAGING, ignore_errors=True)
        yield
