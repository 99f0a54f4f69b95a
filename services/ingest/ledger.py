"""The small table of what ingest has dealt with: one row for each file in rawdata.

It only saves work. Lost or broken, it is filled again from `cases/*/case.json`, and whatever is
missing then is looked at again without harm. SQLite breaks on NFS and CIFS, so the table lies in
the service's own state folder.
"""

import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

# `picture` is any image, also a volume of one file; `series` a file of a DICOM series, whose pair
# is the series; `held` one of a series in quarantine, whose case is its key there; `passed` what
# is left where it lies.
State = Literal["picture", "mask", "sheet", "stuck", "series", "held", "passed"]
LEDGER_NAME = "ingest.db"
UNKNOWN_NS = -1  # modification time of a row that was filled again from case.json
SCHEMA = """
CREATE TABLE IF NOT EXISTS files (
    task TEXT NOT NULL, folder TEXT NOT NULL, name TEXT NOT NULL,
    size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL,
    state TEXT NOT NULL, case_id TEXT, pair TEXT,
    PRIMARY KEY (task, folder, name)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS files_by_pair ON files (task, pair) WHERE pair IS NOT NULL;
CREATE INDEX IF NOT EXISTS files_held ON files (task) WHERE state = 'held';
CREATE INDEX IF NOT EXISTS files_by_name ON files (task, name);
"""


@dataclass(frozen=True, slots=True)
class Stamp:
    """How a file looks from outside; a new look means new content."""

    size: int
    mtime_ns: int

    def matches(self, other: "Stamp") -> bool:
        """Whether two looks are the same file, as far as the ledger remembers."""
        return self.size == other.size and (
            self.mtime_ns == other.mtime_ns or UNKNOWN_NS in (self.mtime_ns, other.mtime_ns)
        )


@dataclass(frozen=True, slots=True)
class Row:
    """A file that was dealt with."""

    path: str  # below rawdata
    stamp: Stamp
    state: State
    case: str | None = None
    pair: str | None = None  # key that a picture and its mask share


class Ledger:
    """The table, open. Every change is written at once."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / LEDGER_NAME
        try:
            self.db = self._open()
        except sqlite3.DatabaseError:
            for suffix in ("", "-wal", "-shm"):
                self.path.with_name(LEDGER_NAME + suffix).unlink(missing_ok=True)
            self.db = self._open()

    def _open(self) -> sqlite3.Connection:
        db = sqlite3.connect(self.path, isolation_level=None)
        try:
            # A kill loses nothing. A power cut may break the table, which is then filled again:
            # no reason to wait for the disk at every file.
            db.execute("PRAGMA synchronous=OFF")
            db.execute("PRAGMA journal_mode=WAL")
            db.executescript(SCHEMA)
            if db.execute("PRAGMA quick_check(1)").fetchone() != ("ok",):
                raise sqlite3.DatabaseError("quick_check failed")
        except sqlite3.DatabaseError:
            db.close()
            raise
        return db

    def close(self) -> None:
        self.db.close()

    def record(self, task: str, rows: Iterable[Row]) -> None:
        """Remember what became of files; a row for the same path is replaced."""
        values = [
            (task, *_split(row.path), row.stamp.size, row.stamp.mtime_ns, row.state, row.case,
             row.pair)
            for row in rows
        ]  # fmt: skip
        with self.db:  # one transaction, so that a hundred thousand rows take a second
            self.db.execute("BEGIN")
            self.db.executemany("INSERT OR REPLACE INTO files VALUES (?,?,?,?,?,?,?,?)", values)

    def folder(self, task: str, folder: str) -> dict[str, Stamp]:
        """Name → stamp of every file dealt with in one folder."""
        query = "SELECT name, size, mtime_ns FROM files WHERE task=? AND folder=?"
        return {name: Stamp(size, ns) for name, size, ns in self.db.execute(query, (task, folder))}

    def count(self, task: str) -> int:
        """How many pictures, masks and refused files there are; a case list does not count."""
        query = "SELECT count(*) FROM files WHERE task=? AND state<>'sheet'"
        return int(self.db.execute(query, (task,)).fetchone()[0])

    def find(self, task: str, path: str) -> Row | None:
        return next(self._rows("task=? AND folder=? AND name=?", task, *_split(path)), None)

    def partners(self, task: str, pair: str, state: State) -> list[Row]:
        """The pictures, or masks, with one pairing key."""
        return list(self._rows("task=? AND pair=? AND state=?", task, pair, state))

    def named(self, task: str, name: str) -> list[Row]:
        """The images with one bare name, in any folder."""
        where = "task=? AND name=? AND state IN ('picture','series','held')"
        return list(self._rows(where, task, name))

    def made(self, task: str, case: str) -> list[Row]:
        """The images that became a case."""
        return list(
            self._rows("task=? AND case_id=? AND state IN ('picture','series')", task, case)
        )

    def series_folders(self, task: str) -> list[tuple[str, str]]:
        """The folders of DICOM series, each with the cases that were made of its files."""
        query = "SELECT DISTINCT folder, case_id FROM files WHERE task=? AND state='series'"
        return [(folder, case) for folder, case in self.db.execute(query, (task,)) if case]

    def held(self, task: str) -> list[Row]:
        """The files of series in quarantine."""
        return list(self._rows("task=? AND state='held'", task))

    def rows(self, task: str) -> Iterator[Row]:
        """The files that `count` counts."""
        return self._rows("task=? AND state<>'sheet'", task)

    def forget(self, task: str, paths: Iterable[str]) -> None:
        """Drop rows, so that files of these names would be looked at afresh."""
        keys = [(task, *_split(path)) for path in paths]
        with self.db:
            self.db.execute("BEGIN")
            self.db.executemany("DELETE FROM files WHERE task=? AND folder=? AND name=?", keys)

    def _rows(self, where: str, *values: str) -> Iterator[Row]:
        query = (
            f"SELECT folder, name, size, mtime_ns, state, case_id, pair FROM files WHERE {where}"
        )
        for folder, name, size, mtime_ns, state, case, pair in self.db.execute(query, values):
            path = f"{folder}/{name}" if folder else name
            yield Row(path, Stamp(size, mtime_ns), state, case, pair)


def _split(path: str) -> tuple[str, str]:
    folder, _, name = path.rpartition("/")
    return folder, name
