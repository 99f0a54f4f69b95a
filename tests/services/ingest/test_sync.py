"""One task for each case, however an import ended."""

from collections import Counter
from typing import Any

import pytest

from services.ingest.sync import CALM_S, LOOK_AGAIN_S
from tests.services.ingest.conftest import QUIET_S, Lab

HEART = "kind: segmentation\nlabels: [lv]\n"
FIVE = range(5)


class Killed(BaseException):
    """The process died here; nothing catches it."""


def per_case(lab: Lab) -> set[int]:
    return set(Counter(lab.label_studio.cases()).values())


def project(lab: Lab) -> int:
    (number,) = lab.label_studio.projects_by_id
    return number


def killed_while_importing(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The tasks of an import that Label Studio has taken and will commit some time."""
    late: list[dict[str, Any]] = []

    def die(number: int, tasks: list[dict[str, Any]]) -> Any:
        late.extend(tasks)
        raise Killed

    lab.configure(HEART)
    for number in FIVE:
        lab.drop_picture(f"{number}.png", seed=number)
    with monkeypatch.context() as patch:
        patch.setattr(lab.label_studio, "_import", die)
        with pytest.raises(Killed):
            lab.settle()
    lab.restart()
    return late


@pytest.mark.parametrize("after_s", [0.0, 20.0, CALM_S - QUIET_S])
def test_an_import_that_is_committed_long_after_a_kill_is_not_repeated(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, after_s: float
) -> None:
    late = killed_while_importing(lab, monkeypatch)
    lab.settle(after_s)
    assert lab.label_studio.cases() == []
    lab.label_studio._import(project(lab), late)
    lab.settle(3 * CALM_S)
    assert per_case(lab) == {1}


def test_tasks_of_an_import_that_was_given_up_too_early_are_removed(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    late = killed_while_importing(lab, monkeypatch)
    lab.settle(2 * CALM_S)
    assert per_case(lab) == {1}
    lab.label_studio._import(project(lab), late)
    assert per_case(lab) == {2}
    lab.settle(LOOK_AGAIN_S + QUIET_S)
    assert per_case(lab) == {1}


def test_of_two_tasks_the_one_that_somebody_worked_on_stays(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab.configure(HEART)
    for number in FIVE:
        lab.drop_picture(f"{number}.png", seed=number)
    lab.settle()
    rows = list(lab.label_studio.tasks_by_id.values())
    second = lab.label_studio._import(project(lab), rows)[1]["task_ids"]
    tasks = lab.label_studio.tasks_by_id
    tasks[second[0]]["annotations"] = [{"id": 1}]
    tasks[second[0]]["total_annotations"] = 1
    tasks[second[1]]["cancelled_annotations"] = 1
    tasks[second[2]]["draft_exists"] = True
    del tasks[second[3]]["draft_exists"]  # a Label Studio that does not tell
    lab.restart()
    lab.settle()
    kept = {second[0], second[1], rows[2]["id"], second[2], rows[3]["id"], second[3], rows[4]["id"]}
    assert set(tasks) == kept


def test_nothing_is_waited_for_when_no_task_is_missing(lab: Lab) -> None:
    lab.configure(HEART)
    lab.drop_picture("a.png", seed=1)
    lab.settle()
    lab.restart()
    lab.drop_picture("b.png", seed=2)
    lab.settle(2 * QUIET_S)
    assert len(lab.label_studio.cases()) == 2
