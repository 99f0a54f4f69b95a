from pathlib import Path

import pytest

from imaging.dataset.request import freeze_and_request
from imaging.errors import SnapshotError
from imaging.runs import RunState, list_runs, load_request, save_state
from tests.imaging.dataset.lab import SEGMENTATION, TASK, label_cases, make_nas


def test_a_request_names_the_snapshot_of_what_is_labelled_now(tmp_path: Path) -> None:
    nas = make_nas(tmp_path)
    task = nas.task(TASK)
    label_cases(task, range(4))
    run = freeze_and_request(
        nas, task, SEGMENTATION, requested_by="person", reason="labloop train --now"
    )
    request = load_request(run)
    assert (task.snapshot(request.snapshot) / "manifest.json").is_file()
    assert request.requested_by == "person" and request.reason == "labloop train --now"


def test_the_watchdog_never_asks_twice_for_the_same_and_a_person_may(tmp_path: Path) -> None:
    nas = make_nas(tmp_path)
    task = nas.task(TASK)
    label_cases(task, range(4))

    def ask(who: str) -> str:
        return freeze_and_request(
            nas, task, SEGMENTATION, requested_by=who, reason=""  # type: ignore[arg-type]
        ).run_id  # fmt: skip

    first = ask("watchdog")
    assert ask("watchdog") == first
    assert ask("person") == first  # it waits already
    save_state(nas.run(TASK, first), RunState("failed"))
    assert ask("watchdog") == first
    again = ask("person")
    assert again != first
    assert len(list(list_runs(nas))) == 2


def test_without_labels_there_is_no_run(tmp_path: Path) -> None:
    nas = make_nas(tmp_path)
    with pytest.raises(SnapshotError):
        freeze_and_request(nas, nas.task(TASK), SEGMENTATION, requested_by="person", reason="")
    assert list(list_runs(nas)) == []
