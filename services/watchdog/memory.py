"""What the watchdog has read so far, in a small database on the local disk.

It saves reading everything again after a restart and is never the truth: without it, all tasks
are read once more and compared with what has landed. Only two things are known nowhere else: which
annotations in Label Studio are mere copies of labels that came with the images, and how many files
on the NAS told of a task, so that a file that is lost there is missed.
"""

import logging
import sqlite3
from pathlib import Path

log = logging.getLogger(__name__)

FILE = "watchdog.sqlite"
TABLES = """
CREATE TABLE IF NOT EXISTS cursor (project INTEGER PRIMARY KEY, stamp TEXT NOT NULL);
DROP TABLE IF EXISTS seen;
CREATE TABLE IF NOT EXISTS task_read (
    project INTEGER, task INTEGER, stamp TEXT NOT NULL, files INTEGER NOT NULL,
    PRIMARY KEY (project, task));
CREATE TABLE IF NOT EXISTS copy (
    project INTEGER, task INTEGER, annotation INTEGER, stamp TEXT NOT NULL,
    PRIMARY KEY (project, task, annotation));
"""


class Memory:
    """Cursor, tasks seen and copies seen, per project."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            self.database = _opened(folder / FILE)
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError):  # locked, disk full: not its content
                raise
            log.warning("memory in %s was unreadable and started anew: %s", folder, error)
            for path in folder.glob(f"{FILE}*"):
                path.unlink()
            self.database = _opened(folder / FILE)

    def close(self) -> None:
        self.database.close()

    def cursor(self, project: int) -> str | None:
        """Everything that changed up to this moment has been read."""
        return self._one("SELECT stamp FROM cursor WHERE project = ?", project)

    def move_cursor(self, project: int, stamp: str) -> None:
        self.database.execute("REPLACE INTO cursor VALUES (?, ?)", (project, stamp))

    def seen(self, project: int, task: int) -> str | None:
        """The `updated_at` with which a task was read last."""
        query = "SELECT stamp FROM task_read WHERE project = ? AND task = ?"
        return self._one(query, project, task)

    def files(self, project: int, task: int) -> int:
        """How many files on the NAS told of a task when it was read last."""
        query = "SELECT files FROM task_read WHERE project = ? AND task = ?"
        return int(self._one(query, project, task) or 0)

    def saw(self, project: int, task: int, stamp: str, files: int) -> None:
        values = (project, task, stamp, files)
        self.database.execute("REPLACE INTO task_read VALUES (?, ?, ?, ?)", values)

    def copies(self, project: int, task: int) -> dict[int, str]:
        """Annotation → its `updated_at`, of copies of imported labels at one task."""
        query = "SELECT annotation, stamp FROM copy WHERE project = ? AND task = ?"
        return dict(self.database.execute(query, (project, task)).fetchall())

    def tasks_with_copies(self, project: int) -> set[int]:
        query = "SELECT DISTINCT task FROM copy WHERE project = ?"
        return {task for (task,) in self.database.execute(query, (project,))}

    def saw_copy(self, project: int, task: int, annotation: int, stamp: str) -> None:
        values = (project, task, annotation, stamp)
        self.database.execute("REPLACE INTO copy VALUES (?, ?, ?, ?)", values)

    def forget_copy(self, project: int, task: int, annotation: int) -> None:
        query = "DELETE FROM copy WHERE project = ? AND task = ? AND annotation = ?"
        self.database.execute(query, (project, task, annotation))

    def _one(self, query: str, *values: int) -> str | None:
        found = self.database.execute(query, values).fetchone()
        return None if found is None else str(found[0])


def _opened(path: Path) -> sqlite3.Connection:
    # Each statement commits by itself. A power cut may lose the last ones, and they are read again.
    database = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    try:
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = NORMAL")
        database.executescript(TABLES)
    except sqlite3.DatabaseError:
        database.close()
        raise
    return database
