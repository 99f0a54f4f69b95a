"""What `labloop status` tells, from files alone."""

from pathlib import Path

import pytest

from imaging.publish import write_json
from imaging.runs import RunState, save_state
from stack.bootstrap import init_nas
from stack.home import Home
from stack.state import ServiceStatus, StackStatus, write_state
from stack.status import overview
from tests.stack.fake_stack import beat, write_stack

TASK = "Task001_heart"


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path / "home")
    init_nas(home.nas_folder).task(TASK).root.mkdir()
    return home


@pytest.fixture
def compose(tmp_path: Path) -> Path:
    return write_stack(tmp_path / "stack", a=beat(), b=beat())


def test_before_the_first_start_every_service_is_stopped(tmp_path: Path, compose: Path) -> None:
    found = overview(Home(tmp_path / "nowhere"), compose)
    assert [(one.name, one.state) for one in found.services] == [("a", "stopped"), ("b", "stopped")]
    assert not found.running and not found.is_healthy and not found.tasks and not found.note


def test_a_killed_supervisor_is_noticed(home: Home, compose: Path) -> None:
    write_state(home, StackStatus(1, 0, "", (ServiceStatus("a", "healthy", pid=5),)))
    found = overview(home, compose)
    assert "was killed" in found.note and not found.running
    assert [(one.state, one.pid) for one in found.services] == [("stopped", None)]


def test_a_stack_that_was_stopped_properly_needs_no_note(home: Home, compose: Path) -> None:
    gone = ServiceStatus("a", "stopped", deaths=3, last_lines=("boom",))
    write_state(home, StackStatus(1, 0, "", (gone,)))
    assert overview(home, compose).note == ""


def test_a_task_shows_its_open_run_and_its_champion(home: Home, compose: Path) -> None:
    (task,) = overview(home, compose).tasks
    assert (task.name, task.run, task.champion, task.message) == (TASK, None, None, "")
    for run_id, state in (
        ("run-20260314T091500Z-0001", RunState("judged", 1.0)),
        ("run-20260314T091501Z-0001", RunState("training", 0.25, "epoch 3")),
    ):
        run = home.nas.run(TASK, run_id)
        write_json(run.request, {"run": run_id})
        save_state(run, state)
    write_json(home.nas.model(TASK).champion, {"version": "model-1"})
    word = {"labelled": 12, "waiting": 3, "message": "8 more labels"}
    write_json(home.state("watchdog") / f"{TASK}.json", word)
    (task,) = overview(home, compose).tasks
    assert task.champion == "model-1"
    assert (task.labels, task.message) == ({"labelled": 12, "waiting": 3}, "8 more labels")
    assert (task.run, task.run_state) == ("run-20260314T091501Z-0001", "training 25% epoch 3")


def test_an_unreadable_file_of_a_task_is_told_and_hides_nothing_else(
    home: Home, compose: Path
) -> None:
    home.nas.task("Task002_liver").root.mkdir()
    home.nas.model(TASK).root.mkdir()
    home.nas.model(TASK).champion.write_text("{")
    heart, liver = overview(home, compose).tasks
    assert "champion.json" in heart.trouble and not liver.trouble


def test_a_share_that_is_not_mounted_is_told(home: Home, compose: Path) -> None:
    home.nas.marker.unlink()
    found = overview(home, compose)
    assert "not mounted" in found.note and not found.tasks
