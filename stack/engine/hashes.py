"""The SHA-256 of every file in a snapshot, without reading the whole repository each time.

Three ways, each of them honest: a file that restic itself took for unchanged keeps the hash of the
last backup; a new one is hashed where it lies, and restic is asked whether it has changed since;
what has changed meanwhile, or has a name that no line can hold, is hashed out of the repository.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from stack.engine.manifest import ROOT, Entry, Manifest, is_odd, known_hashes
from stack.engine.restic import Restic


def with_hashes(
    restic: Restic,
    snapshot: str,
    before: Manifest | None,
    words: Sequence[str],
) -> dict[str, Entry]:
    """What is in a snapshot, with the hash of every file.

    Args:
        restic: the repository.
        snapshot: a snapshot of files, the newest.
        before: the last backup's manifest.
        words: those that made the snapshot.
    """
    entries = restic.listing(snapshot)
    found = known_hashes(entries, before)
    files = [path for path, entry in entries.items() if entry.kind == "file"]
    fresh = [path for path in files if path not in found]
    if fresh:
        here = restic.hashes(fresh, "backup")
        moved = _changed_since(restic, snapshot, words)
        found |= {path: digest for path, digest in here.items() if path not in moved}
        found |= restic.stored_hashes(snapshot, [path for path in fresh if path not in found])
    return {path: _hashed(entry, found.get(path, "")) for path, entry in entries.items()}


def _hashed(entry: Entry, digest: str) -> Entry:
    return replace(entry, sha256=digest) if entry.kind == "file" else entry


def _changed_since(restic: Restic, snapshot: str, words: Sequence[str]) -> set[str]:
    """What another backup would read again, because it is not as the snapshot has it."""
    changed: set[str] = set()

    def note(record: Mapping[str, Any]) -> None:
        if record.get("action") in ("new", "modified"):
            changed.add(str(record["item"]).removeprefix(ROOT).rstrip("/"))

    restic.stream(*words, "--dry-run", "-vv", "--parent", snapshot, on_record=note)
    return changed


def odd_names(entries: Mapping[str, Entry]) -> list[str]:
    """Files that only restic can verify after a restore."""
    return [path for path, entry in entries.items() if entry.kind == "file" and is_odd(path)]
