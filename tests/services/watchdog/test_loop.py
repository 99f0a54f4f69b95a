import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from imaging.dataset import request as request_module
from imaging.dataset import snapshot as snapshot_module
from imaging.dataset.request import freeze_and_request
from imaging.dataset.snapshot import newest_snapshot
from imaging.dataset.view import shown_snapshot
from imaging.labelstudio.results import results_from_classes
from imaging.layout import Nas, RunFolder
from imaging.publish import write_json
from imaging.runs import RunState, list_runs, load_request, save_state
from imaging.task import RetrainPolicy, save_task
from services.watchdog import landed as landed_module
from services.watchdog import loop as loop_module
from services.watchdog import retrain as retrain_module
from services.watchdog.errors import SecondWatchdogError, StoppedError
from services.watchdog.loop import Pulse, StateLock, Watchdog, run
from stack.runtime.events import Alarm
from stack.runtime.heartbeat import Heartbeat
from tests.imaging.dataset.lab import CLASSIFICATION, TASK, answer, make_case, make_nas
from tests.services.watchdog.fake_source import FakeSource, FakeTime

NORMAL, PNEUMONIA = results_from_classes(["normal"]), results_from_classes(["pneumonia"])
RETRAIN = RetrainPolicy(min_new_labels=20, quiet_s=60, cooldown_s=600)
CONFIG = replace(CLASSIFICATION, retrain=RETRAIN)


class Killed(BaseException):
    """The process died here; nothing catches it."""


class Lab:
    """A watchdog over a small lab; `restart` is what follows a kill."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.nas: Nas = make_nas(root / "nas")
        self.task = self.nas.task(TASK)
        self.task.root.mkdir(parents=True)
        save_task(self.task.config, CONFIG)
        self.time = FakeTime()
        self.source = FakeSource(TASK, self.time)
        self.stop = threading.Event()
        self.heartbeat = Heartbeat(root / "state" / "heartbeat")
        self.watchdog: Watchdog | None = None
        self.restart()

    def restart(self) -> None:
        if self.watchdog:
            self.watchdog.close()
        pulse = Pulse(self.heartbeat, self.stop)
        self.watchdog = Watchdog(
            self.nas, self.root / "state", self.source, pulse, 600, self.time.clock
        )

    def round(self) -> str:
        assert self.watchdog is not None
        return self.watchdog.round()

    def rounds(self, seconds: float, every_s: float = 10) -> None:
        for _ in range(int(seconds / every_s)):
            self.time.wait(every_s)
            self.round()

    def label(self, numbers: range) -> None:
        for number in numbers:
            case = make_case(self.task, number)
            self.source.annotate(self.source.add_task(case), (NORMAL, PNEUMONIA)[number % 2])

    def runs(self) -> list[RunFolder]:
        return list(list_runs(self.nas))

    def report(self) -> dict[str, Any]:
        return dict(json.loads((self.root / "state" / f"{TASK}.json").read_text()))

    @property
    def health(self) -> str:
        return self.heartbeat.check(60)


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lab]:
    (tmp_path / "nas").mkdir()
    lab = Lab(tmp_path)
    # Requests are stamped with the lab's time, as cooling down is measured from there.
    monkeypatch.setattr("imaging.runs.utc_now", lambda: lab.time.now().isoformat())
    monkeypatch.setattr(os, "fsync", lambda _: None)  # what survives a power cut is not tested here
    yield lab
    assert lab.watchdog is not None
    lab.watchdog.close()


def test_fifty_labels_in_a_burst_make_exactly_one_run(lab: Lab) -> None:
    for start in range(0, 50, 5):
        lab.label(range(start, start + 5))
        lab.rounds(10)
    assert lab.runs() == []
    assert lab.report()["message"].startswith("quiet for")
    lab.rounds(60)
    (run,) = lab.runs()
    assert load_request(run).requested_by == "watchdog"
    newest = newest_snapshot(lab.task)
    assert newest is not None and len(newest.cases) == 50
    lab.rounds(2000, every_s=100)
    save_state(run, RunState("judged"))
    lab.rounds(2000, every_s=100)
    assert len(lab.runs()) == 1


def test_a_label_that_came_with_an_image_counts_long_before_the_poll(lab: Lab) -> None:
    case = make_case(lab.task, 0)
    folder = lab.task.case_annotations(case)
    folder.mkdir(parents=True)
    wake = threading.Event()
    alarm = Alarm(wake, keeps_paths=True)
    assert lab.watchdog is not None
    thread = threading.Thread(target=run, args=(lab.watchdog, 600.0, wake, alarm))
    alarm.start()
    thread.start()
    try:
        assert eventually(lambda: (lab.root / "state" / f"{TASK}.json").is_file())
        assert lab.report()["labelled"] == 0
        assert eventually(lambda: alarm.is_watching(folder))
        answer(lab.task, case, "normal", key="import-0123456789ab", origin="import")
        assert eventually(lambda: lab.report()["labelled"] == 1)
    finally:
        lab.stop.set()
        wake.set()
        thread.join()
        alarm.stop()


def eventually(claim: Callable[[], bool], within_s: float = 10.0) -> bool:
    deadline = time.monotonic() + within_s
    while not claim() and time.monotonic() < deadline:
        time.sleep(0.05)
    return claim()


def test_people_are_told_what_is_waited_for(lab: Lab) -> None:
    make_case(lab.task, 999)
    lab.label(range(12))
    lab.rounds(10)
    report = lab.report()
    assert report["message"] == "12 of 20 new labels"
    assert (report["labelled"], report["waiting"], report["new"]) == (12, 1, 12)
    lab.label(range(12, 20))
    lab.rounds(10)
    assert lab.report()["message"].startswith("quiet for 0 of 60 s")
    lab.rounds(60)
    (run,) = lab.runs()
    lab.rounds(10)
    assert lab.report()["message"] == f"{run.run_id} is queued"
    assert lab.report()["new"] == 0
    save_state(run, RunState("training"))
    lab.rounds(10)
    assert lab.report()["message"] == f"{run.run_id} is training"


def test_a_second_run_waits_for_the_first_for_new_labels_and_for_the_cooldown(lab: Lab) -> None:
    lab.label(range(20))
    lab.rounds(80)
    (first,) = lab.runs()
    lab.label(range(20, 40))
    lab.rounds(300, every_s=50)
    assert len(lab.runs()) == 1
    save_state(first, RunState("judged"))
    lab.rounds(100)
    assert len(lab.runs()) == 1 and "since the last request" in lab.report()["message"]
    lab.rounds(250)
    assert len(lab.runs()) == 2


@pytest.mark.parametrize("restart", [False, True])
def test_after_a_clock_that_was_ahead_was_put_right_the_policy_holds(
    lab: Lab, restart: bool
) -> None:
    right = lab.time.start
    lab.time.start = right + timedelta(days=30)
    lab.label(range(20))
    lab.rounds(80)
    save_state(lab.runs()[0], RunState("judged"))
    lab.time.start = right
    if restart:
        lab.restart()
    lab.rounds(700)
    lab.label(range(20, 40))
    while lab.report()["new"] < 20:  # until the next full comparison: they are behind the cursor
        lab.rounds(10)
    assert lab.report()["message"].startswith("quiet for 0 of 60 s")
    lab.rounds(70)
    assert len(lab.runs()) == 2
    for one in lab.runs():
        save_state(one, RunState("judged"))
    lab.rounds(700)
    for number in range(40, 44):
        lab.label(range(number, number + 1))
        lab.rounds(700, every_s=70)
        assert len(lab.runs()) == 2
    assert lab.report()["message"] == "4 of 20 new labels"


def test_edits_count_as_new_labels_and_deletions_do_not(lab: Lab) -> None:
    lab.label(range(30))
    lab.rounds(80)
    save_state(lab.runs()[0], RunState("judged"))
    tasks = list(lab.source.tasks.items())
    for number, task in tasks[:5]:
        lab.source.delete(number, *task.annotations)
    for number, task in tasks[5:12]:
        lab.source.edit(number, *task.annotations, result=[PNEUMONIA[0] | {"id": "other"}])
    lab.rounds(10)
    assert lab.report()["message"] == "7 of 20 new labels" and lab.report()["labelled"] == 25


def test_a_failed_run_is_not_asked_for_again_until_something_changes(lab: Lab) -> None:
    lab.label(range(20))
    lab.rounds(80)
    save_state(lab.runs()[0], RunState("failed"))
    lab.rounds(3000, every_s=100)
    lab.restart()
    lab.rounds(3000, every_s=100)
    assert len(lab.runs()) == 1
    lab.label(range(20, 40))
    lab.rounds(80)
    assert len(lab.runs()) == 2


def test_answers_that_train_the_same_make_no_run(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    lab.label(range(20))
    lab.rounds(80)
    save_state(lab.runs()[0], RunState("judged"))
    for number, task in lab.source.tasks.items():
        (annotation,) = task.annotations
        said = task.annotations[annotation]["result"]
        lab.source.edit(number, annotation, result=[said[0] | {"id": "redrawn"}])
    frozen: list[str] = []
    freeze = request_module.freeze_snapshot
    monkeypatch.setattr(
        request_module,
        "freeze_snapshot",
        lambda task, *rest: frozen.append(task.name) or freeze(task, *rest),
    )
    lab.rounds(700, every_s=50)
    assert lab.report()["message"].endswith("has trained on the same labels")
    assert len(lab.runs()) == 1
    assert len(frozen) <= 2  # not with every round


def test_a_run_that_a_person_asked_for_counts_like_any_other(lab: Lab) -> None:
    lab.label(range(19))
    lab.rounds(80)
    assert lab.runs() == []
    freeze_and_request(lab.nas, lab.task, CONFIG, requested_by="person", reason="now")
    lab.label(range(19, 30))
    lab.rounds(700, every_s=50)
    assert lab.report()["message"] == f"{lab.runs()[0].run_id} is queued"
    save_state(lab.runs()[0], RunState("judged"))
    lab.rounds(700, every_s=50)
    assert len(lab.runs()) == 1 and lab.report()["message"] == "11 of 20 new labels"


def test_imported_labels_count_and_need_no_project(lab: Lab) -> None:
    lab.source.names = {}
    for number in range(25):
        answer(
            lab.task,
            make_case(lab.task, number),
            ["normal", "pneumonia"][number % 2],
            key="import-0123456789ab",
            origin="import",
            annotator="import",
            landed_at=lab.time.now().isoformat(),
        )
    lab.rounds(80)
    assert len(lab.runs()) == 1


def test_data_shows_the_newest_snapshot_also_after_a_kill_while_it_was_written(lab: Lab) -> None:
    lab.label(range(20))
    lab.rounds(80)
    newest = newest_snapshot(lab.task)
    assert newest is not None and shown_snapshot(lab.task) == newest.id
    lab.task.data.rename(lab.task.root / "gone")
    lab.restart()
    lab.rounds(10)
    assert shown_snapshot(lab.task) == newest.id


def test_somebody_elses_data_folder_does_not_keep_runs_away(lab: Lab) -> None:
    lab.task.data.mkdir()
    (lab.task.data / "thesis.doc").touch()
    lab.label(range(20))
    lab.rounds(80)
    assert len(lab.runs()) == 1
    assert [path.name for path in lab.task.data.iterdir()] == ["thesis.doc"]


# --- kill -9 ------------------------------------------------------------------------------------


def die_before(owner: Any, name: str) -> Callable[[pytest.MonkeyPatch], None]:
    def arrange(patch: pytest.MonkeyPatch) -> None:
        def die(*_: object, **__: object) -> None:
            raise Killed

        patch.setattr(owner, name, die)

    return arrange


def die_after(owner: Any, name: str) -> Callable[[pytest.MonkeyPatch], None]:
    def arrange(patch: pytest.MonkeyPatch) -> None:
        act = getattr(owner, name)

        def die(*args: object, **fields: object) -> None:
            act(*args, **fields)
            raise Killed

        patch.setattr(owner, name, die)

    return arrange


KILL_POINTS = {
    "before an annotation is written": die_before(landed_module, "land"),
    "after an annotation was written": die_after(landed_module, "land"),
    "before a task is remembered": die_before(loop_module.Memory, "saw"),
    "before the cursor moves": die_before(loop_module.Memory, "move_cursor"),
    "before the snapshot is shown": die_before(snapshot_module, "publish"),
    "after the snapshot was shown": die_after(snapshot_module, "publish"),
    "before the run is requested": die_before(request_module, "request_run"),
    "after the run was requested": die_after(request_module, "request_run"),
    "before data/ is shown": die_before(retrain_module, "show_snapshot"),
    "before people are told": die_before(retrain_module, "write_json"),
}


@pytest.mark.parametrize("point", KILL_POINTS)
def test_a_kill_at_any_point_costs_no_label_and_makes_no_second_run(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    lab.label(range(24))
    with monkeypatch.context() as patch:
        KILL_POINTS[point](patch)
        with pytest.raises(Killed):
            lab.rounds(200, every_s=40)
    for _ in range(2):
        lab.restart()
        lab.rounds(200, every_s=40)
    assert lab.report()["labelled"] == 24
    assert len(list(lab.task.annotations.rglob("*.json"))) == 24
    (run,) = lab.runs()
    newest = newest_snapshot(lab.task)
    assert newest is not None and len(newest.cases) == 24
    assert load_request(run).snapshot == newest.id == shown_snapshot(lab.task)


# --- trouble ------------------------------------------------------------------------------------


def test_without_the_nas_the_loop_waits_and_goes_on_by_itself(lab: Lab) -> None:
    lab.label(range(20))
    lab.nas.marker.unlink()
    lab.rounds(100)
    assert "not mounted" in lab.health
    assert lab.runs() == [] and not lab.task.annotations.exists()
    lab.nas.marker.touch()
    lab.rounds(100)
    assert lab.health == "" and len(lab.runs()) == 1


def test_a_share_that_comes_back_as_it_was_yesterday_gets_its_labels_again(lab: Lab) -> None:
    lab.label(range(5))
    lab.rounds(10)
    lab.nas.marker.unlink()
    lab.rounds(10)
    for path in lab.task.annotations.rglob("*.json"):
        path.unlink()
    lab.nas.marker.touch()
    lab.rounds(10)
    assert len(list(lab.task.annotations.rglob("*.json"))) == 5


def test_a_full_disk_is_said_and_waited_for(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    lab.label(range(20))
    lab.rounds(20)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", no_space)
        lab.source.annotate(next(iter(lab.source.tasks)), PNEUMONIA, by=9)
        lab.rounds(100)
        assert lab.health == "no space is left"
        assert lab.runs() == []
    lab.rounds(100)
    assert lab.health == "" and len(lab.runs()) == 1
    assert len(list(lab.task.annotations.rglob("*.json"))) == 21


def no_space(_: int) -> None:
    raise OSError(28, "No space left on device")


def test_without_label_studio_nothing_is_decided(lab: Lab) -> None:
    lab.label(range(20))
    lab.rounds(10)
    lab.source.down = True
    lab.rounds(200)
    assert lab.runs() == [] and "Label Studio" in lab.health
    assert lab.report()["message"] == "Label Studio cannot be asked for labels"
    assert lab.report()["labelled"] == 20
    lab.source.down = False
    lab.rounds(100)
    assert lab.health == "" and len(lab.runs()) == 1


def test_one_task_in_trouble_leaves_the_others_alone(lab: Lab) -> None:
    other = lab.nas.task("Task000_broken")
    other.root.mkdir()
    other.config.write_text("kind: nonsense")
    lab.label(range(20))
    lab.rounds(100)
    assert len(lab.runs()) == 1
    assert "Task000_broken" in lab.health
    report = json.loads((lab.root / "state" / "Task000_broken.json").read_text())
    assert "kind is 'nonsense'" in report["message"]


def test_labels_land_while_task_yaml_is_broken_or_absent(lab: Lab) -> None:
    lab.task.config.unlink()
    lab.label(range(3))
    lab.rounds(10)
    assert lab.report()["message"] == "there is no task.yaml yet" and lab.health == ""
    lab.task.config.write_text("kind: [")
    lab.label(range(3, 6))
    lab.rounds(10)
    assert len(list(lab.task.annotations.rglob("*.json"))) == 6


def test_labels_nobody_can_use_are_tried_again_only_now_and_then(lab: Lab) -> None:
    save_task(lab.task.config, replace(CONFIG, retrain=replace(RETRAIN, min_new_labels=1)))
    task = lab.source.add_task(make_case(lab.task, 1))
    lab.source.annotate(task, [{"type": "choices", "value": {"choices": ["zebra"]}}])
    lab.rounds(100)
    assert "zebra" in lab.report()["message"]
    lab.source.annotate(task, NORMAL)
    lab.rounds(100)
    assert len(lab.runs()) == 1


def test_a_request_that_cannot_be_read_counts_as_none(lab: Lab) -> None:
    run = lab.nas.run(TASK, "run-20260101T000000Z-0000")
    write_json(run.request, {"run": "nothing else"})
    lab.label(range(20))
    lab.rounds(100)
    assert len(lab.runs()) == 2


def test_a_run_whose_state_cannot_be_read_blocks_the_next(lab: Lab) -> None:
    lab.label(range(20))
    lab.rounds(80)
    (run,) = lab.runs()
    run.state.write_text("{")
    lab.label(range(20, 50))
    lab.rounds(1000, every_s=50)
    assert len(lab.runs()) == 1
    assert lab.report()["message"] == f"the state of {run.run_id} cannot be read"


def test_an_end_in_the_middle_gives_the_rest_back(lab: Lab) -> None:
    lab.label(range(5))
    beats = []

    class Impatient(threading.Event):
        def is_set(self) -> bool:
            beats.append(1)
            return len(beats) > 7  # five rows of the listing, then the answers

    lab.stop = Impatient()
    lab.restart()
    with pytest.raises(StoppedError):
        lab.round()
    landed = len(list(lab.task.annotations.rglob("*.json")))
    assert 0 < landed < 5
    lab.stop = threading.Event()
    lab.restart()
    lab.round()
    assert len(list(lab.task.annotations.rglob("*.json"))) == 5


def test_the_next_round_comes_when_a_wait_is_over(lab: Lab) -> None:
    lab.label(range(20))
    lab.rounds(10)
    assert lab.watchdog is not None
    lab.rounds(52, every_s=52)
    assert 0 < lab.watchdog.next_wait_s(10) < 10
    lab.time.wait(lab.watchdog.next_wait_s(10) + 0.01)
    lab.round()
    assert len(lab.runs()) == 1
    assert lab.watchdog.next_wait_s(10) == 10


def test_only_one_watchdog_works_with_a_state_folder(tmp_path: Path) -> None:
    with StateLock(tmp_path), pytest.raises(SecondWatchdogError), StateLock(tmp_path):
        pass
    with suppress(SecondWatchdogError), StateLock(tmp_path):
        return
    pytest.fail("the lock was not let go")
