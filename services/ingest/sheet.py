"""Watches a task's cases.csv, in rawdata or beside it, and keeps what it says.

Pictures wait while it is being written, and after it was refused: taken without it, the pictures
of one patient could land on both sides of a split, and a case keeps its patient for ever.
"""

import os
from pathlib import Path

from imaging.errors import PictureError, RecordError
from imaging.io.casesheet import MAX_BYTES, SHEET_NAME, CaseSheet, parse_case_sheet
from imaging.io.picture import PictureLimits, read_file
from imaging.layout import TaskFolder
from services.ingest.errors import HoldError, RefusedError
from services.ingest.ledger import Stamp
from services.ingest.reject import BAD_CASE_LIST, refused_case_list

LIMITS = PictureLimits(max_bytes=MAX_BYTES)


class SheetDesk:
    """The case list of one task."""

    def __init__(self, task: TaskFolder, quiet_s: float, bad_wait_s: float) -> None:
        """Args: how long it must look the same; how long until a bad one is refused."""
        self.task, self.quiet_s, self.bad_wait_s = task, quiet_s, bad_wait_s
        self.sheet: CaseSheet | None = None
        self.stamp: Stamp | None = None  # of the file that `sheet` was read from
        self._seen: tuple[Path, Stamp, float] | None = None
        self._given_up: Stamp | None = None
        self._rejected: tuple[int, str | None] | None = None

    @property
    def path(self) -> Path:
        """Where the list lies: rawdata's comes before the one beside task.yaml."""
        inside = self.task.rawdata / SHEET_NAME
        beside = self.task.root / SHEET_NAME
        return beside if os.path.lexists(beside) and not os.path.lexists(inside) else inside

    @property
    def is_unread(self) -> bool:
        """Whether a list lies there that was neither read nor given up."""
        return self._seen is not None and self._seen[1] not in (self.stamp, self._given_up)

    def is_moving(self, now_s: float) -> bool:
        """Whether a list is there that is new and has not settled; pictures wait for it."""
        path = self.path
        try:
            status = path.lstat()
        except FileNotFoundError:
            self._seen = self.sheet = self.stamp = None
            return False
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
