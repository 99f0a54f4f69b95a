from pathlib import Path

import pytest

from imaging.errors import RecordError
from imaging.layout import Nas
from imaging.publish import write_json
from imaging.runs import (
    RunState,
    is_over,
    list_runs,
    load_request,
    load_state,
    request_run,
    save_state,
)


def test_a_requested_run_is_queued_until_the_trainer_speaks(tmp_path: Path) -> None:
    nas = Nas(tmp_path)
    run = request_run(nas, "Task001_x", "snap-1", requested_by="person", reason="because")
    assert load_request(run).snapshot == "snap-1"
    assert load_state(run).state == "queued" and not is_over(run)
    save_state(run, RunState("judged", 1.0, "promoted", version="model-1"))
    assert is_over(run) and load_state(run).version == "model-1"
    assert [one.run_id for one in list_runs(nas)] == [run.run_id]


def test_a_folder_without_request_is_no_run(tmp_path: Path) -> None:
    nas = Nas(tmp_path)
    (nas.run("Task001_x", "run-1").root).mkdir(parents=True)
    assert list(list_runs(nas)) == [] == list(list_runs(nas, "Task002_y"))


def test_a_broken_state_is_an_error_not_a_guess(tmp_path: Path) -> None:
    run = Nas(tmp_path).run("Task001_x", "run-1")
    write_json(run.state, {"state": "dreaming"})
    with pytest.raises(RecordError, match="dreaming"):
        load_state(run)
    write_json(run.state, {"state": "claimed"})
    with pytest.raises(RecordError, match="progress"):
        load_state(run)
    write_json(run.request, {"run": "run-1"})
    with pytest.raises(RecordError, match="task"):
        load_request(run)
