"""The looking part of a visit: scan, settle, and what may be concluded from absence."""

import logging
import math
import os
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path

from imaging.dataset.cases import load_case
from imaging.errors import RecordError
from imaging.layout import TaskFolder
from services.ingest.errors import HoldError
from services.ingest.inside import is_inside
from services.ingest.ledger import UNKNOWN_NS, Ledger, Row, Stamp
from services.ingest.scan import Look, RawdataScan
from services.ingest.settle import SettleDesk
from services.ingest.take import published_cases
from services.ingest.tempo import Tempo
from services.ingest.tree import place_of

log = logging.getLogger(__name__)

HELD_SCAN_S = 60.0  # between full looks while most known files are gone
VANISH_AT_LEAST = 10  # fewer known files than this may all vanish without anybody wondering


class TaskWatch:
    """Which files of one rawdata are on their way in."""

    def __init__(self, task: TaskFolder, ledger: Ledger, tempo: Tempo) -> None:
        self.task, self.ledger = task, ledger
        self.full_scan_s = tempo.full_scan_s
        self.scan = RawdataScan(task.rawdata, lambda folder: ledger.folder(task.name, folder))
        self.desk = SettleDesk(tempo.quiet_s)
        self._next_full_s = -math.inf
        self._vanished_s: float | None = None  # since when most known files are gone
        self.unreadable = 0  # folders that could not be listed: what they hold is unknown
        self._refill()

    def look(self, now_s: float) -> None:
        """Look at rawdata; the desk then knows what is new.

        What is missing from folders that cannot be listed is not judged; the rest goes on.

        Raises:
            HoldError: most known files have vanished. What is there may be half of a share, and
                nothing is concluded from it.
        """
        look = self.scan.look(now_s, full=now_s >= self._next_full_s)
        if look.known_missed >= VANISH_AT_LEAST and now_s < self._next_full_s:
            self._next_full_s = now_s
            look = self.scan.look(now_s, full=True)
        self.desk.see(look.found, now_s)
        self.desk.check(self._stamps(), now_s)
        self.unreadable = look.unreadable
        if now_s >= self._next_full_s:
            if not look.unreadable:
                self._judge_absence(look, now_s)
            is_held = self._vanished_s is not None
            wait_s = min(HELD_SCAN_S, self.full_scan_s) if is_held else self.full_scan_s
            self._next_full_s = now_s + wait_s
        if self._vanished_s is not None:
            raise HoldError(
                "most known files have vanished from rawdata; believed if they do not come back "
                f"within {self.full_scan_s:.0f} s"
            )

    def _judge_absence(self, look: Look, now_s: float) -> None:
        """Most known files gone is believed only when it lasts as long as a full tempo."""
        known = self.ledger.count(self.task.name)
        if known >= VANISH_AT_LEAST and look.known_seen * 2 < known:
            since_s = self._vanished_s = now_s if self._vanished_s is None else self._vanished_s
            if now_s < since_s + self.full_scan_s:
                return
        self._vanished_s = None
        if look.known_seen < known:
            rows = list(self.ledger.rows(self.task.name))
            gone = [r.path for r in rows if not os.path.lexists(self.task.rawdata / r.path)]
            self.ledger.forget(self.task.name, gone)
            log.info("task %s: %d files left rawdata; cases stay", self.task.name, len(gone))

    def _stamps(self) -> Callable[[str], Stamp | None]:
        """How files look now; a file behind a link, or in a folder that is one now, has gone."""
        root = self.task.rawdata
        is_there = cache(partial(is_inside, root))  # each folder is asked about once in a look

        def stamp(path: str) -> Stamp | None:
            try:
                status = (root / path).lstat()
            except OSError:
                return None
            if not is_there(path.rpartition("/")[0]):
                return None
            return Stamp(status.st_size, status.st_mtime_ns)

        return stamp

    def _refill(self) -> None:
        """Fill a lost ledger from the cases there are."""
        if self.ledger.count(self.task.name):
            return
        rows = [row for folder in published_cases(self.task) if (row := _row_of(folder))]
        if rows:
            self.ledger.record(self.task.name, rows)
            log.info("task %s: %d known files were read from its cases", self.task.name, len(rows))


def _row_of(folder: Path) -> Row | None:
    """What the ledger must have said about the file that a case was made from.

    Volumes are read once more, which finds their cases: a case names neither all of its files nor
    what pairs them.
    """
    try:
        case = load_case(folder)
    except RecordError as error:
        log.error("case %s cannot be read: %s", folder.name, error)
        return None
    if case.volume is not None:
        return None
    source = case.source
    stamp = Stamp(source.size_bytes, UNKNOWN_NS)
    return Row(source.path, stamp, "picture", case.case, place_of(source.path).pair)
