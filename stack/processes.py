"""What Linux knows about processes: which are ours, since when they live, how to end them.

Every process of a stack carries its home in its environment, and children inherit it. So
whatever a service has started is found again, in whichever session or group it hides, even
after a supervisor that could not clean up.
"""

import os
import shutil
import signal
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

HOME_MARK = "LABLOOP_STACK"
SERVICE_MARK = "LABLOOP_SERVICE"
LOOK_EVERY_S = 0.05


def marks(home: Path, service: str) -> dict[str, str]:
    """Environment variables that tie a process and its children to a home."""
    return {HOME_MARK: str(home), SERVICE_MARK: service}


def start_time(pid: int) -> int | None:
    """When a process started, in clock ticks since boot; None when there is no such process.

    A number tells a process from a later one that got the same pid.
    """
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    # The second field, the name in brackets, may hold spaces and brackets itself.
    fields = text[text.rindex(")") + 2 :].split()
    return None if fields[0] in "ZX" else int(fields[19])


def is_alive(pid: int, started: int) -> bool:
    """Whether the process that had this pid at that start time still runs."""
    return start_time(pid) == started


def marked(home: Path, service: str | None = None) -> list[int]:
    """The processes that belong to a home, or to one service of it."""
    wanted = [f"{HOME_MARK}={home}".encode()]
    if service is not None:
        wanted.append(f"{SERVICE_MARK}={service}".encode())
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with suppress(OSError):  # gone meanwhile, or somebody else's
                variables = (entry / "environ").read_bytes().split(b"\0")
                if all(mark in variables for mark in wanted):
                    found.append(int(entry.name))
    return found


def send(pids: Iterable[int], signal_number: signal.Signals) -> None:
    """A signal to each process that still exists."""
    for pid in pids:
        with suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal_number)


def end_marked(home: Path, service: str | None = None, grace_s: float = 0.0) -> int:
    """End every process of a home, or of one service; how many there were.

    They get SIGTERM and `grace_s` to finish, then SIGKILL.
    """
    pids = found = marked(home, service)
    if grace_s > 0 and pids:
        send(pids, signal.SIGTERM)
        deadline = time.monotonic() + grace_s
        while pids and time.monotonic() < deadline:
            time.sleep(LOOK_EVERY_S)
            pids = marked(home, service)
    deadline = time.monotonic() + 5.0  # a process in an uninterruptible read may take a moment
    while pids and time.monotonic() < deadline:
        send(pids, signal.SIGKILL)
        time.sleep(LOOK_EVERY_S)
        pids = marked(home, service)
    return len(found)


def tied_to_parent(command: list[str]) -> list[str]:
    """The command, such that the kernel ends it with SIGTERM when its parent dies.

    util-linux's setpriv is there on every Debian; without it, only `end_marked` cleans up.
    """
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", "TERM", "--", *command] if setpriv else command
