"""Series that may show a person's name, each waiting for somebody's decision.

`quarantine/<q-…>/` holds what was seen (`quarantine.json`, `picture.png`) and, once somebody has
looked, `decision.json`. The files themselves stay in rawdata and are never copied. The identifier
follows from the files' content, so the same files are quarantined once, whoever drops them again.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from imaging.deid.reader import Box
from imaging.errors import AlreadyPublishedError, QuarantineError, RecordError
from imaging.ids import checked_name, utc_now
from imaging.layout import TaskFolder
from imaging.publish import (
    MANIFEST,
    manifest_files,
    publish,
    read_json,
    staging_folder,
    write_json,
)

RECORD, PICTURE, DECISION = "quarantine.json", "picture.png", "decision.json"
Decision = Literal["release", "redact", "reject"]
DECISIONS: tuple[Decision, ...] = get_args(Decision)


@dataclass(frozen=True, slots=True)
class QuarantineEntry:
    """What waits: which files, why, and where on which slice."""

    key: str  # `series_key` of the files
    files: tuple[str, ...]  # relative to rawdata, as people named them; never logged
    reason: str  # a sentence for people, without what was read
    boxes: Mapping[int, tuple[Box, ...]] = field(default_factory=dict)  # slice → places of text
    found_at: str = ""  # set by `quarantine` when empty


@dataclass(frozen=True, slots=True)
class Quarantined:
    """An entry as it lies on the share."""

    id: str  # q-<first 16 hex digits of the key>
    folder: Path
    entry: QuarantineEntry
    decision: Decision | None = None
    by: str = ""
    decided_at: str = ""

    @property
    def picture(self) -> Path:
        return self.folder / PICTURE


def series_key(sha256s: Iterable[str]) -> str:
    """One key for a set of files, whatever their names and order: of the hashes of their bytes."""
    return hashlib.sha256("\n".join(sorted(sha256s)).encode()).hexdigest()


def quarantine(task: TaskFolder, entry: QuarantineEntry, picture: NDArray[np.uint8]) -> str:
    """Put a series in quarantine; the identifier of its folder.

    What was seen first stays: nothing changes if the same files are there already, decided or not.

    Args:
        task: the task whose rawdata holds the files.
        entry: what was found.
        picture: uint8 `HW` or `HWC`, what a person needs to see to decide.

    Raises:
        OSError: the share cannot be written; nothing is left behind.
    """
    name = _id(entry.key)
    final = task.quarantine / name
    if (final / MANIFEST).is_file():
        return name
    with staging_folder(final) as staging:
        Image.fromarray(picture).save(staging / PICTURE)
        record = {
            "format": 1,
            "quarantine": name,
            "key": entry.key,
            "files": list(entry.files),
            "reason": entry.reason,
            "boxes": {str(number): list(map(list, at)) for number, at in entry.boxes.items()},
            "found_at": entry.found_at or utc_now(),
        }
        write_json(staging / RECORD, record)
        write_json(staging / MANIFEST, {"format": 1, "files": manifest_files(staging)})
        try:
            publish(staging, final)
        except AlreadyPublishedError:
            return name
    return name


def quarantined(task: TaskFolder) -> list[Quarantined]:
    """All that lies in quarantine, oldest first; half-made folders are passed over."""
    if not task.quarantine.is_dir():
        return []
    folders = sorted(task.quarantine.glob("q-*"))
    found = [_read(folder) for folder in folders if (folder / MANIFEST).is_file()]
    return sorted(found, key=lambda one: (one.entry.found_at, one.id))


def find(task: TaskFolder, key: str) -> Quarantined | None:
    """What lies in quarantine of the files with this key, if anything does."""
    folder = task.quarantine / _id(key)
    return _read(folder) if (folder / MANIFEST).is_file() else None


def decision_for(task: TaskFolder, key: str) -> Decision | None:
    """What somebody decided about the files with this key, or None."""
    found = find(task, key)
    return found.decision if found else None


def is_gone(task: TaskFolder, key: str) -> bool:
    """Whether nothing at all is there under a key: somebody has deleted what was."""
    return not (task.quarantine / _id(key)).exists()


def decide(task: TaskFolder, quarantine_id: str, decision: Decision, by: str) -> Quarantined:
    """Write down a person's decision; ingest acts on it.

    Raises:
        QuarantineError: there is no such folder, it is decided already, or there is nothing to
            redact because nobody knows where the text is.
    """
    folder = task.quarantine / checked_name(quarantine_id)
    if decision not in DECISIONS:
        raise QuarantineError(f"decision is {decision!r}, expected one of {', '.join(DECISIONS)}")
    if not (folder / MANIFEST).is_file():
        raise QuarantineError(f"{task.name} has no {quarantine_id} in quarantine")
    found = _read(folder)
    if found.decision is not None:
        raise QuarantineError(
            f"{found.id} is decided already: {found.decision} by {found.by}, {found.decided_at}",
            hint=f"Whoever is sure deletes {folder / DECISION} and decides again.",
        )
    if decision == "redact" and not any(found.entry.boxes.values()):
        raise QuarantineError(
            f"{found.id} has no places to blank: {found.entry.reason}",
            hint="Look at its picture, then release it as it is or reject it.",
        )
    write_json(folder / DECISION, {"format": 1, "decision": decision, "by": by, "at": utc_now()})
    return _read(folder)


def _id(key: str) -> str:
    return f"q-{checked_name(key)[:16]}"


def _read(folder: Path) -> Quarantined:
    where = folder / RECORD
    record = read_json(where)
    try:
        entry = QuarantineEntry(
            key=str(record["key"]),
            files=tuple(map(str, record["files"])),
            reason=str(record["reason"]),
            boxes={int(number): _boxes(places) for number, places in record["boxes"].items()},
            found_at=str(record["found_at"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise RecordError(f"{where}: {error!r} while reading a quarantine record") from error
    if not (folder / DECISION).is_file():
        return Quarantined(folder.name, folder, entry)
    said = read_json(folder / DECISION)
    decision = said.get("decision")
    if decision not in DECISIONS:
        raise RecordError(
            f"{folder / DECISION}: decision is {decision!r}, expected one of {', '.join(DECISIONS)}"
        )
    made = cast(Decision, decision)
    return Quarantined(
        folder.name, folder, entry, made, str(said.get("by", "")), str(said.get("at", ""))
    )


def _boxes(places: Sequence[Sequence[Any]]) -> tuple[Box, ...]:
    return tuple(Box(*map(int, place)) for place in places)
