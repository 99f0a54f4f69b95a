import errno
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from imaging.layout import MARKER, Nas, RunFolder
from imaging.runs import RunState, load_state, request_run, save_state
from services.trainer import supervise as module
from services.trainer.claims import Lease, claim, this_process
from services.trainer.exits import CRASHED, DONE, GIVEN_BACK, HOPELESS, PAUSED
from services.trainer.service import NO_ROOM, Trainer
from services.trainer.supervise import supervise
from stack.runtime.heartbeat import Heartbeat
from tests.services.trainer.runs import settings_of

TASK = "Task001_phantom"


@pytest.fixture
def nas(tmp_path: Path) -> Nas:
    root = tmp_path / "nas"
    root.mkdir()
    (root / MARKER).touch()
    return Nas(root)


def ask(nas: Nas) -> RunFolder:
    return request_run(nas, TASK, "snap-1", requested_by="person", reason="a test")


def lease_of(run: RunFolder) -> Lease:
    lease = claim(run, this_process(), 60.0)
    assert lease is not None
    return lease


def scripted(
    monkeypatch: pytest.MonkeyPatch, codes: list[int | Callable[[RunFolder], int]]
) -> None:
    """Attempts end with these codes, one after the other, without any process."""
    left = iter(codes)

    def one_attempt(lease: Lease, *_: object) -> int:
        code = next(left)
        return code if isinstance(code, int) else code(lease.run)

    monkeypatch.setattr(module, "_one_attempt", one_attempt)


def judged(run: RunFolder) -> int:
    save_state(run, replace(load_state(run), state="judged"))
    return DONE


def failed(run: RunFolder) -> int:
    save_state(run, replace(load_state(run), state="failed", message="all cases are left"))
    return HOPELESS


def see_through(nas: Nas, run: RunFolder, stop: threading.Event | None = None, **values: object):  # type: ignore[no-untyped-def]
    settings = settings_of(nas, **values)
    return supervise(lease_of(run), settings, stop or threading.Event(), lambda: None)


def test_a_crash_costs_an_attempt_and_the_next_one_goes_on(
    nas: Nas, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = ask(nas)
    scripted(monkeypatch, [-signal.SIGKILL, CRASHED, judged])
    assert see_through(nas, run) == "over"
    state = load_state(run)
    assert (state.state, state.attempts) == ("judged", 3)


def test_three_crashes_are_a_failure_with_the_last_reason(
    nas: Nas, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = ask(nas)
    scripted(monkeypatch, [CRASHED, CRASHED, -signal.SIGKILL])
    assert see_through(nas, run) == "over"
    state = load_state(run)
    assert (state.state, state.attempts) == ("failed", 3)
    assert "failed 3 times" in state.message
    assert "out of memory" in state.message


def test_a_run_that_failed_tells_what_its_last_attempt_met(
    nas: Nas, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = ask(nas)

    def stale(run: RunFolder) -> int:
        save_state(run, replace(load_state(run), message="request.json: Stale file handle"))
        return CRASHED

    scripted(monkeypatch, [stale, stale, stale])
    assert see_through(nas, run) == "over"
    assert load_state(run).message.endswith("The last time: request.json: Stale file handle")


def test_a_hopeless_run_is_not_tried_again(nas: Nas, monkeypatch: pytest.MonkeyPatch) -> None:
    run = ask(nas)
    scripted(monkeypatch, [failed])
    assert see_through(nas, run) == "over"
    assert load_state(run).message == "all cases are left"


@pytest.mark.parametrize(("code", "outcome"), [(PAUSED, "paused"), (GIVEN_BACK, "given back")])
def test_what_came_from_outside_costs_no_attempt(
    nas: Nas, monkeypatch: pytest.MonkeyPatch, code: int, outcome: str
) -> None:
    run = ask(nas)
    scripted(monkeypatch, [code])
    assert see_through(nas, run) == outcome
    assert load_state(run).attempts == 0


def test_a_run_that_is_over_is_left_alone(nas: Nas, monkeypatch: pytest.MonkeyPatch) -> None:
    run = ask(nas)
    save_state(run, RunState("judged"))
    scripted(monkeypatch, [])
    assert see_through(nas, run) == "over"


def test_a_crash_after_the_verdict_changes_nothing(
    nas: Nas, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = ask(nas)

    def judged_then_killed(run: RunFolder) -> int:
        judged(run)
        return -signal.SIGSEGV

    scripted(monkeypatch, [judged_then_killed])
    assert see_through(nas, run) == "over"
    assert load_state(run).message == ""


def real_child(monkeypatch: pytest.MonkeyPatch, program: str) -> None:
    monkeypatch.setattr(module, "child_command", lambda lease: [sys.executable, "-c", program])


def test_the_lease_is_kept_alive_while_the_child_works(
    nas: Nas, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = ask(nas)
    real_child(monkeypatch, "import time; time.sleep(1.5)")
    beats: list[float] = []
    lease = lease_of(run)
    os.utime(run.lease, (0, 0))
    module._one_attempt(
        lease,
        settings_of(nas, lease_stale_s=2.0),
        threading.Event(),
        lambda: beats.append(time.monotonic()),
    )
    assert time.time() - run.lease.stat().st_mtime < 5
    assert len(beats) >= 3


def test_asked_to_stop_the_child_is_asked_too(nas: Nas, monkeypatch: pytest.MonkeyPatch) -> None:
    run = ask(nas)
    stop = threading.Event()
    stop.set()
    real_child(monkeypatch, "import time; time.sleep(60)")
    began = time.monotonic()
    code = module._one_attempt(lease_of(run), settings_of(nas), stop, lambda: None)
    assert code == -signal.SIGTERM
    assert time.monotonic() - began < 10


def test_a_child_that_does_not_stop_is_killed(nas: Nas, monkeypatch: pytest.MonkeyPatch) -> None:
    run = ask(nas)
    stop = threading.Event()
    monkeypatch.setattr(module, "STOP_S", 0.5)
    deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)"
    real_child(monkeypatch, deaf)
    threading.Timer(0.7, stop.set).start()
    assert module._one_attempt(lease_of(run), settings_of(nas), stop, lambda: None) < 0


def test_a_lost_lease_ends_the_child(nas: Nas, monkeypatch: pytest.MonkeyPatch) -> None:
    run = ask(nas)
    lease = lease_of(run)
    (run.root / f".lease.{lease.number + 1}").touch()
    real_child(monkeypatch, "import time; time.sleep(60)")
    began = time.monotonic()
    outcome = supervise(lease, settings_of(nas), threading.Event(), lambda: None)
    assert outcome == "lost"
    assert time.monotonic() - began < 10


# --- the outermost loop ---------------------------------------------------------------------


def trainer_of(nas: Nas) -> Trainer:
    return Trainer(settings_of(nas), threading.Event())


def test_waiting_runs_are_worked_on_oldest_first(nas: Nas, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []

    def note(run: RunFolder) -> int:
        seen.append(run.run_id)
        return judged(run)

    made = []
    for number in (3, 1, 2):
        run = nas.run(TASK, f"run-2026010{number}T000000Z-0000")
        ask(nas).root.rename(run.root)
        made.append(run.run_id)
    scripted(monkeypatch, [note, note, note])
    assert trainer_of(nas).run_once()
    assert seen == sorted(made)


def test_a_run_that_another_trainer_holds_is_left_to_it(
    nas: Nas, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken, free = ask(nas), ask(nas)
    other = replace(this_process(), host="other", boot="other")
    assert claim(taken, other, 60.0) is not None
    scripted(monkeypatch, [judged])
    assert not trainer_of(nas).run_once()
    assert load_state(free).state == "judged"
    assert load_state(taken).state == "queued"


def test_a_run_is_free_again_once_it_is_given_back(
    nas: Nas, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = ask(nas)
    scripted(monkeypatch, [GIVEN_BACK])
    assert trainer_of(nas).look() == "given back"
    assert not run.lease.exists()
    scripted(monkeypatch, [judged])
    assert trainer_of(nas).run_once()


def test_an_unmounted_share_pauses_the_trainer_and_it_recovers(
    nas: Nas, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = ask(nas)
    trainer = trainer_of(nas)
    heartbeat = Heartbeat(trainer.settings.heartbeat_file)
    nas.marker.unlink()
    assert trainer.look() is None
    assert "not mounted" in heartbeat.check(60.0)
    assert load_state(run).state == "queued"
    nas.marker.touch()
    scripted(monkeypatch, [judged])
    assert trainer.look() == "over"
    assert heartbeat.check(60.0) == ""


def test_a_full_share_pauses_the_trainer(nas: Nas, monkeypatch: pytest.MonkeyPatch) -> None:
    run = ask(nas)
    scripted(monkeypatch, [PAUSED, judged])
    trainer = trainer_of(nas)
    assert trainer.look() == "paused"
    assert Heartbeat(trainer.settings.heartbeat_file).check(60.0) == NO_ROOM
    assert trainer.look() == "over"
    assert load_state(run).attempts == 1


def test_a_run_with_an_unreadable_state_is_set_aside_and_the_rest_goes_on(
    nas: Nas, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken, good = ask(nas), ask(nas)
    broken.state.write_text("{")
    scripted(monkeypatch, [judged])
    trainer = trainer_of(nas)
    assert trainer.run_once()
    assert load_state(good).state == "judged"
    assert trainer.broken == {broken.root}


def test_a_run_whose_state_cannot_be_read_just_now_is_looked_at_again(
    nas: Nas, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = ask(nas)
    save_state(run, RunState("queued"))
    trainer, read = trainer_of(nas), Path.read_bytes

    def stale(path: Path) -> bytes:
        if path == run.state:
            raise OSError(errno.ESTALE, "Stale file handle")
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", stale)
    assert trainer.look() is None
    monkeypatch.setattr(Path, "read_bytes", read)
    scripted(monkeypatch, [judged])
    assert trainer.look() == "over"
    assert load_state(run).state == "judged"


def test_a_bug_in_one_run_does_not_stop_the_next(nas: Nas, monkeypatch: pytest.MonkeyPatch) -> None:
    cursed, good = ask(nas), ask(nas)
    if cursed.run_id > good.run_id:
        cursed, good = good, cursed

    def bug(run: RunFolder) -> int:
        raise ValueError("a bug")

    scripted(monkeypatch, [bug, judged])
    trainer = trainer_of(nas)
    assert trainer.run_once()
    assert load_state(good).state == "judged"
    assert trainer.broken == {cursed.root}
    assert not cursed.lease.exists()
