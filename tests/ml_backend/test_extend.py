"""Volumes in the push: predictions on the slices of a task, and slices appended to it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ml_backend.answers
import ml_backend.push
from imaging.labelstudio.appended import APPENDED
from imaging.labelstudio.stack import items_of, label_volume_from_results
from tests.imaging.dataset.volume_lab import SIDES, volume_record
from tests.ml_backend.fake_label_studio import FakeTask, Killed
from tests.ml_backend.fakes import (
    SCHEME,
    TASK,
    FakeVolumePredictor,
    add_case,
    add_volume,
    block_voxels,
)
from tests.ml_backend.test_app import Lab as AppLab
from tests.ml_backend.test_push import V1, V2, Lab

SHOWN = (0, 4, 8, 11)


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    lab = Lab(tmp_path)
    lab.load.make = FakeVolumePredictor
    yield lab
    lab.lanes.stop()


def add_task(lab: Lab, items: tuple[int, ...] = SHOWN) -> FakeTask:
    number = len(lab.label_studio.tasks) + 1
    return lab.label_studio.add_task(add_volume(lab.nas, f"case-{number:04d}", items))


def pushed(lab: Lab, task: FakeTask) -> list[dict[str, Any]]:
    """The regions of the newest prediction of a task."""
    *_, newest = (one for one in lab.label_studio.predictions.values() if one["task"] == task.id)
    return list(newest["result"])


def drawn(task: FakeTask, results: list[dict[str, Any]]) -> Any:
    """The label map that regions draw on the slices that a task shows."""
    record = volume_record()
    assert record.volume is not None
    return label_volume_from_results(results, SCHEME, record.volume.plane, items_of(task.data))


def truth(items: tuple[int, ...]) -> Any:
    labels_XYZ = (block_voxels() > 100).astype(np.uint8)
    hidden = [index for index in range(SIDES[2]) if index not in items]
    labels_XYZ[:, :, hidden] = 0
    return labels_XYZ


def test_a_stack_gets_regions_on_its_slices_and_those_where_the_model_is_least_sure(
    lab: Lab,
) -> None:
    task = add_task(lab)
    lab.promote(V1)
    assert lab.pusher.round() == 1
    items = items_of(task.data)
    # The fake is the less sure the higher the slice; of two neighbours one is taken.
    assert items[:4] == SHOWN and items[4:] == (1, 3, 5, 7, 10)
    assert task.data[APPENDED]["from"] == 4
    assert np.array_equal(drawn(task, pushed(lab, task)), truth(items))
    assert lab.label_studio.selected == V1 and lab.pusher.round() == 0


def test_slices_are_appended_once_in_a_tasks_life(lab: Lab) -> None:
    task = add_task(lab)
    lab.promote(V1)
    lab.pusher.round()
    before = dict(task.data)
    lab.promote(V2)
    lab.pusher.round()
    assert task.data == before and lab.versions() == {V2: 1}
    assert np.array_equal(drawn(task, pushed(lab, task)), truth(items_of(task.data)))


def test_a_volume_that_is_shown_whole_gets_nothing_appended(lab: Lab) -> None:
    task = add_task(lab, tuple(range(SIDES[2])))
    lab.promote(V1)
    lab.pusher.round()
    assert APPENDED not in task.data and len(items_of(task.data)) == SIDES[2]


@pytest.mark.parametrize("how", ["drafted", "skipped"])
def test_nothing_is_appended_once_somebody_has_begun(lab: Lab, how: str) -> None:
    task = add_task(lab)
    lab.promote(V1)
    if how == "drafted":
        now = "2026-03-14T09:15:02.123456Z"
        task.drafts.append({"created_at": now, "updated_at": now})
    else:
        task.skipped = 1
    lab.pusher.round()
    assert items_of(task.data) == SHOWN
    assert np.array_equal(drawn(task, pushed(lab, task)), truth(SHOWN))


def test_nothing_is_appended_to_what_is_answered_while_the_model_computes(lab: Lab) -> None:
    task = add_task(lab)
    lab.load.make = lambda version: Meanwhile(version, task)
    lab.promote(V1)
    assert lab.pusher.round() == 0
    assert items_of(task.data) == SHOWN


class Meanwhile(FakeVolumePredictor):
    """Somebody submits while it computes."""

    def __init__(self, version: str, task: FakeTask) -> None:
        super().__init__(version)
        self.task = task

    def predict(self, images: Any) -> Any:
        self.task.is_labelled = True
        return super().predict(images)


def test_killed_between_appending_and_storing_it_ends_the_same(lab: Lab) -> None:
    task = add_task(lab)
    lab.promote(V1)

    def die() -> None:
        lab.label_studio.before_import = None
        raise Killed

    lab.label_studio.before_import = die
    with pytest.raises(Killed):
        lab.pusher.round()
    assert APPENDED in task.data and lab.versions() == {}
    lab.new_pusher().round()
    assert items_of(task.data) == (*SHOWN, 1, 3, 5, 7, 10)
    assert np.array_equal(drawn(task, pushed(lab, task)), truth(items_of(task.data)))


def test_volumes_are_pushed_few_at_a_time_and_in_calls_that_are_not_too_large(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(5):
        add_task(lab)
    lab.promote(V1)
    assert lab.pusher.round() == 5
    assert lab.label_studio.imports == [4, 1]
    monkeypatch.setattr(ml_backend.push, "MAX_IMPORT_BYTES", 1)
    lab.promote(V2)
    lab.pusher.round()
    assert lab.label_studio.imports == [4, 1, 1, 1, 1, 1, 1]


def test_an_answer_that_no_editor_could_open_is_not_pushed(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(ml_backend.answers, "MAX_RLE_BYTES", 10)
    task = add_task(lab)
    lab.promote(V1)
    assert lab.pusher.round() == 0
    assert "brush strokes" in caplog.text and items_of(task.data) == SHOWN


def test_a_picture_in_a_task_of_volumes_is_left_out_with_the_reason(
    lab: Lab, caplog: pytest.LogCaptureFixture
) -> None:
    add_task(lab)
    lab.label_studio.add_task(add_case(lab.nas, "case-flat"))
    lab.promote(V1)
    assert lab.pusher.round() == 1
    assert "the case is a picture, and the model answers about volumes" in caplog.text


def test_the_live_answer_has_regions_on_the_slices_that_the_task_shows(tmp_path: Path) -> None:
    lab = AppLab(tmp_path)
    lab.load.make = FakeVolumePredictor
    data = add_volume(lab.nas, "case-1", SHOWN)
    lab.promote(V1)
    body = {"tasks": [{"id": 5, "data": data}], "params": {}}
    (entry,) = lab.client.post(f"/{TASK}/predict", json=body).json()["results"]
    assert (entry["model_version"], entry["score"]) == (V1, 0.6)
    task = FakeTask(5, data)
    assert np.array_equal(drawn(task, entry["result"]), truth(SHOWN))
    assert {region["item_index"] for region in entry["result"]} == {1, 2}
    lab.lanes.stop()
