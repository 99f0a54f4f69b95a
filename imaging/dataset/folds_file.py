"""folds.json: which split every patient and case was ever given, and the cases of each fold.

It lies in every snapshot and is carried on from one to the next, so that whoever is held out stays
held out: also without labels for a while, and under another pseudonym.
"""

from dataclasses import dataclass
from typing import Any, cast

from imaging.dataset.folds import SPLITS, Split, folds
from imaging.dataset.manifest import Snapshot
from imaging.errors import RecordError, SnapshotError
from imaging.publish import read_json

FOLDS_FILE = "folds.json"
RESTORE = "Restore the snapshot from a backup: it says which patients are held out."


@dataclass(frozen=True, slots=True)
class FoldCases:
    """One split of a snapshot's cases that are not held out."""

    train: tuple[str, ...]
    validation: tuple[str, ...]


def folds_record(
    snapshot: Snapshot, patients: dict[str, Split], cases: dict[str, Split], seed: int
) -> dict[str, object]:
    """folds.json: all patients and cases ever assigned, and the cases of each fold."""
    own = {case.patient: case.split for case in snapshot.cases}
    made = [
        {
            "train": [case.case for case in snapshot.cases if case.patient in fold.train],
            "validation": [case.case for case in snapshot.cases if case.patient in fold.validation],
        }
        for fold in folds(own, seed)
    ]
    return {
        "format": 1,
        "patients": dict(sorted(patients.items())),
        "cases": dict(sorted(cases.items())),
        "folds": made,
    }


def assigned_patients(snapshot: Snapshot) -> dict[str, Split]:
    """Everybody who was ever assigned, up to this snapshot.

    Raises:
        SnapshotError: folds.json cannot be read; nobody may guess then who is held out.
    """
    return _splits(snapshot, _read(snapshot), "patient")


def assigned_cases(snapshot: Snapshot) -> dict[str, Split]:
    """Every case that was ever assigned, up to this snapshot.

    Raises:
        SnapshotError: folds.json cannot be read.
    """
    record = _read(snapshot)
    if "cases" not in record:  # the first snapshots named none but their own
        return {case.case: case.split for case in snapshot.cases}
    return _splits(snapshot, record, "case")


def fold_cases(snapshot: Snapshot) -> tuple[FoldCases, ...]:
    """The folds of a snapshot; fold 0 is the split of its manifest.

    Raises:
        SnapshotError: folds.json cannot be read.
    """
    try:
        return tuple(
            FoldCases(tuple(map(str, one["train"])), tuple(map(str, one["validation"])))
            for one in _read(snapshot)["folds"]
        )
    except (KeyError, TypeError) as error:
        where = snapshot.folder / FOLDS_FILE
        raise SnapshotError(f"{where}: {error!r} while reading folds", hint=RESTORE) from error


def _splits(snapshot: Snapshot, record: dict[str, Any], what: str) -> dict[str, Split]:
    found = record.get(f"{what}s")
    if not isinstance(found, dict) or not set(found.values()) <= set(SPLITS):
        where = snapshot.folder / FOLDS_FILE
        raise SnapshotError(f"{where}: expected the split of each {what}", hint=RESTORE)
    return cast(dict[str, Split], found)


def _read(snapshot: Snapshot) -> dict[str, Any]:
    try:
        return read_json(snapshot.folder / FOLDS_FILE)
    except RecordError as error:
        raise SnapshotError(str(error), hint=RESTORE) from error
