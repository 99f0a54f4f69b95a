"""Where the hashes of a manifest come from; restic and Compose are played."""

import hashlib
import json
from collections.abc import Callable

from stack.engine.hashes import with_hashes
from stack.engine.manifest import Database, Entry, Manifest
from stack.engine.restic import Restic, read_hashes, read_rights


def sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


class Repository:
    """Files as they were saved, and as they lie there by now."""

    def __init__(self, stored: dict[str, str], here: dict[str, str]) -> None:
        self.stored, self.here = stored, here
        self.read_here: list[str] = []
        self.read_stored: list[str] = []

    def run(self, *words: str, input_text: str | None = None, timeout_s: float = 0) -> str:
        paths = [path.removeprefix("/saved/") for path in (input_text or "").split("\0") if path]
        if "ls" in words:
            nodes = [
                {
                    **{"struct_type": "node", "path": f"/saved/{path}", "type": "file"},
                    **{"mode": 0o644, "uid": 1, "gid": 1, "size": len(text), "mtime": text},
                }
                for path, text in self.stored.items()
            ]
            return "\n".join(json.dumps(node) for node in nodes)
        if any("restic dump" in word for word in words):
            self.read_stored += paths
            return "".join(f"{sha(self.stored[path])}  -\n" for path in paths)
        self.read_here += paths
        there = [path for path in paths if path in self.here]
        return "".join(f"{sha(self.here[path])}  /saved/{path}\n" for path in there)

    def stream(self, *words: str, on_line: Callable[[str], None]) -> None:
        assert "--dry-run" in words and "snap" in words
        for path, text in self.here.items():
            if self.stored.get(path) != text:
                action = "modified" if path in self.stored else "new"
                record = {"message_type": "verbose_status", "action": action}
                on_line(json.dumps(record | {"item": f"/saved/{path}"}))


def hashes(repository: Repository, before: Manifest | None = None) -> dict[str, str]:
    restic = Restic(repository, "there", "lab")
    entries = with_hashes(restic, "snap", before, ["backup"])
    return {path: entry.sha256 for path, entry in entries.items()}


def test_the_hash_is_of_what_was_saved_whatever_happened_since() -> None:
    stored = {"nas/same": "1", "nas/changed": "2", "nas/gone": "3", "nas/odd\nname": "4"}
    repository = Repository(stored, {"nas/same": "1", "nas/changed": "later", "nas/new": "5"})
    assert hashes(repository) == {path: sha(text) for path, text in stored.items()}
    assert sorted(repository.read_stored) == ["nas/changed", "nas/gone", "nas/odd\nname"]


def test_unchanged_files_are_not_read_again() -> None:
    stamp = "1 None None"
    entry = Entry("file", "0644", 1, 1, 1, stamp, "the hash of last time")
    before = Manifest(
        "s", "c", "snap0", "t", "1", "r", {"d": Database(1, {})}, {}, {"nas/a": entry}
    )
    repository = Repository({"nas/a": "1"}, {"nas/a": "1"})
    assert hashes(repository, before) == {"nas/a": "the hash of last time"}
    assert not repository.read_here and not repository.read_stored


def test_what_programs_write_is_read() -> None:
    assert read_hashes(f"{'a' * 64}  /saved/nas/a  b\nsha256sum: no such file\n") == {
        "nas/a  b": "a" * 64
    }
    assert read_rights("41fd 0 2000 /saved/nas/a b\n85b0 5 6 /saved/x\n") == {
        "nas/a b": ("0775", 0, 2000),
        "x": ("2660", 5, 6),
    }
