"""The loop of ingest: every task in turn, for ever or until all is done."""

import fcntl
import logging
import os
import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Self

from imaging.errors import NasGoneError
from imaging.layout import TaskFolder
from services.ingest.attempt import place_in_code
from services.ingest.errors import DiskFullError, SecondIngestError
from services.ingest.tools import Tools
from services.ingest.visit import Visitor
from stack.runtime.events import Alarm
from stack.runtime.heartbeat import Heartbeat

log = logging.getLogger(__name__)

MIN_WAIT_S = 0.5  # between rounds, however loud the events are
BEAT_EVERY_S = 1.0


class Pulse:
    """Beats a heart at most once a second, however often it is asked to."""

    def __init__(self, heartbeat: Heartbeat, clock: Callable[[], float] = time.monotonic) -> None:
        self.heartbeat, self.clock = heartbeat, clock
        self.trouble = ""
        self._next_s = 0.0

    def beat(self) -> None:
        now_s = self.clock()
        if now_s >= self._next_s:
            self._next_s = now_s + BEAT_EVERY_S
            self._write()

    def say(self, trouble: str) -> None:
        """Beat now, and from now on say what is wrong; log it when it changes."""
        if trouble != self.trouble:
            self.trouble = trouble
            if trouble:
                log.warning("paused or held: %s", trouble)
            else:
                log.info("all is well again")
        self._write()

    def _write(self) -> None:
        with suppress(OSError):  # its age then says what is wrong
            self.heartbeat.beat(self.trouble)


class Ingest:
    """All tasks of one NAS."""

    def __init__(self, tools: Tools, pulse: Pulse) -> None:
        self.tools, self.pulse = tools, pulse
        self.visitors: dict[str, Visitor] = {}

    def round(self) -> None:
        """Visit every task once; what cannot be done is said by the heartbeat."""
        troubles: list[str] = []
        try:
            self.tools.nas.require_marker()
            tasks = [task for task in self.tools.nas.tasks() if task.rawdata.is_dir()]
            for name in self.visitors.keys() - {task.name for task in tasks}:
                del self.visitors[name]
            for task in tasks:
                if self.tools.is_stopping():
                    break
                troubles += self._visit(task)
        except (NasGoneError, DiskFullError) as error:
            troubles.append(str(error))
        except OSError as error:  # the share stumbles while tasks are listed
            troubles.append(f"the NAS cannot be read: {error.strerror}")
        self.pulse.say("; ".join(troubles))

    def _visit(self, task: TaskFolder) -> list[str]:
        try:
            if task.name not in self.visitors:
                self.visitors[task.name] = Visitor(task, self.tools)
            self.visitors[task.name].visit()
        except (NasGoneError, DiskFullError):
            raise
        except sqlite3.DatabaseError as error:
            # A new start finds the ledger broken and fills it again.
            raise SystemExit(f"the ledger cannot be used: {error}") from error
        except Exception as error:
            # The outermost level for one task: the others go on, and this one is tried again.
            self.tools.nas.require_marker()
            log.error("task %s: a visit failed: %s", task.name, place_in_code(error))
            return [f"{task.name}: a visit failed: {type(error).__name__}"]
        return self.visitors[task.name].troubles

    @property
    def is_done(self) -> bool:
        return all(visitor.is_done for visitor in self.visitors.values())

    def next_wait_s(self, poll_s: float) -> float:
        """Until the next file may have settled, at most the poll tempo."""
        if any(visitor.has_more for visitor in self.visitors.values()):
            return 0.0
        now_s = self.tools.clock()
        due = [visitor.desk.next_due_s(now_s) for visitor in self.visitors.values()]
        waits = [moment - now_s for moment in due if moment is not None]
        return max(MIN_WAIT_S, min([poll_s, *waits]))

    def watched(self) -> set[tuple[Path, bool]]:
        """The folders whose events matter: (path, with all below)."""
        folders: set[tuple[Path, bool]] = {(self.tools.nas.dataset, False)}
        for visitor in self.visitors.values():
            folders |= {(visitor.task.root, False), (visitor.task.rawdata, True)}
        return folders


def run(ingest: Ingest, poll_s: float, stop: threading.Event, alarm: Alarm | None) -> None:
    """Go round until `stop` is set; events of `alarm` shorten the wait."""
    while not stop.is_set():
        ingest.round()
        if alarm is not None:
            alarm.watch(ingest.watched())
        _wait(ingest.next_wait_s(poll_s), stop, alarm)


def run_once(ingest: Ingest, quiet_s: float, stop: threading.Event) -> bool:
    """Go round until everything that is there has been dealt with; whether all went well.

    A trouble that stays for three quiet times (Label Studio away, a task.yaml to be corrected)
    ends it, too.
    """
    troubled_until_s: float | None = None
    while not stop.is_set():
        ingest.round()
        trouble = ingest.pulse.trouble
        if ingest.is_done or (trouble and not ingest.visitors):
            return not trouble
        now_s = ingest.tools.clock()
        if not trouble:
            troubled_until_s = None
        elif troubled_until_s is None:
            troubled_until_s = now_s + 3 * quiet_s
        elif now_s >= troubled_until_s:
            return False
        stop.wait(ingest.next_wait_s(quiet_s))
    return False


def _wait(wait_s: float, stop: threading.Event, alarm: Alarm | None) -> None:
    if alarm is None:
        stop.wait(wait_s)
        return
    if wait_s <= 0:
        return
    stop.wait(min(MIN_WAIT_S, wait_s))  # let a burst of events become one round
    deadline_s = time.monotonic() + wait_s - MIN_WAIT_S
    while not stop.is_set() and (left_s := deadline_s - time.monotonic()) > 0:
        if alarm.rung.wait(min(left_s, MIN_WAIT_S)):
            break
    alarm.rung.clear()


class StateLock:
    """Held while one ingest works with a state folder; let go by the system when it dies."""

    def __init__(self, state: Path) -> None:
        state.mkdir(parents=True, exist_ok=True)
        self.state = state
        self._descriptor = os.open(state / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def __enter__(self) -> Self:
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(self._descriptor)
            raise SecondIngestError(self.state) from error
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)
