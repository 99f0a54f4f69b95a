"""The watchdog's loop: every task folder in turn, for ever or once.

One round lands what is new and then decides about training. Whatever goes wrong with one task
leaves the others alone; without the NAS, its space or Label Studio, the loop waits and says why.
"""

import errno
import fcntl
import logging
import math
import os
import sqlite3
import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Self

from imaging.errors import ImagingError, NasGoneError
from imaging.ids import SAFE_NAME
from imaging.layout import Nas, TaskFolder
from services.watchdog.errors import SecondWatchdogError, StoppedError
from services.watchdog.memory import Memory
from services.watchdog.reconcile import REAL_CLOCK, Clock, Reconciler, Tools
from services.watchdog.retrain import Desk
from services.watchdog.source import AnswerSource
from stack.runtime.events import Alarm
from stack.runtime.heartbeat import Heartbeat
from stack.runtime.label_studio import LabelStudioError

log = logging.getLogger(__name__)

BEAT_EVERY_S = 1.0
MIN_WAIT_S = 0.5  # between rounds, however often the loop is woken
FULL = (errno.ENOSPC, errno.EDQUOT)


class Pulse:
    """Shows that the loop goes round, and stops it between two items when it is to end."""

    def __init__(self, heartbeat: Heartbeat, stop: threading.Event) -> None:
        self.heartbeat, self.stop = heartbeat, stop
        self.trouble = ""
        self._next_s = -math.inf

    def beat(self) -> None:
        """Called after each item; cheap.

        Raises:
            StoppedError: the process is to end.
        """
        if self.stop.is_set():
            raise StoppedError("asked to end")
        now_s = time.monotonic()
        if now_s >= self._next_s:
            self._next_s = now_s + BEAT_EVERY_S
            self._write()

    def say(self, trouble: str) -> None:
        """Beat, and from now on say what is wrong; log it when it changes."""
        if trouble != self.trouble:
            self.trouble = trouble
            if trouble:
                log.warning("waiting: %s", trouble)
            else:
                log.info("all is well again")
        self._write()

    def _write(self) -> None:
        with suppress(OSError):  # its age then says what is wrong
            self.heartbeat.beat(self.trouble)


class TaskWatch:
    """What is known about one task folder while the process lives."""

    def __init__(self, reconciler: Reconciler, desk: Desk) -> None:
        self.reconciler, self.desk = reconciler, desk
        self.next_compare_s = -math.inf
        self.changed: set[str] = set()  # cases whose annotations somebody wrote to


class Watchdog:
    """All task folders of one NAS against one Label Studio."""

    def __init__(
        self,
        nas: Nas,
        state: Path,
        source: AnswerSource,
        pulse: Pulse,
        full_scan_s: float,
        clock: Clock = REAL_CLOCK,
    ) -> None:
        self.nas, self.state, self.source, self.pulse = nas, state, source, pulse
        self.full_scan_s, self.clock = full_scan_s, clock
        self.memory = Memory(state)
        self.tasks: dict[str, TaskWatch] = {}

    def round(self) -> str:
        """Visit every task once; what cannot be done now, for the heartbeat and people.

        Raises:
            StoppedError: the process is to end.
        """
        troubles: list[str] = []
        try:
            self.nas.require_marker()
            projects = self._projects(troubles)
            tasks = list(self.nas.tasks())
            for name in self.tasks.keys() - {task.name for task in tasks}:
                del self.tasks[name]
            for task in tasks:
                self._visit(task, projects, troubles)
        except (NasGoneError, OSError, sqlite3.Error) as error:
            troubles.append(_sentence(error))
            if isinstance(error, NasGoneError):
                self.tasks.clear()  # what comes back may be another day's share
        trouble = "; ".join(dict.fromkeys(troubles))
        self.pulse.say(trouble)
        return trouble

    def next_wait_s(self, poll_s: float) -> float:
        """Until some task's waiting is over, at most the poll tempo."""
        waits = [watch.desk.again_in_s for watch in self.tasks.values()]
        return min([poll_s, *(wait for wait in waits if wait is not None)])

    def watched(self) -> set[tuple[Path, bool]]:
        """The folders whose events matter: (path, with all below)."""
        folders: set[tuple[Path, bool]] = {(self.nas.dataset, False)}
        for watch in self.tasks.values():
            task = watch.reconciler.task
            folders |= {(task.root, False), (task.annotations, True)}
        return folders

    def note(self, changed: Iterable[Path]) -> None:
        """Remember the cases that file events tell of; the next round looks at them."""
        for watch in self.tasks.values():
            annotations = watch.reconciler.task.annotations
            inside = (
                path.relative_to(annotations) for path in changed if annotations in path.parents
            )
            watch.changed |= {
                path.parts[0] for path in inside if SAFE_NAME.fullmatch(path.parts[0])
            }

    def close(self) -> None:
        self.memory.close()

    def _projects(self, troubles: list[str]) -> dict[str, int] | None:
        try:
            return self.source.projects()
        except LabelStudioError as error:
            troubles.append(f"Label Studio cannot be asked: {error}")
            return None

    def _visit(
        self, task: TaskFolder, projects: dict[str, int] | None, troubles: list[str]
    ) -> None:
        """Land, then decide. What goes wrong here is this task's trouble, not the others'."""
        watch = self.tasks.get(task.name) or self._begin(task)
        try:
            compared = self._land(watch, projects)
            if projects is None:
                # Labels may wait there, so this is no time to judge what is new.
                watch.desk.say("Label Studio cannot be asked for labels")
            elif not task.config.is_file():
                watch.desk.say("there is no task.yaml yet")
            else:
                local = self.clock.now().astimezone()
                watch.desk.look(local, self.pulse.beat, afresh=compared)
        except (NasGoneError, StoppedError, sqlite3.Error):
            raise
        except OSError as error:
            if error.errno in FULL:
                raise
            self._trouble(watch, troubles, _sentence(error))
        except (ImagingError, LabelStudioError) as error:
            self._trouble(watch, troubles, str(error))
        except Exception as error:
            log.exception("task %s: a visit failed", task.name)
            self._trouble(watch, troubles, f"a visit failed: {type(error).__name__}")

    def _begin(self, task: TaskFolder) -> TaskWatch:
        tools = Tools(self.nas, self.source, self.memory, self.pulse.beat, self.clock)
        reconciler = Reconciler(task, tools)
        desk = Desk(self.nas, reconciler, self.state / f"{task.name}.json")
        self.tasks[task.name] = TaskWatch(reconciler, desk)
        return self.tasks[task.name]

    def _land(self, watch: TaskWatch, projects: dict[str, int] | None) -> bool:
        """Bring the NAS up to what Label Studio has; whether everything was compared."""
        reconciler, now_s = watch.reconciler, self.clock.seconds()
        due = projects is not None and now_s >= watch.next_compare_s
        reconciler.landed.look(self.pulse.beat, everywhere=due)
        while watch.changed:
            reconciler.landed.look_at(watch.changed.pop())
        project = (projects or {}).get(reconciler.task.name)
        if project is not None:
            reconciler.catch_up(project)
            if due:
                reconciler.compare(project)
        if due:
            watch.next_compare_s = now_s + self.full_scan_s
        return due

    def _trouble(self, watch: TaskWatch, troubles: list[str], text: str) -> None:
        troubles.append(f"{watch.reconciler}: {text}")
        watch.desk.say(text)


def run(
    watchdog: Watchdog, poll_s: float, wake: threading.Event, alarm: Alarm | None = None
) -> None:
    """Go round until the process is to end; what sets `wake` shortens the wait.

    Args:
        watchdog: all task folders.
        poll_s: between rounds, when nothing wakes the loop.
        wake: set by the webhook, and by `alarm`.
        alarm: tells of files; None where events are not to be had.
    """
    stop = watchdog.pulse.stop
    while not stop.is_set():
        wake.clear()
        try:
            if alarm is not None:
                watchdog.note(alarm.take_changed())
            watchdog.round()
        except StoppedError:
            return
        if alarm is not None:
            alarm.watch(watchdog.watched())
        stop.wait(MIN_WAIT_S)  # let a burst of events become one round
        left_s = watchdog.next_wait_s(poll_s) - MIN_WAIT_S
        if left_s > 0 and not stop.is_set():
            wake.wait(left_s)


class StateLock:
    """Held while one watchdog works with a state folder; let go by the system when it dies."""

    def __init__(self, state: Path) -> None:
        state.mkdir(parents=True, exist_ok=True)
        self.state = state
        self._descriptor = os.open(state / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def __enter__(self) -> Self:
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(self._descriptor)
            raise SecondWatchdogError(f"another watchdog works with {self.state}") from error
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)


def _sentence(error: Exception) -> str:
    if isinstance(error, OSError):
        if error.errno in FULL:
            return "no space is left"
        return f"files cannot be read or written: {error.strerror}"
    if isinstance(error, sqlite3.Error):
        return f"the state folder cannot be used: {error}"
    return str(error)
