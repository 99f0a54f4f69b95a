import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

import ml_backend.push
from imaging.errors import NasGoneError
from imaging.layout import Nas
from ml_backend.champion import Champions
from ml_backend.lanes import Lanes
from ml_backend.pictures import Pictures
from ml_backend.push import Pusher, Shelf
from stack.runtime.label_studio import LabelStudioDownError
from tests.ml_backend.fake_label_studio import FakeLabelStudio, Killed
from tests.ml_backend.fakes import TASK, FakeLoader, FakePredictor, add_case, point_at

V1 = "model-20260314T093102Z-41ac"
V2 = "model-20260315T093102Z-52bd"


class Lab:
    """A share with a champion, and a Label Studio with a project."""

    def __init__(self, root: Path) -> None:
        self.nas = Nas(root)
        self.nas.marker.touch()
        self.load = FakeLoader()
        self.champions = Champions(self.nas, self.load)
        self.lanes = Lanes(threads=2)
        self.lanes.start()
        self.label_studio = FakeLabelStudio(description=f"{TASK}\nThe heart, by hand.")
        self.api = self.label_studio.connect()
        self.pusher = self.new_pusher()

    def new_pusher(self, keep_old_s: float = 0.0) -> Pusher:
        shelf = Shelf(self.nas, self.champions, Pictures(self.nas), self.lanes)
        return Pusher(shelf, self.api, keep_old_s)

    def add_tasks(self, count: int) -> None:
        for _ in range(count):
            name = f"case-{len(self.label_studio.tasks) + 1:04d}"
            self.label_studio.add_task(add_case(self.nas, name))

    def promote(self, version: str) -> None:
        point_at(self.nas, version)
        self.champions.refresh()

    def versions(self) -> Counter[str]:
        return Counter(one["model_version"] for one in self.label_studio.predictions.values())


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lab]:
    monkeypatch.setattr(ml_backend.push, "CHUNK", 4)
    lab = Lab(tmp_path)
    yield lab
    lab.lanes.stop()


def test_without_a_champion_label_studio_is_left_alone(lab: Lab) -> None:
    lab.add_tasks(2)
    assert lab.pusher.round() == 0
    assert lab.label_studio.calls == 0


def test_every_unlabelled_task_gets_one_prediction_and_the_project_shows_them(lab: Lab) -> None:
    lab.add_tasks(10)
    lab.label_studio.tasks[3].is_labelled = True
    lab.promote(V1)
    assert lab.pusher.round() == 9
    assert lab.versions() == {V1: 9}
    assert lab.label_studio.held(3) == []
    assert lab.label_studio.selected == V1
    assert lab.pusher.round() == 0


def test_a_new_version_replaces_the_old_one(lab: Lab) -> None:
    lab.add_tasks(6)
    for version in (V1, V2, V1):
        lab.promote(version)
        lab.pusher.round()
        assert lab.versions() == {version: 6}
        assert lab.label_studio.selected == version


def test_tasks_that_arrive_later_get_predictions_too(lab: Lab) -> None:
    lab.add_tasks(2)
    lab.promote(V1)
    lab.pusher.round()
    lab.add_tasks(3)
    assert lab.pusher.round() == 3
    assert lab.versions() == {V1: 5}


def test_a_task_predicted_or_labelled_at_the_same_time_gets_no_second_one(lab: Lab) -> None:
    lab.add_tasks(3)
    opened = iter([1])

    def finish_late(version: str) -> FakePredictor:
        return ActingPredictor(version, lab, opened)

    lab.load.make = finish_late
    lab.promote(V1)
    lab.pusher.round()
    assert lab.label_studio.held(1) == [V1]
    assert lab.label_studio.held(2) == []
    assert lab.label_studio.held(3) == [V1]


class ActingPredictor(FakePredictor):
    """While it computes, task 1 is opened (and predicted live) and task 2 is labelled."""

    def __init__(self, version: str, lab: Lab, once: Iterator[int]) -> None:
        super().__init__(version)
        self.lab, self.once = lab, once

    def predict(self, images):  # type: ignore[no-untyped-def]
        for task in self.once:
            self.lab.label_studio.add_prediction(task, self.version)
            self.lab.label_studio.tasks[2].is_labelled = True
        return super().predict(images)


def test_duplicates_of_one_version_are_reduced_to_the_newest(lab: Lab) -> None:
    lab.add_tasks(3)
    lab.promote(V1)
    lab.pusher.round()
    newest = lab.label_studio.add_prediction(2, V1)
    lab.pusher.round()
    assert lab.label_studio.held(2) == [V1]
    assert newest in lab.label_studio.predictions


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_killed_at_any_call_and_started_again_it_ends_the_same(lab: Lab, after: bool) -> None:
    lab.add_tasks(5)
    lab.label_studio.tasks[5].is_labelled = True
    lab.promote(V1)
    lab.pusher.round()
    first_predictions = dict(lab.label_studio.predictions)
    lab.promote(V2)
    lab.label_studio.on_change = lambda: nobody_is_without(lab)
    for call in range(1, 100):
        lab.label_studio.predictions = dict(first_predictions)
        lab.label_studio.selected = V1
        killed = is_killed(lab, (call, after))
        assert [lab.label_studio.held(task) for task in range(1, 6)] == [[V2]] * 4 + [[]]
        assert lab.label_studio.selected == V2
        if not killed:
            break
    assert 6 < call < 99


def is_killed(lab: Lab, fuse: tuple[int, bool]) -> bool:
    """Push until the fuse blows, then start again."""
    lab.label_studio.calls, lab.label_studio.fuse = 0, fuse
    try:
        lab.new_pusher().round()
    except Killed:
        lab.new_pusher().round()
        return True
    return False


def nobody_is_without(lab: Lab) -> None:
    """Every unlabelled task has a prediction of the version that annotators are shown."""
    for task in lab.label_studio.tasks.values():
        if not task.is_labelled:
            assert lab.label_studio.selected in lab.label_studio.held(task.id)


def test_what_was_replaced_stays_for_open_editors(lab: Lab) -> None:
    """Label Studio answers 400 to a submit whose prediction is gone."""
    lab.add_tasks(2)
    pusher = lab.new_pusher(keep_old_s=60.0)
    for version in (V1, V2):
        lab.promote(version)
        pusher.round()
        pusher.round()
    assert lab.versions() == {V1: 2, V2: 2}
    assert lab.label_studio.selected == V2


@pytest.mark.parametrize(
    ("begun_s", "changed_s", "kept"),
    [(-600, -1, True), (-600, -400, False), (3600, 3600, False)],
    ids=["still drawing", "left hours ago", "begun with the new version"],
)
def test_what_was_replaced_stays_while_somebody_draws_on_it(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, begun_s: float, changed_s: float, kept: bool
) -> None:
    lab.add_tasks(2)
    pusher = lab.new_pusher(keep_old_s=60.0)
    lab.promote(V1)
    pusher.round()
    lab.promote(V2)
    pusher.round()
    later = datetime.now(UTC) + timedelta(seconds=120)
    draft = {
        "created_at": (later + timedelta(seconds=begun_s)).isoformat(),
        "updated_at": (later + timedelta(seconds=changed_s)).isoformat(),
    }
    lab.label_studio.tasks[1].drafts.append(draft)
    monkeypatch.setattr(ml_backend.push, "utc_clock", lambda: later)
    pusher.round()
    assert (V1 in lab.versions()) is kept


def test_predictions_that_somebody_else_imported_are_kept(lab: Lab) -> None:
    lab.add_tasks(1)
    for foreign in ("undefined", "their model/7", "../x"):
        lab.label_studio.add_prediction(1, foreign)
    lab.promote("first-import")
    lab.pusher.round()
    lab.promote(V1)
    lab.pusher.round()
    assert lab.versions() == {"undefined": 1, "their model/7": 1, "../x": 1, V1: 1}


def test_a_broken_picture_is_left_out_and_not_tried_in_every_round(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ml_backend.push, "RETRY_S", 0.3)
    flat = np.full((32, 32), 7, dtype=np.uint8)
    lab.label_studio.add_task(add_case(lab.nas, "case-flat", flat))
    lab.label_studio.add_task("/data/local-files/?d=/etc/passwd")
    lab.add_tasks(5)
    lab.promote(V1)
    assert lab.pusher.round() == 5
    assert lab.label_studio.selected == V1
    predictor = lab.champions.current(TASK)
    assert isinstance(predictor, FakePredictor)
    asked = len(predictor.batches)
    assert lab.pusher.round() == 0
    assert len(predictor.batches) == asked

    time.sleep(0.3)
    lab.pusher.round()
    assert len(predictor.batches) == asked + 1


def test_labels_that_the_project_does_not_know_hold_the_project_not_the_others(lab: Lab) -> None:
    lab.add_tasks(2)
    lab.label_studio.known_labels = frozenset({"kidney"})
    lab.promote(V1)
    assert lab.pusher.round() == 0
    calls = lab.label_studio.calls
    assert lab.pusher.round() == 0
    assert lab.label_studio.calls == calls + 1  # the list of projects


def test_label_studio_down_is_said_and_tried_again(lab: Lab) -> None:
    lab.add_tasks(2)
    lab.promote(V1)
    lab.label_studio.is_down = True
    with pytest.raises(LabelStudioDownError):
        lab.pusher.round()
    lab.label_studio.is_down = False
    assert lab.pusher.round() == 2


def test_a_share_that_goes_away_says_nothing_about_its_pictures(lab: Lab) -> None:
    lab.add_tasks(2)
    lab.promote(V1)
    lab.nas.marker.unlink()
    cases = lab.nas.task(TASK).cases
    cases.rename(cases.with_name("elsewhere"))
    with pytest.raises(NasGoneError):
        lab.pusher.round()
    cases.with_name("elsewhere").rename(cases)
    lab.nas.marker.touch()
    assert lab.pusher.round() == 2


def test_a_promotion_during_a_push_starts_over_with_the_new_version(lab: Lab) -> None:
    lab.add_tasks(6)
    lab.promote(V1)
    lab.label_studio.before_import = lambda: lab.promote(V2)
    lab.pusher.round()
    lab.label_studio.before_import = None
    lab.pusher.round()
    assert lab.versions() == {V2: 6}


def test_stopping_ends_a_push_at_the_next_chunk(lab: Lab) -> None:
    lab.add_tasks(12)
    lab.promote(V1)
    lab.label_studio.before_import = lab.pusher.stop
    lab.pusher.round()
    assert lab.versions() == {V1: 4}
    assert lab.label_studio.selected != V1
