"""stack.json: written by the supervisor, read by everybody."""

import os
from pathlib import Path

from stack.home import Home
from stack.processes import start_time
from stack.state import ServiceStatus, StackStatus, read_state, stopped, write_state

SERVICE = ServiceStatus(
    "a", "failing", port=7, url="u", reason="why", deaths=3, last_death="how", last_lines=("x", "y")
)


def status(pid: int, started: int) -> StackStatus:
    return StackStatus(pid, started, "2026-03-14T09:15:02.000000Z", (SERVICE,))


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    home = Home(tmp_path)
    assert read_state(home) is None
    write_state(home, status(1, 2))
    assert read_state(home) == status(1, 2)


def test_a_supervisor_is_known_by_pid_and_start_time() -> None:
    mine = start_time(os.getpid()) or 0
    assert status(os.getpid(), mine).is_supervised
    assert not status(os.getpid(), mine - 1).is_supervised  # an earlier process had this pid


def test_a_damaged_state_is_as_good_as_none(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.run.mkdir()
    for text in ("", "{}", '{"pid": 1, "started": 1, "since": "", "services": [{"state": "new"}]}'):
        home.stack_state.write_text(text)
        assert read_state(home) is None


def test_without_a_supervisor_services_are_stopped_and_keep_their_place() -> None:
    (gone,) = stopped([SERVICE])
    assert gone == ServiceStatus("a", "stopped", port=7, url="u")
