"""All versions of a task's model, and which one serves: list, check, promote, roll back.

Promoting and rolling back replace `champion.json` in one rename: readers see the old champion or
the new one, and a crash leaves the old one. A version is checked against its manifest before it
is pointed at. `docs/decisions/0006-champion-pointer.md` gives the reasons.
"""

import errno
import fcntl
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from imaging.errors import ImagingError, RecordError, RegistryError
from imaging.ids import utc_now
from imaging.layout import Nas
from imaging.pointer import Champion, Change, load_pointer, moved, up_to, way_back
from imaging.publish import MANIFEST, read_json, verify_folder, write_bytes, write_json

BUNDLE_RECORD: Final = "labloop.json"
LOCK: Final = ".champion.lock"
LOCK_WAIT_S: Final = 10.0  # a change takes as long as hashing one bundle, well under a second
LOCK_POLL_S: Final = 0.02

# A share without a lock service: changes go ahead unlocked, see the decision.
NO_LOCKS: Final = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS)

ANY: Final = "*"  # never a version: it is no safe name


@dataclass(frozen=True, slots=True)
class Version:
    """One bundle, as its labloop.json describes it; its files are not checked."""

    version: str
    folder: Path
    made_at: str
    run: str
    metrics: Mapping[str, float | None]
    trouble: str = ""  # why labloop.json cannot be read


def versions(nas: Nas, task: str) -> list[Version]:
    """Every published version of a task's model, oldest first; a cheap listing.

    `verify_version` checks one; `promote` and `roll_back` do so by themselves.
    """
    root = nas.model(task).root
    if not root.is_dir():
        return []
    names = sorted(path.parent.name for path in root.glob(f"[!.]*/{MANIFEST}"))
    return [_listed(root / name) for name in names]


def champion(nas: Nas, task: str) -> Champion | None:
    """The version that serves; None when the task has none yet.

    Raises:
        NasGoneError: there is no pointer because there is no share.
        RegistryError: the pointer cannot be read.
    """
    model = nas.model(task)
    if not model.champion.exists():
        nas.require_marker()
        return None
    return load_pointer(model)


def verify_version(nas: Nas, task: str, version: str) -> Path:
    """The folder of a version, after all its files were checked against its manifest.

    Raises:
        RegistryError: there is no such version, or its files are not what they were.
        NasGoneError: the share is not mounted.
    """
    nas.require_marker()
    folder = nas.model(task).root / version
    try:
        if not nas.model(task).version(version).is_dir():
            raise RegistryError(f"found no version {version!r} of {task}")
        verify_folder(folder)
    except RegistryError:
        raise
    except (ImagingError, OSError) as error:
        raise RegistryError(f"version {version!r} of {task} cannot serve: {error}") from error
    return folder


def promote(nas: Nas, task: str, version: str, reason: str, *, over: str | None = ANY) -> Champion:
    """Point at a version. Promoting the champion again changes nothing.

    Args:
        nas: the share.
        task: the task's name.
        version: the bundle's folder name.
        reason: a sentence for people, e.g. "promoted by run run-…".
        over: for a verdict's promotion: the champion it compared the version with, None for
            none. When another one serves by now, or this one did before, the verdict is void.
            People leave it out: they may promote anything that is intact.

    Returns:
        The champion as it is now.

    Raises:
        RegistryError: the version is missing or corrupt, or its verdict is void.
        NasGoneError: the share is not mounted.
    """
    verify_version(nas, task, version)
    with _changing(nas, task):
        present = champion(nas, task) if over != ANY else _champion_or_set_aside(nas, task)
        if present is not None and present.version == version:
            return present
        if over != ANY:
            _check_still_valid(present, version, over)
        change = Change(version, utc_now(), reason, "promotion")
        return _write(nas, task, present, [*way_back(present), version], change)


def roll_back(nas: Nas, task: str, to: str | None = None) -> Champion:
    """Go back to the champion before this one; called again, to the one before that.

    What a roll-back left is not gone back to. Versions that are missing or corrupt are skipped,
    and the reason names them.

    Args:
        nas: the share.
        task: the task's name.
        to: an earlier champion; None takes the latest one that is intact.

    Raises:
        RegistryError: nothing serves, there is no such earlier champion, or it is not intact.
        NasGoneError: the share is not mounted.
    """
    with _changing(nas, task):
        present = champion(nas, task)
        if present is None:
            raise RegistryError(f"{task} has no champion, so nothing can be rolled back")
        if to == present.version:
            return present
        earlier = way_back(present)[:-1]
        if to is not None and to not in earlier:
            raise RegistryError(
                f"{to!r} was not champion of {task} before {present.version}",
                hint="`labloop promote` puts any version in service.",
            )
        if to is not None:
            verify_version(nas, task, to)
            earlier = up_to(earlier, to)
        way, skipped = _intact(nas, task, earlier)
        reason = f"rolled back from {present.version}"
        if skipped:
            reason += f"; not intact: {', '.join(skipped)}"
        change = Change(way[-1], utc_now(), reason, "roll_back")
        return _write(nas, task, present, way, change)


def _listed(folder: Path) -> Version:
    try:
        record = read_json(folder / BUNDLE_RECORD)
        metrics = dict(record.get("metrics") or {})
        made_at, run = str(record.get("created_at", "")), str(record.get("run", ""))
        return Version(folder.name, folder, made_at, run, metrics)
    except (RecordError, TypeError, ValueError) as error:
        return Version(folder.name, folder, "", "", {}, trouble=str(error))


def _intact(nas: Nas, task: str, earlier: Sequence[str]) -> tuple[list[str], list[str]]:
    """The way back down to its last intact version, and the versions skipped to get there."""
    skipped: list[str] = []
    for depth in range(len(earlier), 0, -1):
        try:
            verify_version(nas, task, earlier[depth - 1])
            return list(earlier[:depth]), skipped
        except RegistryError:
            skipped.append(earlier[depth - 1])
    tried = f"; not intact: {', '.join(skipped)}" if skipped else ""
    raise RegistryError(f"{task} has no earlier champion to go back to{tried}")


def _check_still_valid(present: Champion | None, version: str, over: str | None) -> None:
    serving = present.version if present else None
    if serving != over:
        raise RegistryError(
            f"{version} was judged against {over or 'no champion'}, but {serving} serves by now",
            hint="Train again, or put it in service by hand with `labloop promote`.",
        )
    if present and version in {change.version for change in present.history}:
        raise RegistryError(
            f"{version} has been champion before, and {serving} serves by now",
            hint="If it shall serve again, put it in service by hand with `labloop promote`.",
        )


def _champion_or_set_aside(nas: Nas, task: str) -> Champion | None:
    """The champion; a pointer that holds nonsense is copied aside, so that it can be replaced."""
    try:
        return champion(nas, task)
    except RegistryError:
        pointer = nas.model(task).champion
        aside = pointer.with_name(f"champion.broken-{utc_now().replace(':', '')}.json")
        write_bytes(aside, pointer.read_bytes())
        return None


def _write(
    nas: Nas, task: str, present: Champion | None, way: list[str], change: Change
) -> Champion:
    model = nas.model(task)
    made = moved(model, present, way, change)
    write_json(model.champion, made.to_json())
    return made


@contextmanager
def _changing(nas: Nas, task: str) -> Iterator[None]:
    """One change of a task's pointer at a time, across processes and machines.

    `flock`, because the kernel lets go of it when its holder dies; a lock file would have to be
    called stale by a clock, and the clocks of NAS and box differ. Linux carries it over NFS.

    Raises:
        RegistryError: somebody else has been changing the pointer for ten seconds.
    """
    nas.require_marker()
    path = nas.model(task).root / LOCK
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o664)
    try:
        deadline = time.monotonic() + LOCK_WAIT_S
        while not _locked(handle):
            if time.monotonic() > deadline:
                raise RegistryError(
                    f"the champion of {task} has been locked for {LOCK_WAIT_S:.0f} s",
                    hint="Another promotion or roll-back is under way; try again.",
                )
            time.sleep(LOCK_POLL_S)
        yield
    finally:
        os.close(handle)


def _locked(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
    return True
