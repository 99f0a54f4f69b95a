"""The local runner: a supervisor that keeps the services of one home running, without Docker.

It starts them as child processes in the order of the plan, asks each for its health, starts the
dead again, and writes what it knows to stack.json. One home has one supervisor, which is what
the lock is for. It may be killed at any time: the kernel then ends the services (see
`processes.tied_to_parent`), and the next start ends whatever is left (see `bootstrap.prepare`).
"""

import logging
import os
import select
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from types import FrameType

from imaging.ids import utc_now
from stack.health import Prober
from stack.home import SUPERVISOR, Home
from stack.lock import only_supervisor
from stack.logs import rotate
from stack.plan import RUNNING, Start, State, Stop, may_start, plan_down, plan_up
from stack.processes import start_time
from stack.runners.child import Child, Launch
from stack.state import ServiceStatus, StackStatus, write_state

log = logging.getLogger(__name__)

TICK_S = 0.2
ROTATE_EVERY_S = 30.0


class Supervisor:
    """Runs the services of one home until it is told to stop."""

    def __init__(
        self,
        home: Home,
        launches: Sequence[Launch],
        inherited: Mapping[str, str],
        on_change: Callable[[Sequence[ServiceStatus]], None] = lambda _: None,
    ) -> None:
        self.home = home
        self.services = [launch.service for launch in launches]
        self.children = {launch.name: Child(launch, home, inherited) for launch in launches}
        self.on_change = on_change
        self.pending: list[Start] = []
        self.prober = Prober()
        self.stop_signals = 0
        self.rotated_s = 0.0
        self.since = utc_now()
        self.written: tuple[ServiceStatus, ...] | None = None
        self.written_stamp: tuple[int, ...] | None = None

    def run(self) -> None:
        """Start everything, keep it running until SIGTERM or SIGINT, stop everything.

        Raises:
            AlreadyRunningError: this home has a supervisor.
        """
        with only_supervisor(self.home), self._signals() as wake:
            for name in self.children:
                self.home.state(name).mkdir(parents=True, exist_ok=True)
            self.prober.start()
            self.pending = plan_up(self.services, running=frozenset())
            try:
                while not self.stop_signals:
                    self._tick(time.monotonic())
                    _wait(wake, TICK_S)
            finally:
                self._shut_down(wake)
                self.prober.stop()

    @property
    def states(self) -> dict[str, State]:
        return {name: child.state for name, child in self.children.items()}

    def _tick(self, now_s: float) -> None:
        for child in self.children.values():
            child.reap(now_s)
            if child.process is not None:
                child.heed(self.prober.answer(child.name, child.process.pid), now_s)
            if child.retry_at_s is not None and now_s >= child.retry_at_s:
                child.start(now_s)
        for step in list(self.pending):
            if may_start(step, self.states):
                self.pending.remove(step)
                self.children[step.service].start(now_s)
        self._watch()
        self._report()
        if now_s - self.rotated_s >= ROTATE_EVERY_S:
            self.rotated_s = now_s
            self._rotate()

    def _rotate(self) -> None:
        for name in (*self.children, SUPERVISOR):
            try:
                rotate(self.home.log(name))
            except OSError as error:
                log.warning("the log of %s could not be rotated: %s", name, error)

    def _watch(self) -> None:
        self.prober.watch(
            {
                name: (child.process.pid, child.launch.service.local.health)
                for name, child in self.children.items()
                if child.process is not None and child.state in RUNNING
            }
        )

    def _report(self) -> None:
        services = tuple(child.status(time.monotonic()) for child in self.children.values())
        if services == self.written and _stamp(self.home) == self.written_stamp:
            return
        pid = os.getpid()
        try:
            write_state(self.home, StackStatus(pid, start_time(pid) or 0, self.since, services))
            self.on_change(services)
        except OSError as error:  # a full disk, a closed terminal: services must not suffer
            if self.written is not None:
                log.warning("the state of the stack could not be written: %s", error)
            self.written = None
        else:
            self.written, self.written_stamp = services, _stamp(self.home)

    def _shut_down(self, wake: int) -> None:
        """Stop dependents before what they depend on; a second signal ends all at once."""
        running = frozenset(name for name, child in self.children.items() if child.process)
        self.prober.watch({})
        for name in self.children.keys() - running:
            self.children[name].stop()
        steps = plan_down(self.services, running)
        stopping: dict[str, float] = {}  # name → when patience ends
        while steps or stopping:
            for step in [step for step in steps if not step.after & self._alive()]:
                steps.remove(step)
                stopping[step.service] = self._begin_stop(step)
            self._report()
            _wait(wake, TICK_S)
            for name, patience_ends_s in list(stopping.items()):
                is_late = time.monotonic() >= patience_ends_s or self.stop_signals > 1
                if is_late:
                    self.children[name].kill()
                self.children[name].reap(time.monotonic())
                if is_late or self.children[name].process is None:
                    del stopping[name]
        self._report()
        log.info("the stack is down")

    def _begin_stop(self, step: Stop) -> float:
        child = self.children[step.service]
        child.stop()
        return time.monotonic() + child.launch.service.local.stop_s

    def _alive(self) -> frozenset[str]:
        return frozenset(name for name, child in self.children.items() if child.process)

    @contextmanager
    def _signals(self) -> Iterator[int]:
        """Count requests to stop; a file descriptor that becomes readable on any signal."""

        def stop(number: int, frame: FrameType | None) -> None:
            self.stop_signals += 1

        def wake_up(number: int, frame: FrameType | None) -> None:
            """A handler of its own, because an ignored signal wakes nobody."""

        handlers = {signal.SIGTERM: stop, signal.SIGINT: stop, signal.SIGCHLD: wake_up}
        if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # nohup
            handlers[signal.SIGHUP] = stop
        reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
        waker = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        try:
            yield reader
        finally:
            signal.set_wakeup_fd(waker)
            for number, handler in before.items():
                signal.signal(number, handler)
            os.close(reader)
            os.close(writer)


def _stamp(home: Home) -> tuple[int, ...] | None:
    """Tells stack.json as we wrote it from one that somebody removed or changed."""
    try:
        found = home.stack_state.stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns


def _wait(wake: int, timeout_s: float) -> None:
    """Sleep, but not past a signal."""
    select.select([wake], [], [], timeout_s)
    with suppress(BlockingIOError):
        os.read(wake, 4096)
