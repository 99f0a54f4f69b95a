"""The back end and the real Label Studio: live predictions, pushes, kills, open editors."""

import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from imaging.layout import TaskFolder
from imaging.registry import promote, roll_back
from ml_backend.stored import StoredPredictions
from services.ingest.project import ProjectLinks, ensure_project
from stack.runtime.label_studio import LabelStudio, LabelStudioError
from tests.flow.back_ends import ROOT, TOKEN, BackEnd, one_label_bundle, running
from tests.flow.conftest import RealLabelStudio, Server
from tests.ml_backend.fakes import add_case, square_picture
from tests.phantoms import mask_config

pytestmark = [pytest.mark.label_studio, pytest.mark.slow]

V1, V2 = "model-20260314T093101Z-41ac", "model-20260314T093102Z-52bd"
QUICK = {"POLL_S": "0.1", "ML_BACKEND_PUSH_EVERY_S": "0.3", "ML_BACKEND_KEEP_OLD_S": "0"}


@dataclass(slots=True)
class Lab:
    """A task folder with two models, its project, and a back end connected to it."""

    task: TaskFolder
    server: RealLabelStudio
    back_end: BackEnd
    project: int

    @property
    def client(self) -> LabelStudio:
        return self.server.client

    def promote(self, version: str) -> None:
        promote(self.server.nas, self.task.name, version, "test")

    def add_tasks(self, count: int) -> list[int]:
        tasks = []
        for _ in range(count):
            name = f"case-{len(list(self.task.cases.glob('case-*'))):016x}"
            address = add_case(self.server.nas, name, square_picture(48), self.task.name)
            tasks.append({"data": {"image": address, "case": name}})
        return self.client.import_tasks(self.project, tasks)

    def predictions(self) -> dict[int, list[str]]:
        """Task → the versions of its predictions."""
        return {
            task["id"]: [one["model_version"] for one in task["predictions"]]
            for task in self.client.tasks(self.project)
        }

    def selected(self) -> str:
        return str(self.client.call("GET", f"/api/projects/{self.project}")["model_version"])

    def has_settled(self, version: str, tasks: list[int]) -> bool:
        held = self.predictions()
        return self.selected() == version and all(held[task] == [version] for task in tasks)

    def wait_for(self, look: Callable[[], bool], what: str) -> float:
        return self.back_end.wait_for(look, what, 90.0)


@contextmanager
def lab(
    server: RealLabelStudio, task: TaskFolder, folder: Path, pushes: bool = True, **settings: str
) -> Iterator[Lab]:
    """A running lab; without pushes its back end does not reach Label Studio."""
    for index, version in ((1, V1), (2, V2)):
        one_label_bundle(server.nas, task.name, version, mask_config(), index)
    back_end = BackEnd(server.nas, folder, label_studio_token=server.token)
    back_end.settings = QUICK | settings
    if pushes:
        back_end.label_studio_url = server.url
    with running(back_end):
        links = ProjectLinks(f"http://127.0.0.1:{back_end.port}", TOKEN, "", "")
        project = ensure_project(server.client, server.nas, task.name, mask_config(), links)
        assert project.missing == ()
        yield Lab(task, server, back_end, project.id)


def test_before_a_champion_annotators_see_no_error_and_nothing_is_stored(
    label_studio: RealLabelStudio,
    label_studio_server: Server,
    task_folder: TaskFolder,
    tmp_path: Path,
) -> None:
    with lab(label_studio, task_folder, tmp_path) as ours:
        [backend] = ours.client.call("GET", "/api/ml/", params={"project": ours.project})
        assert (backend["state"], backend["model_version"]) == ("CO", "no-model-yet")
        tasks = ours.add_tasks(2)
        log_before = len(label_studio_server.log)
        opened = ours.client.call("GET", f"/api/tasks/{tasks[0]}")
        streamed = ours.client.call("GET", f"/api/projects/{ours.project}/next")
        assert opened["predictions"] == streamed["predictions"] == []
        assert interactive(ours, backend["id"], tasks[0]) == {
            "data": {"model_version": "no-model-yet", "score": 0.0, "result": []}
        }
        assert set(ours.client.model_versions(ours.project).values()) <= {0}
        assert "[ERROR]" not in label_studio_server.log[log_before:]


def test_an_opened_task_is_predicted_live_and_once(
    label_studio: RealLabelStudio, task_folder: TaskFolder, tmp_path: Path
) -> None:
    with lab(label_studio, task_folder, tmp_path, pushes=False) as ours:
        tasks = ours.add_tasks(2)
        ours.promote(V1)
        ours.wait_for(lambda: ours.back_end.version(task_folder.name) == V1, "the champion serves")
        for _ in range(3):
            ours.client.call("GET", f"/api/projects/{ours.project}/next")
            opened = ours.client.call("GET", f"/api/tasks/{tasks[0]}")
        [prediction] = opened["predictions"]
        assert prediction["model_version"] == V1
        assert 0 < prediction["score"] <= 1
        [region] = prediction["result"]
        assert region["value"]["brushlabels"] == ["disc"]
        assert (region["original_height"], region["original_width"]) == (48, 56)
        [backend] = ours.client.call("GET", "/api/ml/", params={"project": ours.project})
        assert interactive(ours, backend["id"], tasks[1])["data"]["model_version"] == V1


def interactive(ours: Lab, backend: int, task: int) -> Any:
    """What a click brings once an admin has switched interactive pre-annotation on."""
    row = ours.client.call("GET", f"/api/ml/{backend}")
    kept = {key: row[key] for key in ("project", "url", "auth_method", "basic_auth_user")}
    wanted = kept | {"basic_auth_pass": TOKEN, "is_interactive": True}
    ours.client.call("PATCH", f"/api/ml/{backend}", wanted)
    body = {"task": task, "context": {"result": [{"id": "a", "type": "keypointlabels"}]}}
    return ours.client.call("POST", f"/api/ml/{backend}/interactive-annotating", body)


def test_a_promotion_is_pushed_and_a_roll_back_too(
    label_studio: RealLabelStudio, task_folder: TaskFolder, tmp_path: Path
) -> None:
    with lab(label_studio, task_folder, tmp_path) as ours:
        tasks = ours.add_tasks(7)
        labelled = tasks.pop(2)
        ours.client.create_annotation(labelled, [])
        ours.promote(V1)
        ours.wait_for(lambda: ours.has_settled(V1, tasks), "the first champion's predictions")
        assert ours.predictions()[labelled] == []
        ours.promote(V2)
        ours.wait_for(lambda: ours.has_settled(V2, tasks), "the second's in their place")
        later = ours.add_tasks(3)
        ours.wait_for(lambda: ours.has_settled(V2, tasks + later), "those of later tasks")
        roll_back(label_studio.nas, task_folder.name)
        ours.wait_for(lambda: ours.has_settled(V1, tasks + later), "the first champion's again")
        assert ours.predictions()[labelled] == []
        served = ours.client.call("GET", f"/api/projects/{ours.project}/next")["predictions"]
        assert [one["model_version"] for one in served] == [V1]


def test_once_pushes_what_is_missing_and_ends(
    label_studio: RealLabelStudio, task_folder: TaskFolder, tmp_path: Path
) -> None:
    with lab(label_studio, task_folder, tmp_path, pushes=False) as ours:
        tasks = ours.add_tasks(3)
        ours.promote(V1)
        command = [sys.executable, "-m", "ml_backend", "--once"]
        environment = ours.back_end.environment
        failed = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
        assert failed.returncode == 1
        assert "nothing more was pushed" in failed.stderr and "Traceback" not in failed.stderr
        environment |= {"LABEL_STUDIO_URL": label_studio.url}
        subprocess.run(command, cwd=ROOT, env=environment, check=True)
        assert ours.has_settled(V1, tasks)


def test_killed_while_it_pushes_it_leaves_no_duplicates(
    label_studio: RealLabelStudio, task_folder: TaskFolder, tmp_path: Path
) -> None:
    rng = random.Random(0)
    with lab(label_studio, task_folder, tmp_path) as ours:
        tasks = ours.add_tasks(120)
        ours.promote(V1)
        ours.wait_for(lambda: ours.has_settled(V1, tasks), "the first champion's predictions")
        ours.promote(V2)
        for _ in range(5):
            time.sleep(rng.uniform(0.5, 1.5))
            ours.back_end.stop(signal.SIGKILL)
            ours.back_end.start()
        ours.wait_for(lambda: ours.has_settled(V2, tasks), "exactly one prediction for each task")
        assert ours.client.model_versions(ours.project) == {V2: len(tasks)}


def test_an_editor_that_is_open_can_still_submit_what_it_began_with(
    label_studio: RealLabelStudio, task_folder: TaskFolder, tmp_path: Path
) -> None:
    with lab(label_studio, task_folder, tmp_path, ML_BACKEND_KEEP_OLD_S="600") as ours:
        tasks = ours.add_tasks(3)
        ours.promote(V1)
        ours.wait_for(lambda: ours.has_settled(V1, tasks), "the first champion's predictions")
        opened = ours.client.call("GET", f"/api/projects/{ours.project}/next")
        [prediction] = opened["predictions"]
        ours.promote(V2)
        ours.wait_for(lambda: ours.selected() == V2, "annotators are shown the second champion")
        time.sleep(2.0)
        body = {"result": prediction["result"], "parent_prediction": prediction["id"]}
        path = f"/api/tasks/{opened['id']}/annotations/"
        assert ours.client.call("POST", path, body)["parent_prediction"] == prediction["id"]

        # Why what was replaced is kept for a while:
        other = next(task for task in tasks if task != opened["id"])
        gone = next(
            one["id"]
            for task in ours.client.tasks(ours.project)
            for one in task["predictions"]
            if task["id"] == other and one["model_version"] == V1
        )
        ours.client.delete_predictions(ours.project, V1)
        with pytest.raises(LabelStudioError, match="parent_prediction"):
            ours.client.call(
                "POST", f"/api/tasks/{other}/annotations/", body | {"parent_prediction": gone}
            )


def test_label_studios_filters_mean_what_the_pusher_thinks(
    label_studio: RealLabelStudio, task_folder: TaskFolder
) -> None:
    """Holds `tests/ml_backend/fake_label_studio.py` to the real one."""
    client, nas = label_studio.client, label_studio.nas
    links = ProjectLinks("", "", "", "")
    project = ensure_project(client, nas, task_folder.name, mask_config(), links).id
    stored = StoredPredictions(client, project)
    tasks = client.import_tasks(
        project, [{"data": {"image": f"/{n}.png", "case": f"case-{n}"}} for n in range(5)]
    )
    held = [(0, V1), (0, V1), (1, V1), (1, V2), (2, V2)]
    predictions = [
        {"task": tasks[n], "model_version": version, "score": 0.5, "result": []}
        for n, version in held
    ]
    stored.add(predictions)
    client.create_annotation(tasks[3], [])
    before = datetime.now(UTC)
    client.call("POST", f"/api/tasks/{tasks[4]}/drafts", {"result": [], "lead_time": 1})

    assert [one.id for one in stored.lacking(V1, 0, 10)] == [tasks[2], tasks[4]]
    assert [one.id for one in stored.lacking(V1, tasks[2], 10)] == [tasks[4]]
    assert [one.id for one in stored.lacking(V2, 0, 1)] == [tasks[0]]
    assert stored.lacking(V1, 0, 10)[0].data["case"] == "case-2"
    assert stored.versions() == Counter(version for _, version in held)
    assert stored.tasks_with(V1) == 2
    [duplicates] = stored.duplicates(V1)
    assert [one["task"] for one in duplicates] == [tasks[0]] * 2
    assert duplicates[0]["id"] < duplicates[1]["id"]
    assert list(stored.duplicates(V2)) == []
    now = datetime.now(UTC)
    assert stored.has_draft(before=now, after=before)
    assert not stored.has_draft(before=before, after=before)
    assert not stored.has_draft(before=now, after=now + timedelta(seconds=1))
    stored.remove(int(duplicates[0]["id"]))
    assert stored.versions() == {V1: 2, V2: 2}
    stored.select(V2)
    assert stored.remove_version(V1) == 2
    assert client.call("GET", f"/api/projects/{project}")["model_version"] == V2
    with pytest.raises(LabelStudioError, match="doesn't exist"):
        stored.select("model-unheard-of")
