"""Tasks of volumes in the real Label Studio: predictions by slice, appended slices, landing."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uvicorn

from imaging.dataset.annotations import current_answers
from imaging.dataset.cases import CaseRecord
from imaging.dataset.label_maps import land_label_map, shown_results
from imaging.dataset.truth import truth_of
from imaging.labels import label_scheme
from imaging.labelstudio.appended import APPENDED
from imaging.labelstudio.stack import (
    items_of,
    label_volume_from_results,
    results_from_label_volume,
)
from imaging.labelstudio.tasks import task_payload
from imaging.layout import TaskFolder
from imaging.task import TaskConfig
from ml_backend.app import Backend, create_app
from ml_backend.champion import Champions
from ml_backend.lanes import Lanes
from ml_backend.pictures import Pictures
from ml_backend.push import Pusher, Shelf
from services.ingest.project import ProjectLinks, ensure_project
from services.watchdog.memory import Memory
from services.watchdog.reconcile import REAL_CLOCK, Reconciler, Tools
from services.watchdog.source import LabelStudioSource
from tests.flow.back_ends import TOKEN
from tests.flow.conftest import RealLabelStudio, free_port
from tests.imaging.dataset.volume_lab import SIDES, drawn_volume, make_volume_case
from tests.ml_backend.fakes import FakeLoader, FakeVolumePredictor, point_at

pytestmark = [pytest.mark.label_studio, pytest.mark.slow]

VERSION = "model-20260314T093101Z-41ac"
SCHEME = label_scheme(["lv", "myo"])
CONFIG = TaskConfig(kind="segmentation", scheme=SCHEME, modality="CT")


class Drawer(FakeVolumePredictor):
    """Draws the same volume whatever it sees."""

    def _one(self, image: Any) -> Any:
        return replace(super()._one(image), labels_XYZ=drawn_volume())


@dataclass(slots=True)
class Lab:
    """A task folder of volumes, its project, a back end and a watchdog, all in this process."""

    server: RealLabelStudio
    task: TaskFolder
    project: int
    champions: Champions
    pusher: Pusher
    reconciler: Reconciler

    def add(self, case: CaseRecord, **more: Any) -> int:
        payload = task_payload(self.task.name, case, **more)
        (number,) = self.server.client.import_tasks(self.project, [payload])
        return number

    def computed(self) -> int:
        """How many volumes the model was asked about."""
        predictor = self.champions.current(self.task.name)
        assert isinstance(predictor, Drawer)
        return len(predictor.batches)

    def whole(self, number: int) -> dict[str, Any]:
        return dict(self.server.client.call("GET", f"/api/tasks/{number}/"))


@contextmanager
def lab(server: RealLabelStudio, task: TaskFolder, state: Path) -> Iterator[Lab]:
    champions = Champions(server.nas, FakeLoader(make=Drawer))
    lanes = Lanes(threads=2)
    shelf = Shelf(server.nas, champions, Pictures(server.nas), lanes)
    pusher = Pusher(shelf, server.client, keep_old_s=0.0)
    memory = Memory(state)
    tools = Tools(server.nas, LabelStudioSource(server.client), memory, lambda: None, REAL_CLOCK)
    reconciler = Reconciler(task, tools)
    reconciler.landed.look(lambda: None, everywhere=True)
    lanes.start()
    with served(Backend(champions, shelf.pictures, lanes, lambda _: [], lambda: None, dict)) as url:
        links = ProjectLinks(url, TOKEN, "", "")
        project = ensure_project(server.client, server.nas, task.name, CONFIG, links)
        assert project.missing == ()
        point_at(server.nas, VERSION, task.name)
        champions.refresh()
        yield Lab(server, task, project.id, champions, pusher, reconciler)
    lanes.stop()
    memory.close()


@contextmanager
def served(backend: Backend) -> Iterator[str]:
    """The back end's application behind a port."""
    port = free_port()
    config = uvicorn.Config(create_app(backend, TOKEN), port=port, log_config=None, lifespan="off")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join(10)


def drawn(case: CaseRecord, data: dict[str, Any], results: list[dict[str, Any]]) -> Any:
    assert case.volume is not None
    return label_volume_from_results(results, SCHEME, case.volume.plane, items_of(data))


def shown_part(items: tuple[int, ...]) -> Any:
    labels_XYZ = drawn_volume()
    labels_XYZ[:, :, [index for index in range(SIDES[2]) if index not in items]] = 0
    return labels_XYZ


def test_a_pushed_prediction_covers_the_slices_that_are_shown_and_those_appended(
    label_studio: RealLabelStudio, task_folder: TaskFolder, tmp_path: Path
) -> None:
    with lab(label_studio, task_folder, tmp_path) as ours:
        case = make_volume_case(task_folder, most=4)
        number = ours.add(case)
        assert ours.pusher.round() == 1 and ours.pusher.round() == 0
        # Nothing that the push asked for made Label Studio want a live prediction beside it.
        assert ours.computed() == 1
        task = ours.whole(number)
        items = items_of(task["data"])
        assert case.volume is not None
        assert (
            items[:4] == case.volume.key_slices
            and len(items) > 4
            and task["data"][APPENDED]["from"] == 4
        )
        [prediction] = task["predictions"]
        assert prediction["model_version"] == VERSION
        assert np.array_equal(drawn(case, task["data"], prediction["result"]), shown_part(items))
        project = label_studio.client.project(ours.project)
        assert project["model_version"] == VERSION

        # Somebody answers now: it lands with all of the slices.
        truth_XYZ = drawn_volume()
        answer = results_from_label_volume(truth_XYZ, SCHEME, case.volume.plane, items)
        label_studio.client.create_annotation(number, answer, lead_time_s=0.1)
        assert ours.reconciler.compare(ours.project) == 1
        assert ours.reconciler.set_aside == {}
        [record] = current_answers(task_folder, case.case)
        assert record.items == items
        truth = truth_of([record], case, CONFIG)
        assert truth.labels_XYZ is not None
        assert np.array_equal(truth.labels_XYZ[:, :, items], truth_XYZ[:, :, items])
        assert ours.reconciler.compare(ours.project) == 0


def test_nothing_is_appended_to_a_task_with_a_draft_or_a_skip(
    label_studio: RealLabelStudio, task_folder: TaskFolder, tmp_path: Path
) -> None:
    with lab(label_studio, task_folder, tmp_path) as ours:
        cases = [make_volume_case(task_folder, number, most=4) for number in (1, 2)]
        drafted, skipped = (ours.add(case) for case in cases)
        before = [task_payload(task_folder.name, case)["data"] for case in cases]
        body = {"result": [], "lead_time": 1.0}
        label_studio.client.call("POST", f"/api/tasks/{drafted}/drafts", body)
        body["was_cancelled"] = True
        label_studio.client.call("POST", f"/api/tasks/{skipped}/annotations/", body)
        ours.pusher.round()
        assert [ours.whole(number)["data"] for number in (drafted, skipped)] == before
        [prediction] = ours.whole(drafted)["predictions"]
        items = items_of(before[0])
        assert np.array_equal(drawn(cases[0], before[0], prediction["result"]), shown_part(items))


def test_a_volume_that_is_opened_is_predicted_live(
    label_studio: RealLabelStudio, task_folder: TaskFolder, tmp_path: Path
) -> None:
    with lab(label_studio, task_folder, tmp_path) as ours:
        case = make_volume_case(task_folder, most=5)
        task = ours.whole(ours.add(case))
        [prediction] = task["predictions"]
        assert prediction["model_version"] == VERSION and prediction["score"] == 0.6
        items = items_of(task["data"])
        assert len(items) == 5
        assert np.array_equal(drawn(case, task["data"], prediction["result"]), shown_part(items))


def test_an_imported_label_map_that_label_studio_repeats_does_not_land_and_stays_the_base(
    label_studio: RealLabelStudio, task_folder: TaskFolder, tmp_path: Path
) -> None:
    with lab(label_studio, task_folder, tmp_path) as ours:
        case = make_volume_case(task_folder, most=4)
        record = land_label_map(task_folder, case, drawn_volume(), SCHEME)
        number = ours.add(
            case,
            annotations=[record],
            results_of=lambda one: shown_results(task_folder, one, case, SCHEME),
        )
        ours.reconciler.landed.look(lambda: None, everywhere=True)
        assert ours.reconciler.compare(ours.project) == 0
        [counted] = current_answers(task_folder, case.case)
        assert counted.origin == "import"
        # A correction of the copy lands, with the slices that it is about.
        [copy] = ours.whole(number)["annotations"]
        label_studio.client.call("PATCH", f"/api/annotations/{copy['id']}/", {"result": []})
        assert ours.reconciler.compare(ours.project) == 1
        [counted] = current_answers(task_folder, case.case)
        assert case.volume is not None
        assert counted.origin == "label_studio" and counted.items == case.volume.key_slices
        truth = truth_of([counted], case, CONFIG, base=drawn_volume())
        assert truth.labels_XYZ is not None
        hidden = [k for k in range(SIDES[2]) if k not in case.volume.key_slices]
        assert not truth.labels_XYZ[:, :, case.volume.key_slices].any()
        assert np.array_equal(truth.labels_XYZ[:, :, hidden], drawn_volume()[:, :, hidden])
