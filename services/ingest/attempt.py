"""One attempt at a file, or at several that belong together: taken, refused, or left for later.

Whatever goes wrong with a file ends here, so that the rest of its task goes on.
"""

import errno
import logging
import math
import traceback
from collections.abc import Callable, Collection, Sequence

from imaging.errors import GridMismatchError, PictureError
from imaging.layout import TaskFolder
from services.ingest.errors import HoldError, RefusedError
from services.ingest.inside import may_be_there
from services.ingest.ledger import Row, State
from services.ingest.reject import READ_ONLY, finish_moves, reject, reject_together
from services.ingest.settle import SettleDesk, Settling
from services.ingest.tools import Tools

log = logging.getLogger(__name__)

# What a stalled copy may look like; such files get `bad_wait_s` before they are refused.
DOUBTFUL = frozenset(
    {"empty", "not-an-image", "not-a-volume", "truncated", "broken", "permission-denied"}
)
TELLING = frozenset({"unknown-class", "contradiction", "name-twice"})  # their texts quote names
FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
Take = Callable[[], Sequence[Row] | None]


class Attempts:
    """What may become of the files of one task."""

    def __init__(self, task: TaskFolder, tools: Tools, desk: SettleDesk) -> None:
        self.task, self.tools, self.desk = task, tools, desk
        self._is_unfinished = True  # files that were refused together may not all have been moved

    def finish(self) -> None:
        """Move what is left of files that were refused when a process, or the share, stumbled.

        Raises:
            OSError: the share still does.
        """
        if self._is_unfinished:
            self.tools.nas.require_marker()
            finish_moves(self.task)
            self._is_unfinished = False

    def one(self, item: Settling, take: Callable[[Settling], Row | None]) -> None:
        """Take one file in, refuse it, or leave it for later."""

        def rows() -> Sequence[Row] | None:
            row = take(item)
            return None if row is None else [row]

        self.together([item], rows)

    def together(self, items: Sequence[Settling], take: Take, *, nameless: bool = False) -> None:
        """Take several files in as one, refuse all of them, or leave all of them for later.

        Args:
            items: the files; at least one.
            take: takes them in. Returns their rows, or None while something has to be waited for.
            nameless: whether their names may tell a patient's, and so go into no reason.txt.

        Raises:
            HoldError: nothing more can be taken in now, whatever comes; the files wait.
        """
        if self.tools.is_stopping():
            return
        self.tools.nas.require_marker()
        self.tools.beat()
        try:
            rows = take()
        except (PictureError, GridMismatchError, RefusedError) as error:
            self.refuse(items, refusal_of(error), nameless=nameless)
        except OSError as error:
            if error.errno in FULL:
                raise
            if error.errno in READ_ONLY:
                raise HoldError("ingest may not write into the task's folder") from error
            self.postpone(items, self.tools.tempo.retry_s)
            log.warning("task %s: a file could not be taken: %s", self.task.name, error.strerror)
        except HoldError:
            raise  # it says what a person has to put right; the files are no reason to wait
        except Exception as error:
            # The outermost level for one file: set it aside until it changes, and go on.
            self.postpone(items, math.inf)
            log.error("task %s: a file was set aside: %s", self.task.name, place_in_code(error))
        else:
            if rows is None:
                self.postpone(items, self.tools.tempo.quiet_s)
                return
            self.done(items, rows)

    def done(self, items: Sequence[Settling], rows: Sequence[Row]) -> None:
        """Remember what became of files."""
        self.tools.ledger.record(self.task.name, rows)
        for item in items:
            self.desk.done(item.found.path)

    def partners(self, pair: str, state: State, but: Collection[str] = ()) -> list[Row]:
        """Files of one pair that were dealt with and are still there."""
        rows = self.tools.ledger.partners(self.task.name, pair, state)
        root = self.task.rawdata
        return [row for row in rows if row.path not in but and may_be_there(root, row.path)]

    def postpone(self, items: Sequence[Settling], wait_s: float) -> None:
        for item in items:
            self.desk.postpone(item, self.tools.clock() + wait_s)

    def refuse(
        self, items: Sequence[Settling], refusal: RefusedError, *, nameless: bool = False
    ) -> None:
        """Move files to rejected/; what may only be a stalled copy gets a while first."""
        if self.is_patient(items, refusal.reason):
            until_s = self._patient_until_s(items)
            for item in items:
                self.desk.postpone(item, until_s)
            return
        self.tools.nas.require_marker()
        paths = [item.found.path for item in items]
        self._is_unfinished = True
        try:
            where = self._reject(paths, refusal, nameless=nameless)
        except OSError as error:
            if error.errno not in READ_ONLY:
                raise
            where = "… (the file cannot be moved and stays)"
            for item in items:
                self._leave(item)
        else:
            for path in paths:
                self.desk.done(path)
        self._is_unfinished = False
        if where:
            log.warning("task %s: %s: rejected/%s", self.task.name, refusal.reason, where)

    def _reject(self, paths: Sequence[str], refusal: RefusedError, *, nameless: bool) -> str | None:
        if nameless and refusal.reason in TELLING:
            refusal = RefusedError(refusal.reason, "a folder's name or a line of cases.csv")
        if nameless or len(paths) > 1:
            return reject_together(self.task, paths, refusal, nameless=nameless)
        return reject(self.task, self.task.rawdata, paths[0], refusal)

    def is_patient(self, items: Sequence[Settling], reason: str) -> bool:
        """Whether files that look bad may be copies that have stalled, and still get a while."""
        return reason in DOUBTFUL and self.tools.clock() < self._patient_until_s(items)

    def _patient_until_s(self, items: Sequence[Settling]) -> float:
        return max(item.since_s for item in items) + self.tools.tempo.bad_wait_s

    def _leave(self, item: Settling) -> None:
        """Remember a refused file that stays where it is, so that it is refused once."""
        found = item.found
        if found.trouble == "bad-name":  # the ledger holds text
            self.postpone([item], math.inf)
            return
        self.done([item], [Row(found.path, found.stamp, "stuck")])


def refusal_of(error: PictureError | GridMismatchError | RefusedError) -> RefusedError:
    """What a file is refused for, whoever found it."""
    if isinstance(error, RefusedError):
        return error
    if not isinstance(error, PictureError):
        return RefusedError("mask-size", str(error))
    advice = error.hint if error.hint != type(error).hint else ""
    return RefusedError(error.reason, str(error), advice)


def place_in_code(error: BaseException) -> str:
    """`ValueError at take.py:88`: enough to look for; the message could name a patient."""
    frames = traceback.extract_tb(error.__traceback__)
    where = f"{frames[-1].filename.rsplit('/', 1)[-1]}:{frames[-1].lineno}" if frames else "?"
    return f"{type(error).__name__} at {where}"
