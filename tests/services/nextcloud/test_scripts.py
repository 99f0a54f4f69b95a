"""Nextcloud's hook and tools, without Nextcloud: what they ask occ for, and what they say."""

import os
import stat
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.services.nextcloud.conftest import HOOK, SHELL, TOOLS, Room

WELL = '{"installed":true,"maintenance":false,"needsDbUpgrade":false}'
SCRIPTS = (HOOK, *sorted(TOOLS.glob("*.sh")))


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_a_script_is_plain_shell(script: Path) -> None:
    subprocess.run([SHELL, "-n", str(script)], check=True)


def test_the_image_runs_the_hook_only_when_it_may_be_executed() -> None:
    assert HOOK.stat().st_mode & stat.S_IXOTH


# health.sh


@pytest.mark.parametrize(
    ("answer", "code", "reason"),
    [
        (WELL, 0, "ok"),
        (WELL.replace('"installed":true', '"installed":false'), 1, "not installed"),
        (WELL.replace('"maintenance":false', '"maintenance":true'), 1, "maintenance mode is on"),
        (WELL.replace('Upgrade":false', 'Upgrade":true'), 1, "older than Nextcloud"),
        ("<h1>Internal Server Error</h1> HTTP 500", 1, "HTTP 500"),
    ],
)
def test_health_has_one_line_of_reason(room: Room, answer: str, code: int, reason: str) -> None:
    room.program("curl", f"#!/bin/sh\ncat <<'E'\n{answer}\nE\n")
    found = room.run(TOOLS / "health.sh")
    assert found.returncode == code
    assert reason in found.stdout and found.stdout.count("\n") == 1


def test_health_tells_why_nobody_answers(room: Room) -> None:
    room.program("curl", "#!/bin/sh\necho 'curl: (7) Failed to connect' >&2\nexit 7\n")
    found = room.run(TOOLS / "health.sh")
    assert found.returncode == 1 and "Failed to connect" in found.stdout


# every.sh and beats.sh


def wait_for(look: Callable[[], bool], limit_s: float = 15.0) -> None:
    deadline = time.monotonic() + limit_s
    while not look():
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0.05)


def beats(room: Room) -> tuple[int, str]:
    found = room.run(TOOLS / "beats.sh")
    return found.returncode, found.stdout.strip()


def end(loop: subprocess.Popen[str]) -> tuple[float, str]:
    """How long it took to end, and what it said."""
    begun = time.monotonic()
    loop.terminate()
    said, _ = loop.communicate(timeout=15.0)
    assert loop.returncode == 0
    return time.monotonic() - begun, said


def test_a_loop_beats_and_ends_at_once(room: Room) -> None:
    assert beats(room) == (1, "the loop has not begun")
    count = room.folder / "count"
    loop = room.start(TOOLS / "every.sh", "1", "sh", "-c", f"echo x >> {count}")
    wait_for(lambda: count.is_file() and count.read_text().count("x") >= 2)
    wait_for(lambda: beats(room) == (0, "ok"))
    took_s, _ = end(loop)
    assert took_s < 1.0


def test_a_loop_survives_its_command_and_tells_the_reason(room: Room) -> None:
    flag = room.folder / "flag"
    loop = room.start(
        TOOLS / "every.sh", "1", "sh", "-c", f"[ -e {flag} ] || {{ echo no paper; exit 4; }}"
    )
    wait_for(lambda: "no paper" in beats(room)[1])
    code, reason = beats(room)
    assert code == 1 and reason.startswith("ended with 4 after ")
    flag.touch()
    wait_for(lambda: beats(room) == (0, "ok"))
    assert "all is well again" in end(loop)[1]


def test_a_loop_waits_until_nextcloud_can_be_worked_with(room: Room) -> None:
    room.change(installed=False)
    done = room.folder / "done"
    loop = room.start(TOOLS / "every.sh", "1", "touch", str(done))
    wait_for(lambda: beats(room) == (1, "waiting: Nextcloud is not installed yet"))
    room.change(installed=True, maintenance=True)
    wait_for(lambda: beats(room) == (1, "waiting: maintenance mode is on"))
    assert not done.exists()
    room.change(maintenance=False)
    wait_for(done.exists)
    end(loop)


def test_a_command_that_is_at_work_may_finish_its_step(room: Room) -> None:
    begun, done = room.folder / "begun", room.folder / "done"
    loop = room.start(TOOLS / "every.sh", "1", "sh", "-c", f"touch {begun}; sleep 1; touch {done}")
    wait_for(begun.exists)
    took_s, _ = end(loop)
    assert done.exists() and took_s < 5.0


def test_a_command_that_hangs_is_noticed(room: Room) -> None:
    (room.folder / "tmp" / "every").write_text("60\n")
    heartbeat = room.folder / "tmp" / "heartbeat"
    heartbeat.touch()
    os.utime(heartbeat, (time.time() - 400, time.time() - 400))
    assert beats(room) == (0, "ok")
    os.utime(heartbeat, (time.time() - 430, time.time() - 430))
    code, reason = beats(room)
    assert code == 1 and "expected one within 420 s" in reason


def test_an_unmounted_share_is_not_scanned(room: Room) -> None:
    room.change(mounts=[{"mount_id": 7, "mount_point": "/NAS"}])
    assert room.run(TOOLS / "rescan.sh").returncode == 0
    assert room.state["calls"][-1] == "occ files_external:scan 7"
    (room.folder / "nas" / ".labloop").unlink()
    found = room.run(TOOLS / "rescan.sh")
    assert found.returncode == 1 and "not mounted" in found.stdout
    assert len([call for call in room.state["calls"] if "scan" in call]) == 1


# The hook


def test_the_hook_makes_a_lab_of_a_fresh_nextcloud(room: Room) -> None:
    room.change(installed=False)
    found = room.run(HOOK)
    assert found.returncode == 0 and "could not" not in found.stdout, found.stdout
    state = room.state
    assert "install.php" in state["calls"]
    assert "lab" in state["groups"] and len(state["mounts"]) == 1
    assert state["apps"] == ["files"]
    settings = room.folder / "html" / "config" / "zz-labloop.config.php"
    assert settings.read_text() == (TOOLS / "labloop.config.php").read_text()
    assert stat.S_IMODE(settings.stat().st_mode) == 0o640


def test_a_second_start_makes_nothing_again(room: Room) -> None:
    room.run(HOOK)
    before = room.state
    assert room.run(HOOK).returncode == 0
    after = room.state
    second = after["calls"][len(before["calls"]) :]
    again = ("install.php", "occ files_external:create", "occ group:add ", "occ app:disable")
    assert not [call for call in second if call.startswith(again)]
    assert {**before, "calls": []} == {**after, "calls": []}


def test_no_nextcloud_without_an_administrator_is_ever_served(room: Room) -> None:
    room.change(installed=False, installs=False)
    assert room.run(HOOK).returncode == 1


def test_a_database_that_is_away_is_no_reason_to_install(room: Room) -> None:
    room.change(broken=["status"])
    found = room.run(HOOK)
    assert found.returncode == 1 and "status is broken" in found.stdout
    assert "install.php" not in room.state["calls"]


def test_an_upgrade_that_was_interrupted_is_done(room: Room) -> None:
    room.change(needsDbUpgrade=True)
    assert room.run(HOOK).returncode == 0
    assert "occ upgrade" in room.state["calls"]


@pytest.mark.parametrize("verb", ["files_external:create", "app:disable", "group:add"])
def test_a_setting_that_fails_is_told_and_stops_nothing(room: Room, verb: str) -> None:
    room.change(broken=[verb])
    found = room.run(HOOK)
    assert found.returncode == 0
    said = [line for line in found.stdout.splitlines() if "could not" in line]
    assert len(said) == 1 and f"{verb} is broken" in said[0]


def test_during_maintenance_nothing_is_settled(room: Room) -> None:
    room.change(maintenance=True)
    found = room.run(HOOK)
    assert found.returncode == 0 and "maintenance mode is on" in found.stdout
    assert not room.state["mounts"]


# user.sh

USER = TOOLS / "user.sh"
PASSWORD = "a long enough password"


def test_an_account_is_added_once_and_keeps_its_password(room: Room) -> None:
    assert room.run(USER, "add", "ann", "ann@lab.org", given=f"{PASSWORD}\n").returncode == 0
    again = room.run(USER, "add", "ann", "ann@lab.org", given="another long one\n")
    assert again.returncode == 0 and "password is as it was" in again.stdout
    assert room.state["people"]["ann"] == PASSWORD
    assert room.run(USER, "password", "ann", given="another long one").returncode == 0
    assert room.state["people"]["ann"] == "another long one"
    assert not [call for call in room.state["calls"] if PASSWORD in call], "seen in ps"
    assert room.run(USER, "list").stdout.split() == ["admin", "ann"]


def test_removing_twice_is_removing_once(room: Room) -> None:
    room.run(USER, "add", "ann", "ann@lab.org", given=PASSWORD)
    assert [room.run(USER, "remove", "ann").returncode for _ in range(2)] == [0, 0]
    assert "ann" not in room.state["people"]


def test_nextclouds_own_words_say_why_a_password_is_refused(room: Room) -> None:
    found = room.run(USER, "add", "ann", "ann@lab.org", given="short\n")
    assert found.returncode == 1
    assert found.stderr == "Password needs to be at least 10 characters long.\n"


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ((), 2),
        (("add", "ann"), 2),
        (("add", "--all", "a@b"), 2),
        (("add", "a b", "a@b"), 2),
        (("add", "ann", "nobody"), 2),
        (("add", "ann", "ann@lab.org"), 2),  # no password
        (("password", "nobody"), 1),
        (("disable", "admin"), 3),
        (("remove", "admin"), 3),
    ],
)
def test_wrong_words_are_refused(room: Room, words: tuple[str, ...], code: int) -> None:
    found = room.run(USER, *words)
    assert found.returncode == code and found.stderr.strip()
