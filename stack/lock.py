"""The lock of a home: that it has a supervisor, and which process that is.

The kernel lets go of the lock however its holder dies, so it cannot be stale; who holds it stands
in the file, as process number and start time. What stack.json says is only the supervisor's word.
"""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import BinaryIO

from stack.errors import AlreadyRunningError
from stack.home import Home
from stack.processes import is_alive, start_time

LOOK_EVERY_S = 0.05
PATIENCE_S = 0.5  # somebody who only looks holds the lock for a moment, a new holder signs it


@dataclass(frozen=True, slots=True)
class Holder:
    """The process that holds a home's lock."""

    pid: int
    started: int  # in clock ticks since boot: tells it from a later process of that number

    @property
    def is_alive(self) -> bool:
        return is_alive(self.pid, self.started)


@contextmanager
def only_supervisor(home: Home) -> Iterator[None]:
    """Hold the home's lock.

    Raises:
        AlreadyRunningError: another process holds it.
    """
    home.run.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + PATIENCE_S
    with home.lock.open("ab") as stream:
        while not _try_lock(stream, fcntl.LOCK_EX):
            if time.monotonic() >= deadline:
                raise AlreadyRunningError(f"the stack of {home.root} is running")
            time.sleep(LOOK_EVERY_S)
        stream.truncate(0)
        stream.write(f"{os.getpid()} {start_time(os.getpid())}\n".encode())
        stream.flush()
        yield


def is_supervised(home: Home) -> bool:
    """Whether some process holds the home's lock."""
    try:
        with home.lock.open("rb") as stream:
            return not _try_lock(stream, fcntl.LOCK_SH)  # shared: lookers do not see each other
    except (FileNotFoundError, NotADirectoryError):
        return False


def holder(home: Home) -> Holder | None:
    """The process that holds the home's lock; None when nobody does.

    Raises:
        AlreadyRunningError: somebody does who cannot be seen from here, in another container.
    """
    deadline = time.monotonic() + PATIENCE_S
    while is_supervised(home):
        signed = _signature(home)
        if signed is not None and signed.is_alive:
            return signed
        if time.monotonic() >= deadline:
            raise AlreadyRunningError(
                f"the lock {home.lock} is held by a process that is not on this machine",
                hint="Stop the stack where it was started.",
            )
        time.sleep(LOOK_EVERY_S)
    return None


def _try_lock(stream: BinaryIO, how: int) -> bool:
    try:
        fcntl.flock(stream.fileno(), how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _signature(home: Home) -> Holder | None:
    try:
        pid, started = home.lock.read_text(encoding="utf-8").split()
        return Holder(int(pid), int(started))
    except (OSError, ValueError):  # not signed yet
        return None
