"""Label Studio as it really is: bootstrap, projects, storages, webhooks, predictions."""

import base64
import re
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image

from imaging.labelstudio.results import results_from_label_map
from imaging.layout import TaskFolder
from imaging.task import TaskConfig, parse_task
from services.ingest.project import ProjectLinks, ensure_project
from stack.runtime.label_studio import LabelStudio, LabelStudioError
from tests.fakes.receiver import Receiver, Request, receiver
from tests.flow.conftest import RealLabelStudio, Server

pytestmark = pytest.mark.label_studio

NO_LINKS = ProjectLinks("", "", "", "")
ML_TOKEN = "ml-token"


def config(**keys: object) -> TaskConfig:
    return parse_task({"kind": "segmentation", "labels": ["lv", "rv"]} | keys, where="test")


def make_project(
    label_studio: RealLabelStudio, task: TaskFolder, links: ProjectLinks = NO_LINKS
) -> int:
    found = ensure_project(label_studio.client, label_studio.nas, task.name, config(), links)
    assert found.missing == ()
    return found.id


def import_cases(label_studio: RealLabelStudio, project: int, count: int) -> list[int]:
    tasks = [{"data": {"image": f"/case-{n}.png", "case": f"case-{n}"}} for n in range(count)]
    return label_studio.client.import_tasks(project, tasks)


def wait_for(claim: Callable[[], bool], within_s: float = 10.0) -> bool:
    deadline = time.monotonic() + within_s
    while not claim() and time.monotonic() < deadline:
        time.sleep(0.05)
    return claim()


def answers_like_ml_backend(task: str, version: str) -> Callable[[Request], tuple[int, object]]:
    """Routes below /<task>, behind HTTP Basic, as Label Studio expects them."""
    basic = "Basic " + base64.b64encode(f"labloop:{ML_TOKEN}".encode()).decode()

    def answer(request: Request) -> tuple[int, object]:
        if request.headers.get("authorization") != basic:
            return 401, {}
        if request.path == f"/{task}/predict":
            return 200, {"results": [[] for _ in request.body["tasks"]]}
        known = {f"/{task}/health": {"status": "UP"}, f"/{task}/setup": {"model_version": version}}
        return (200, known[request.path]) if request.path in known else (404, {})

    return answer


# --- the start ------------------------------------------------------------------------------


def test_the_token_works_without_a_click(label_studio: RealLabelStudio) -> None:
    whoami = label_studio.client.call("GET", "/api/current-user/whoami")
    assert whoami["email"] == label_studio.username


def test_the_admin_can_log_in_and_strangers_cannot_sign_up(label_studio: RealLabelStudio) -> None:
    with httpx.Client(base_url=label_studio.url, trust_env=False) as browser:
        login = browser.get("/user/login")
        form = {
            "csrfmiddlewaretoken": csrf_of(login.text),
            "email": label_studio.username,
            "password": label_studio.password,
        }
        answer = browser.post("/user/login", data=form, headers={"Referer": label_studio.url})
        assert answer.status_code == 302
        assert browser.get("/api/current-user/whoami").status_code == 200
    with httpx.Client(base_url=label_studio.url, trust_env=False) as browser:
        form["csrfmiddlewaretoken"] = csrf_of(browser.get("/user/signup").text)
        form["email"] = "stranger@example.org"
        answer = browser.post("/user/signup", data=form, headers={"Referer": label_studio.url})
        assert answer.status_code == 403


def csrf_of(page: str) -> str:
    found = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', page)
    assert found is not None
    return found[1]


def test_nothing_is_sent_home_and_no_secret_is_logged_or_listed(
    label_studio: RealLabelStudio, label_studio_server: Server
) -> None:
    with httpx.Client(base_url=label_studio.url, trust_env=False) as browser:
        page = browser.get("/user/login").text
    assert "APP_SETTINGS.collect_analytics = false" in page
    assert "ingest.sentry.io" not in page
    assert label_studio_server.process is not None
    arguments = Path(f"/proc/{label_studio_server.process.pid}/cmdline").read_text()
    for name in ("password", "token", "key"):
        secret = (label_studio_server.home / name).read_text()
        assert secret not in label_studio_server.log
        assert secret not in arguments


@pytest.mark.slow
@pytest.mark.parametrize("after_s", [1.0, 5.0])
def test_a_start_that_was_killed_is_repaired_by_the_next(
    label_studio: RealLabelStudio, tmp_path: Path, after_s: float
) -> None:
    server = Server(tmp_path / "home")
    server.start()
    time.sleep(after_s)
    server.kill()
    server.start()
    try:
        server.wait_until_up()
        with LabelStudio(server.url, server.token) as client:
            assert client.call("GET", "/api/current-user/whoami")["email"] == server.username
            assert len(client.call("GET", "/api/users/")) == 1
    finally:
        server.stop()


# --- projects -------------------------------------------------------------------------------


def test_a_project_is_made_once_and_follows_task_yaml(
    label_studio: RealLabelStudio, task_folder: TaskFolder
) -> None:
    client, nas, task = label_studio.client, label_studio.nas, task_folder.name
    first = ensure_project(client, nas, task, config(), NO_LINKS)
    before = client.project(first.id)
    assert ensure_project(client, nas, task, config(), NO_LINKS) == first
    assert client.project(first.id) == before
    more = config(labels=["lv", "rv", "myo"], annotation={"sampling": "uniform", "per_task": 2})
    changed = ensure_project(client, nas, task, more, NO_LINKS)
    assert (changed.id, changed.missing) == (first.id, ())
    project = client.project(first.id)
    assert 'value="myo"' in project["label_config"]
    assert (project["sampling"], project["maximum_annotations"]) == ("Uniform sampling", 2)
    assert client.find_project(task) == changed


def test_a_label_in_use_cannot_be_taken_away_and_the_reason_is_told(
    label_studio: RealLabelStudio, task_folder: TaskFolder
) -> None:
    project = make_project(label_studio, task_folder)
    [number] = import_cases(label_studio, project, 1)
    labels_HW = np.zeros((16, 24), dtype=np.uint8)
    labels_HW[4:9, 3:11] = 2
    results = results_from_label_map(labels_HW, config().scheme)
    label_studio.client.create_annotation(number, results)
    without = config(labels=["lv"])
    found = ensure_project(
        label_studio.client, label_studio.nas, task_folder.name, without, NO_LINKS
    )
    assert len(found.missing) == 1 and found.missing[0].startswith("labels: label 'rv'")
    assert 'value="rv"' in label_studio.client.project(project)["label_config"]


def test_pictures_are_served_to_users_only(
    label_studio: RealLabelStudio, task_folder: TaskFolder
) -> None:
    case = task_folder.case("case-0")
    case.mkdir(parents=True)
    Image.fromarray(np.zeros((8, 9), dtype=np.uint8)).save(case / "image.png")
    path = f"/data/local-files/?d=dataset/{task_folder.name}/cases/case-0/image.png"
    http = label_studio.client.http
    assert http.get(path).status_code == 404  # no project serves this folder yet
    make_project(label_studio, task_folder)
    served = http.get(path)
    assert served.status_code == 200
    assert served.content == (case / "image.png").read_bytes()
    assert httpx.get(label_studio.url + path, trust_env=False).status_code in (401, 403)
    outside = f"/data/local-files/?d=dataset/{task_folder.name}/cases/../../../.labloop"
    assert http.get(outside).status_code >= 400


# --- the webhook ----------------------------------------------------------------------------


def test_the_webhook_tells_of_every_change_with_the_secret(
    label_studio: RealLabelStudio, task_folder: TaskFolder
) -> None:
    with receiver() as watchdog:
        links = ProjectLinks("", "", f"{watchdog.url}/hook", "s3cret")
        project = make_project(label_studio, task_folder, links)
        [number] = import_cases(label_studio, project, 1)
        annotation = label_studio.client.create_annotation(number, [], lead_time_s=3.5)
        label_studio.client.call("PATCH", f"/api/annotations/{annotation}/", {"result": []})
        label_studio.client.call("DELETE", f"/api/annotations/{annotation}/")
        expected = ["ANNOTATION_CREATED", "ANNOTATION_UPDATED", "ANNOTATIONS_DELETED"]
        assert wait_for(lambda: actions(watchdog) == expected)
        assert {one.headers["x-labloop-secret"] for one in watchdog.requests} == {"s3cret"}
        assert watchdog.requests[0].body == {"action": "ANNOTATION_CREATED"}  # and no answer


def actions(watchdog: Receiver) -> list[str]:
    return [request.body["action"] for request in watchdog.requests]


# --- the back end and predictions -----------------------------------------------------------


def test_a_back_end_is_connected_with_path_and_password_once_it_answers(
    label_studio: RealLabelStudio, task_folder: TaskFolder
) -> None:
    client, nas, task = label_studio.client, label_studio.nas, task_folder.name
    with receiver(lambda request: (503, {})) as backend:
        links = ProjectLinks(backend.url, ML_TOKEN, "", "")
        down = ensure_project(client, nas, task, config(), links)
        assert len(down.missing) == 1 and down.missing[0].startswith("ml-backend: ")
        assert client.call("GET", "/api/ml/", params={"project": down.id}) == []
        backend.answer = answers_like_ml_backend(task, "model-1")
        up = ensure_project(client, nas, task, config(), links)
        assert (up.id, up.missing) == (down.id, ())
        [row] = client.call("GET", "/api/ml/", params={"project": up.id})
        assert (row["state"], row["model_version"]) == ("CO", "model-1")
        assert client.call("GET", "/api/webhooks/", params={"project": up.id}) == []
        import_cases(label_studio, up.id, 1)
        backend.requests.clear()
        client.call("GET", f"/api/projects/{up.id}/next")
        assert backend.paths() == [f"/{task}/health", f"/{task}/setup", f"/{task}/predict"]


def test_the_least_certain_prediction_is_served_first(
    label_studio: RealLabelStudio, task_folder: TaskFolder
) -> None:
    client = label_studio.client
    with receiver(answers_like_ml_backend(task_folder.name, "model-2")) as backend:
        project = make_project(
            label_studio, task_folder, ProjectLinks(backend.url, ML_TOKEN, "", "")
        )
        tasks = import_cases(label_studio, project, 5)
        scores = [0.9, 0.15, 0.7, 0.05, 0.5]
        for version, given in (("model-1", scores[::-1]), ("model-2", scores)):
            predictions = [
                {"task": number, "model_version": version, "score": score, "result": []}
                for number, score in zip(tasks, given, strict=True)
            ]
            assert client.import_predictions(project, predictions) == len(tasks)
        client.select_model_version(project, "model-2")
        backend.requests.clear()
        served = []
        for _ in tasks:
            task = client.call("GET", f"/api/projects/{project}/next")
            assert [one["model_version"] for one in task["predictions"]] == ["model-2"]
            served.append(scores[tasks.index(task["id"])])
            client.create_annotation(task["id"], [])
        assert served == sorted(scores)
        assert f"/{task_folder.name}/predict" not in backend.paths()
        again = ensure_project(
            client,
            label_studio.nas,
            task_folder.name,
            config(),
            ProjectLinks(backend.url, ML_TOKEN, "", ""),
        )
        assert again.model_version == "model-2"  # looking after the project does not unselect it
        assert client.delete_predictions(project, "model-1") == len(tasks)
        assert client.model_versions(project)["model-2"] == len(tasks)


def test_predictions_with_an_unknown_label_are_not_lost_in_silence(
    label_studio: RealLabelStudio, task_folder: TaskFolder
) -> None:
    project = make_project(label_studio, task_folder)
    [number] = import_cases(label_studio, project, 1)
    labels_HW = np.ones((4, 5), dtype=np.uint8)
    results = results_from_label_map(labels_HW, config(labels=["spleen"]).scheme)
    prediction = {"task": number, "model_version": "m", "score": 0.5, "result": results}
    with pytest.raises(LabelStudioError, match="0 of 1"):
        label_studio.client.import_predictions(project, [prediction])


def test_annotators_who_ask_at_once_get_different_tasks(
    label_studio: RealLabelStudio, task_folder: TaskFolder
) -> None:
    project = make_project(label_studio, task_folder)
    import_cases(label_studio, project, 30)
    annotators = [invited(label_studio, f"{task_folder.name}-{n}@example.org") for n in range(4)]

    def work(annotator: LabelStudio) -> list[int]:
        with annotator:
            served = []
            for _ in range(4):
                served.append(annotator.call("GET", f"/api/projects/{project}/next")["id"])
                annotator.create_annotation(served[-1], [])
            return served

    with ThreadPoolExecutor(len(annotators)) as pool:
        served = [task for tasks in pool.map(work, annotators) for task in tasks]
    assert len(served) == len(set(served)) == 16


def invited(label_studio: RealLabelStudio, email: str) -> LabelStudio:
    """A new annotator who followed the invitation link."""
    link = label_studio.client.call("GET", "/api/invite")["invite_url"]
    link = link.removeprefix(label_studio.url)
    with httpx.Client(base_url=label_studio.url, trust_env=False) as browser:
        form = {
            "csrfmiddlewaretoken": csrf_of(browser.get(link).text),
            "email": email,
            "password": "annotators-password",
        }
        answer = browser.post(link, data=form, headers={"Referer": label_studio.url})
        assert answer.status_code == 302
        token = browser.get("/api/current-user/token").json()["token"]
    return LabelStudio(label_studio.url, token)


# --- reading and writing tasks --------------------------------------------------------------


def test_tasks_are_listed_page_by_page_and_since_a_moment(
    label_studio: RealLabelStudio, task_folder: TaskFolder
) -> None:
    client = label_studio.client
    project = make_project(label_studio, task_folder)
    numbers = import_cases(label_studio, project, 120)
    listed = list(client.tasks(project))
    assert [task["id"] for task in listed] == sorted(numbers)
    moment = max(task["updated_at"] for task in listed)
    client.create_annotation(numbers[7], [], lead_time_s=2.0)
    changed = list(client.tasks(project, updated_after=moment))
    assert [task["id"] for task in changed] == [numbers[7]]
    assert changed[0]["annotations"][0]["lead_time"] == 2.0
    assert changed[0]["data"]["case"] == "case-7"
