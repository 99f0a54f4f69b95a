"""Starts, watches and stops the supervisor of a home from outside; the command line's hands."""

import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

from stack.bootstrap import Wishes, prepare
from stack.errors import NotReadyError, StackError
from stack.home import SUPERVISOR, Home
from stack.lock import holder, is_supervised
from stack.logs import last_lines
from stack.processes import end_marked, tied_to_parent
from stack.settings import inherited_environment
from stack.state import ServiceStatus, StackStatus, read_state

LOOK_EVERY_S = 0.2
# From its start to its first word in stack.json; it may have to end an earlier one's leftovers.
BIRTH_S = 120.0
FAREWELL_S = 30.0  # without any progress, while services stop one after the other
ORPHAN_GRACE_S = 10.0  # services whose supervisor was killed were told to stop back then

Watcher = Callable[[Sequence[ServiceStatus]], None]


def start_detached(home: Home, wishes: Wishes, *, tied: bool = False) -> None:
    """Start a supervisor that outlives this process; does nothing when one runs.

    Args:
        home: the stack's folder.
        wishes: what the person chose; problems with it are raised here, before anything starts.
        tied: True stops the stack when this process ends, however it ends.

    Raises:
        StackError: the home cannot be made ready, or the supervisor did not start.
    """
    if is_supervised(home):
        return
    prepare(home, wishes)
    command = [sys.executable, "-m", "stack.cli", "up", "--local", *_options(home, wishes)]
    pid = _spawn(home, tied_to_parent(command) if tied else command)
    try:
        if _is_born(home, pid):
            return
    except KeyboardInterrupt:
        if tied:
            os.kill(pid, signal.SIGTERM)
            os.waitpid(pid, 0)
        raise
    words = " | ".join(last_lines(home.log(SUPERVISOR), 5))
    raise StackError(f"the supervisor did not start: {words}", hint="See its log in logs/.")


def _is_born(home: Home, pid: int) -> bool:
    """Wait for the supervisor's first word; whether it came."""
    deadline = time.monotonic() + BIRTH_S
    while time.monotonic() < deadline:
        if (status := read_state(home)) is not None and status.pid == pid:
            return True
        if os.waitpid(pid, os.WNOHANG)[0]:
            return False
        time.sleep(LOOK_EVERY_S)
    return False


def _spawn(home: Home, command: list[str]) -> int:
    """A process in a session of its own that writes to the supervisor's log; its pid.

    Not subprocess.Popen: nobody here waits for its end, which that class complains about.
    """
    log = os.open(home.log(SUPERVISOR), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        return os.posix_spawn(
            command[0],
            command,
            inherited_environment(),
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_DUP2, log, 1),
                (os.POSIX_SPAWN_DUP2, log, 2),
            ],
            setsid=True,
        )
    finally:
        os.close(log)


def _options(home: Home, wishes: Wishes) -> list[str]:
    # Ports and NAS are remembered in the home by now.
    options = [
        "--background",
        "--home",
        str(home.root),
        "--compose",
        str(wishes.compose_file.resolve()),
    ]
    if wishes.env_file is not None:
        options += ["--env-file", str(wishes.env_file.resolve())]
    return options


def wait_until_healthy(
    home: Home, timeout_s: float, on_look: Watcher = lambda _: None
) -> StackStatus:
    """Return once every service is healthy.

    Raises:
        NotReadyError: a service keeps ending, the supervisor went away, or time ran out.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        if holder(home) is None:
            raise NotReadyError(
                f"the stack of {home.root} is not running",
                hint="`labloop logs supervisor` says why.",
            )
        status = read_state(home)
        services: Sequence[ServiceStatus] = ()
        if status is not None and status.is_supervised:  # not an earlier supervisor's
            services = status.services
            on_look(services)
            if status.is_healthy:
                return status
        failing = [service for service in services if service.state == "failing"]
        if failing or time.monotonic() > deadline:
            troubled = failing or [service for service in services if service.state != "healthy"]
            words = "; ".join(f"{one.name} {one.state} ({one.reason})" for one in troubled)
            raise NotReadyError(words)
        time.sleep(LOOK_EVERY_S)


def stop(home: Home, on_look: Watcher = lambda _: None) -> bool:
    """Stop the supervisor and everything it started; whether anything ran.

    A home whose supervisor was killed is cleaned up in the same way.
    """
    supervisor = holder(home)
    if supervisor is None:
        return end_marked(home.root, grace_s=ORPHAN_GRACE_S) > 0
    with suppress(ProcessLookupError):
        os.kill(supervisor.pid, signal.SIGTERM)
    deadline = time.monotonic() + FAREWELL_S
    before = read_state(home)
    while supervisor.is_alive and time.monotonic() < deadline:
        now = read_state(home)
        if now is not None and now != before:
            before = now
            on_look(now.services)
            deadline = time.monotonic() + FAREWELL_S
        time.sleep(LOOK_EVERY_S)
    if supervisor.is_alive:
        with suppress(ProcessLookupError):
            os.kill(supervisor.pid, signal.SIGKILL)
    end_marked(home.root)
    with suppress(ChildProcessError):  # it was started by another process, as a rule
        os.waitpid(supervisor.pid, os.WNOHANG)
    return True
