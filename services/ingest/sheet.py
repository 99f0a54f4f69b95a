"""Watches a task's cases.csv, in rawdata or beside it, and keeps what it says.

Pictures wait while it is being written, and after it was refused: taken without it, the pictures
of one patient could land on both sides of a split, and a case keeps its patient for ever.
"""

import os
from contextlib import suppress
from pathlib import Path

from imaging.errors import PictureError, RecordError
from imaging.io.casesheet import MAX_BYTES, SHEET_NAME, CaseSheet, parse_case_sheet
from imaging.io.picture import PictureLimits, read_file
from imaging.layout import TaskFolder
from services.ingest.errors import HoldError, RefusedError
from services.ingest.ledger import Stamp
from services.ingest.names import is_case_list
from services.ingest.reasons import BAD_CASE_LIST
from services.ingest.reject import refused_case_list
from services.ingest.scan import HOT_S

LIMITS = PictureLimits(max_bytes=MAX_BYTES)


class SheetDesk:
    """The case list of one task."""

    def __init__(self, task: TaskFolder, quiet_s: float, bad_wait_s: float) -> None:
        """Args: how long it must look the same; how long until a bad one is refused."""
        self.task, self.quiet_s, self.bad_wait_s = task, quiet_s, bad_wait_s
        self.path = task.rawdata / SHEET_NAME  # where the list lies, if there is one
        self.sheet: CaseSheet | None = None
        self.stamp: Stamp | None = None  # of the file that `sheet` was read from
        self._seen: tuple[Path, Stamp, float] | None = None
        self._given_up: Stamp | None = None
        self._rejected: tuple[int, str | None] | None = None
        # rawdata's comes before the one beside task.yaml
        self._places = [_Place(task.rawdata), _Place(task.root)]

    @property
    def is_unread(self) -> bool:
        """Whether a list lies there that was neither read nor given up."""
        return self._seen is not None and self._seen[1] not in (self.stamp, self._given_up)

    def is_moving(self, now_s: float) -> bool:
        """Whether a list is there that is new and has not settled; pictures wait for it."""
        path = next((path for one in self._places if (path := one.find(now_s))), None)
        status = None
        with suppress(FileNotFoundError):
            status = path.lstat() if path else None
        if path is None or status is None:
            self._seen = self.sheet = self.stamp = None
            return False
        self.path = path
        stamp = Stamp(status.st_size, status.st_mtime_ns)
        if self._seen is None or self._seen[:2] != (path, stamp):
            self._seen = (path, stamp, now_s)
        return stamp != self.stamp and now_s < self._seen[2] + self.quiet_s

    def read(self, now_s: float) -> None:
        """Read the list if a new one has settled.

        Raises:
            RefusedError: it cannot be used, and has had its time to become whole.
            HoldError: it cannot be used yet, or was refused and no other has come.
        """
        if self._seen is None:
            refused = self._refused()
            if refused is not None:
                raise HoldError(f"cases.csv was refused (rejected/{refused}); new pictures wait")
            return
        path, stamp, since_s = self._seen
        if stamp == self._given_up:
            raise HoldError("cases.csv was refused and cannot be moved; new pictures wait")
        if stamp == self.stamp:
            return
        self.sheet = self.stamp = None
        try:
            self.sheet = parse_case_sheet(read_file(path, LIMITS))
        except (RecordError, PictureError) as error:
            if now_s < since_s + self.bad_wait_s:
                raise HoldError("cases.csv cannot be read yet; pictures wait for it") from error
            raise RefusedError(BAD_CASE_LIST, str(error)) from error
        self.stamp = stamp

    def _refused(self) -> str | None:
        """The folder with a refused list; looked for only when something in rejected/ changed."""
        try:
            mtime_ns = self.task.rejected.stat().st_mtime_ns
        except FileNotFoundError:
            return None
        if self._rejected is None or self._rejected[0] != mtime_ns:
            self._rejected = (mtime_ns, refused_case_list(self.task))
        return self._rejected[1]

    def give_up(self) -> None:
        """Never refuse this file again: it cannot be moved away."""
        self._given_up = self._seen[1] if self._seen else None


class _Place:
    """A folder that a list may lie in; it is listed only when it has changed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._mtime_ns, self._hot_until_s = -1, 0.0
        self._found: Path | None = None

    def find(self, now_s: float) -> Path | None:
        """The list, in small letters rather than in any others; None when there is none."""
        exact = self.folder / SHEET_NAME
        if os.path.lexists(exact):
            return exact
        try:
            mtime_ns = self.folder.stat().st_mtime_ns
            if mtime_ns != self._mtime_ns:
                self._mtime_ns, self._hot_until_s = mtime_ns, now_s + HOT_S
            elif now_s > self._hot_until_s:
                return self._found
            lists = sorted(path for path in self.folder.iterdir() if is_case_list(path.name))
        except OSError:
            return None
        self._found = lists[0] if lists else None
        return self._found
