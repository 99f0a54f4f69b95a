"""What `champion.json` says: the version that serves, how it came to, and the way back."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from imaging.errors import RecordError, RegistryError, UnsafeNameError
from imaging.layout import ModelFolder
from imaging.publish import read_json

Move = Literal["promotion", "roll_back"]


@dataclass(frozen=True, slots=True)
class Change:
    """One entry of a champion's history."""

    version: str
    changed_at: str
    reason: str
    move: Move


@dataclass(frozen=True, slots=True)
class Champion:
    """The version that serves, and how it came to."""

    task: str
    version: str
    previous: str | None  # what a roll-back goes to
    changed_at: str
    reason: str
    history: tuple[Change, ...]  # oldest first; the last entry is the present champion
    folder: Path

    def to_json(self) -> dict[str, Any]:
        return {
            "format": 1,
            "task": self.task,
            "version": self.version,
            "previous": self.previous,
            "changed_at": self.changed_at,
            "reason": self.reason,
            "history": [asdict(change) for change in self.history],
        }


def load_pointer(model: ModelFolder) -> Champion:
    """The champion that a task's `champion.json` names.

    Raises:
        RegistryError: the file cannot be read or lacks a key.
    """
    try:
        record = read_json(model.champion)
        version, previous = str(record["version"]), record["previous"]
        return Champion(
            task=model.task,
            version=version,
            previous=None if previous is None else str(previous),
            changed_at=str(record["changed_at"]),
            reason=str(record["reason"]),
            history=tuple(_change(entry) for entry in record["history"]),
            folder=model.version(version),
        )
    except (RecordError, UnsafeNameError, KeyError, TypeError, AttributeError) as error:
        raise RegistryError(
            f"{model.champion}: {error!r} while reading which version serves",
            hint="`labloop promote` writes the file anew and keeps the broken one beside it.",
        ) from error


def way_back(present: Champion | None) -> list[str]:
    """The champions one can go back through, the present one last.

    A promotion puts a version at the end, a roll-back cuts the list back to where it went: each
    roll-back makes the list shorter, so repeating it never goes round in circles, and what was
    rolled back from is not gone back to.
    """
    way: list[str] = []
    for change in present.history if present else ():
        if change.move == "roll_back" and change.version in way:
            way = up_to(way, change.version)
        else:
            way.append(change.version)
    if present is not None and way[-1:] != [present.version]:
        way.append(present.version)  # a person has edited the pointer; what it says, serves
    return way


def up_to(way: list[str], version: str) -> list[str]:
    """The list up to the last place of a version in it."""
    return way[: len(way) - way[::-1].index(version)]


def moved(model: ModelFolder, present: Champion | None, way: list[str], change: Change) -> Champion:
    """The champion after a change that leaves `way` as the way back."""
    return Champion(
        task=model.task,
        version=change.version,
        previous=way[-2] if len(way) > 1 else None,
        changed_at=change.changed_at,
        reason=change.reason,
        history=(*(present.history if present else ()), change),
        folder=model.version(change.version),
    )


def _change(entry: Mapping[str, Any]) -> Change:
    move: Move = "roll_back" if entry.get("move") == "roll_back" else "promotion"
    return Change(str(entry["version"]), str(entry["changed_at"]), str(entry["reason"]), move)
