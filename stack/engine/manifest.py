"""What a backup holds, file by file: the record that a restore is checked against. Touches nothing.

The sizes, owners and modes are what restic stored. So are the hashes: a file whose state restic
found unchanged after it was hashed, or one that was hashed out of the repository (hashes.py).
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Self

FORMAT = 1
ROOT = "/saved/"  # where the containers `backup` and `restore` see everything
# Go's file modes, which restic stores, keep these bits elsewhere than Unix does.
GO_BITS = {1 << 23: 0o4000, 1 << 22: 0o2000, 1 << 20: 0o1000}


@dataclass(frozen=True, slots=True)
class Entry:
    """A file, a folder or a link in a snapshot."""

    kind: str  # file, dir, symlink, …
    mode: str  # octal, as `ls` and `chmod` count
    uid: int
    gid: int
    size: int = 0
    stamp: str = ""  # of a file: changes whenever restic would read it again
    sha256: str = ""  # of a file

    @property
    def rights(self) -> tuple[str, int, int]:
        return self.mode, self.uid, self.gid


@dataclass(frozen=True, slots=True)
class Database:
    """A dump and the number of rows in every table, seen in one and the same transaction."""

    server: int  # PostgreSQL's own number, as 170005
    rows: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Manifest:
    """One backup."""

    stack: str
    created: str
    snapshot: str  # restic's, of the files
    image_tag: str
    label_studio: str  # its version
    revision: str
    databases: Mapping[str, Database]
    champions: Mapping[str, str]  # task → version
    entries: Mapping[str, Entry]  # path below ROOT → what is there
    notes: Sequence[str] = field(default=())

    @property
    def files(self) -> dict[str, Entry]:
        return {path: entry for path, entry in self.entries.items() if entry.kind == "file"}

    def areas(self) -> dict[str, tuple[int, int]]:
        """Area → number of files, bytes."""
        sums: dict[str, tuple[int, int]] = {}
        for path, entry in self.files.items():
            count, size = sums.get(area_of(path), (0, 0))
            sums[area_of(path)] = (count + 1, size + entry.size)
        return sums

    def to_json(self) -> str:
        record = asdict(self) | {"format": FORMAT}
        areas: dict[str, dict[str, Any]] = {}
        for path, entry in self.entries.items():
            area, _, name = path.partition("/")
            areas.setdefault(area, {})[name] = asdict(entry)
        record["areas"] = areas
        del record["entries"]
        return json.dumps(record, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read it back.

        Raises:
            ValueError: it is no manifest, or one of a later format.
        """
        try:
            record = json.loads(text)
            if record.pop("format") != FORMAT:
                raise ValueError("it has another format; a newer Labloop reads it")
            entries = {
                f"{area}/{name}".rstrip("/"): Entry(**entry)
                for area, found in record.pop("areas").items()
                for name, entry in found.items()
            }
            record["notes"] = tuple(record["notes"])
            databases = {name: Database(**one) for name, one in record.pop("databases").items()}
            return cls(**record, databases=databases, entries=entries)
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"it is no manifest: {error}") from error


def area_of(path: str) -> str:
    return path.partition("/")[0]


def champion_version(text: str) -> str:
    """Which version a champion pointer points at; what is damaged says so."""
    try:
        return str(json.loads(text)["version"])
    except (ValueError, KeyError, TypeError):
        return "unreadable"


def read_listing(text: str) -> dict[str, Entry]:
    """What `restic ls --json` says is in a snapshot, without hashes."""
    entries: dict[str, Entry] = {}
    for line in text.splitlines():
        node = json.loads(line) if line.startswith("{") else {}
        if node.get("struct_type") == "node" and node["path"].startswith(ROOT):
            entries[node["path"].removeprefix(ROOT)] = _entry(node)
    return entries


def _entry(node: Mapping[str, Any]) -> Entry:
    kind, mode = str(node["type"]), int(node["mode"])
    bits = mode & 0o777 | sum(unix for go, unix in GO_BITS.items() if mode & go)
    stamp = " ".join(str(node.get(key)) for key in ("mtime", "ctime", "inode"))
    return Entry(
        kind=kind,
        mode=f"{bits:04o}",
        uid=int(node["uid"]),
        gid=int(node["gid"]),
        size=int(node.get("size", 0)),
        stamp=stamp if kind == "file" else "",
    )


def known_hashes(entries: Mapping[str, Entry], before: Manifest | None) -> dict[str, str]:
    """Hashes of files that have not changed since the last backup, by the marks restic goes by."""
    old = before.entries if before else {}
    return {
        path: old[path].sha256
        for path, entry in entries.items()
        if entry.kind == "file"
        and path in old
        and old[path].sha256
        and (old[path].stamp, old[path].size) == (entry.stamp, entry.size)
    }


def is_odd(path: str) -> bool:
    """Whether a name cannot be told apart in the lines that `sha256sum` and `stat` write."""
    return any(sign in path for sign in "\n\r\\\ufffd")


@dataclass(frozen=True, slots=True)
class Differences:
    """What is not as a manifest says."""

    missing: Sequence[str]
    changed: Sequence[str]  # other bytes
    rights: Sequence[str]  # other owner, group or mode

    def __bool__(self) -> bool:
        return bool(self.missing or self.changed or self.rights)

    @property
    def words(self) -> str:
        parts = (("missing", self.missing), ("other content", self.changed))
        named = [*parts, ("other owner or mode", self.rights)]
        return "; ".join(f"{what}: {shortened(paths)}" for what, paths in named if paths)


def compare(
    expected: Mapping[str, Entry],
    hashes: Mapping[str, str],
    rights: Mapping[str, tuple[str, int, int]],
) -> Differences:
    """Hold what lies on disk against what should.

    Args:
        expected: path → as the manifest has it.
        hashes: path → SHA-256 of every file found.
        rights: path → mode, owner and group of everything found.
    """
    files = {path: one for path, one in expected.items() if one.kind == "file"}
    return Differences(
        missing=sorted(path for path in expected if path not in rights),
        changed=sorted(
            path for path, one in files.items() if path in hashes and hashes[path] != one.sha256
        ),
        rights=sorted(
            path
            for path, one in expected.items()
            if path in rights and one.kind != "symlink" and rights[path] != one.rights
        ),
    )


def compare_rows(expected: Mapping[str, int], found: Mapping[str, int]) -> list[str]:
    """Tables whose number of rows is not the expected one."""
    names = sorted(expected.keys() | found.keys())
    return [
        f"{name} has {found.get(name, 'no table')}, expected {expected.get(name, 'no table')}"
        for name in names
        if found.get(name) != expected.get(name)
    ]


def shortened(paths: Iterable[str], most: int = 5) -> str:
    """The first few, and how many more."""
    listed = list(paths)
    more = f" and {len(listed) - most} more" if len(listed) > most else ""
    return ", ".join(listed[:most]) + more
