"""Finding and ending processes."""

import os
import subprocess
import sys
import time
from pathlib import Path

from stack.processes import end_marked, is_alive, marked, marks, start_time, tied_to_parent

SLEEP = "import time; time.sleep(60)"
DEAF = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); {SLEEP}"


def spawn(code: str, home: Path, service: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code],
        env=os.environ | marks(home, service),
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def command_line(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_text()


def test_a_process_is_told_from_a_later_one_with_the_same_number() -> None:
    mine = start_time(os.getpid())
    assert mine is not None
    assert is_alive(os.getpid(), mine)
    assert not is_alive(os.getpid(), mine + 1)


def test_a_zombie_is_not_alive() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert start_time(process.pid) is None


def test_processes_of_a_home_are_found_and_ended_others_are_not(tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    with (
        spawn(SLEEP, here, "a") as a,
        spawn(DEAF, here, "b") as b,
        spawn(SLEEP, there, "a") as other,
    ):
        assert b.stdout is not None and b.stdout.readline()  # from now on it is deaf
        assert set(marked(here)) == {a.pid, b.pid}
        assert marked(here, "a") == [a.pid]
        assert end_marked(here, grace_s=0.2) == 2
        assert (a.wait(), b.wait()) == (-15, -9)
        assert other.poll() is None
        assert end_marked(there) == 1
        assert end_marked(there) == 0


def test_a_home_is_not_mistaken_for_one_whose_name_begins_alike(tmp_path: Path) -> None:
    with spawn(SLEEP, tmp_path / "home2", "a") as process:
        assert marked(tmp_path / "home") == []
        end_marked(tmp_path / "home2")
        process.wait()


def test_a_tied_process_ends_with_its_parent(tmp_path: Path) -> None:
    command = tied_to_parent([sys.executable, "-c", SLEEP])
    code = f"import subprocess; print(subprocess.Popen({command!r}).pid, flush=True); {SLEEP}"
    with spawn(code, tmp_path, "parent") as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        while not (words := command_line(child)) or "setpriv" in words:
            time.sleep(0.01)  # it has not tied itself yet
        parent.kill()
        parent.wait()
        deadline = time.monotonic() + 5.0
        while start_time(child) is not None and time.monotonic() < deadline:
            time.sleep(0.01)
        assert start_time(child) is None
