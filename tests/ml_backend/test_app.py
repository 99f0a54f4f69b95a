import asyncio
import base64
import json
import threading
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from starlette.applications import Starlette

from imaging.labelstudio.results import label_map_from_results
from imaging.layout import Nas
from ml_backend.app import Backend, create_app
from ml_backend.champion import Champions
from ml_backend.lanes import Lanes
from ml_backend.pictures import Pictures
from tests.ml_backend.fakes import (
    SCHEME,
    TASK,
    FakeBundle,
    FakeLoader,
    FakePredictor,
    add_case,
    point_at,
    square_picture,
)

TOKEN = "s3cret-token"
BASIC = {"Authorization": "Basic " + base64.b64encode(f"anybody:{TOKEN}".encode()).decode()}
ROUTES = [
    ("GET", f"/{TASK}/health"),
    ("POST", f"/{TASK}/setup"),
    ("POST", f"/{TASK}/predict"),
    ("POST", f"/{TASK}/webhook"),
    ("GET", f"/{TASK}/versions"),
    ("POST", f"/{TASK}/versions"),
    ("GET", "/health"),
    ("GET", "/nothing"),
]


class Client:
    """Calls the application without a socket; each call has an event loop of its own."""

    def __init__(self, app: Starlette) -> None:
        self.app = app

    def request(self, method: str, path: str, **options: Any) -> httpx.Response:
        async def call() -> httpx.Response:
            transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport, base_url="http://backend") as client:
                headers = options.pop("headers", BASIC)
                return await client.request(method, path, headers=headers, timeout=20, **options)

        return asyncio.run(call())

    def get(self, path: str, **options: Any) -> httpx.Response:
        return self.request("GET", path, **options)

    def post(self, path: str, **options: Any) -> httpx.Response:
        return self.request("POST", path, **options)


class Lab:
    """The application over a share, with fakes for models."""

    def __init__(self, root: Path, threads: int = 2) -> None:
        self.nas = Nas(root)
        self.nas.marker.touch()
        self.load = FakeLoader()
        self.champions = Champions(self.nas, self.load)
        self.lanes = Lanes(threads)
        self.lanes.start()
        self.arrivals: list[None] = []
        backend = Backend(
            champions=self.champions,
            pictures=Pictures(self.nas),
            lanes=self.lanes,
            versions=lambda task: [f"{task}-v1"],
            tasks_arrived=lambda: self.arrivals.append(None),
            report=lambda: {"waiting": len(self.lanes)},
        )
        self.client = Client(create_app(backend, TOKEN))

    def promote(self, version: str) -> None:
        point_at(self.nas, version)
        self.champions.refresh()

    def predict(self, *addresses: object, context: object = None) -> list[Any]:
        tasks = [{"id": i, "data": {"image": image}} for i, image in enumerate(addresses)]
        body = {"tasks": tasks, "project": "1.17", "params": {"context": context}}
        answer = self.client.post(f"/{TASK}/predict", json=body)
        assert answer.status_code == 200
        results = answer.json()["results"]
        assert isinstance(results, list)
        return results

    def setup(self) -> str:
        answer = self.client.post(f"/{TASK}/setup", json={"project": "1.17", "schema": "<View/>"})
        return str(answer.json()["model_version"])


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    lab = Lab(tmp_path)
    yield lab
    lab.lanes.stop()


@pytest.mark.parametrize(("method", "path"), ROUTES)
@pytest.mark.parametrize(
    "authorization",
    ["", "Basic", "Basic !!!", "Basic c2VjcmV0", f"Bearer {TOKEN}", "Token nope", "Token"],
)
def test_without_the_token_nothing_is_learned(
    lab: Lab, method: str, path: str, authorization: str
) -> None:
    lab.promote("model-1")
    answer = lab.client.request(method, path, headers={"Authorization": authorization})
    if path.endswith("/health"):
        assert (answer.status_code, answer.json()) == (200, {"status": "UP"})
    else:
        assert answer.status_code == 401
        assert "Basic" in answer.headers["WWW-Authenticate"]
        assert "model-1" not in answer.text


def test_the_token_passes_in_both_forms(lab: Lab) -> None:
    for headers in (BASIC, {"Authorization": f"Token {TOKEN}"}):
        answer = lab.client.get(f"/{TASK}/health", headers=headers)
        assert answer.json() == {"status": "UP", "model_version": "no-model-yet"}


def test_before_a_champion_no_prediction_is_made_and_nothing_fails(lab: Lab) -> None:
    address = add_case(lab.nas, "case-1")
    assert lab.setup() == "no-model-yet"
    assert lab.predict(address, address) == [[], []]
    in_the_editor = lab.predict(address, context={"result": []})
    assert in_the_editor == [{"model_version": "no-model-yet", "score": 0.0, "result": []}]


def test_predictions_come_in_order_with_version_score_and_regions(lab: Lab) -> None:
    lab.promote("model-1")
    big = add_case(lab.nas, "case-big", square_picture(64))
    small = add_case(lab.nas, "case-small", square_picture(32))
    answers = lab.predict(big, small)
    assert [answer["result"][0]["original_height"] for answer in answers] == [64, 32]
    assert {answer["model_version"] for answer in answers} == {"model-1"} == {lab.setup()}
    assert [answer["score"] for answer in answers] == [0.75, 0.75]
    assert [region["score"] for region in answers[0]["result"]] == [0.75]
    labels_HW = label_map_from_results(answers[1]["result"], SCHEME, (32, 40))
    assert np.array_equal(labels_HW, square_picture(32) > 0)


def test_a_model_that_finds_nothing_says_so(lab: Lab) -> None:
    lab.promote("model-1")
    pixels = np.arange(32 * 32, dtype=np.uint8).reshape(32, 32) % 20
    answers = lab.predict(add_case(lab.nas, "case-1", pixels))
    assert answers == [{"model_version": "model-1", "score": 0.75, "result": []}]


@pytest.mark.parametrize("several", [False, True])
def test_classes_come_as_choices(lab: Lab, several: bool) -> None:
    lab.load.make = lambda version: FakePredictor(
        version, kind="classification", bundle=FakeBundle(multi_label=several)
    )
    lab.promote("model-1")
    mostly_bright = square_picture()
    mostly_bright[8:, :] = 255
    for pixels, likely in ((square_picture(), ["myo"]), (mostly_bright, ["lv", "myo"])):
        (answer,) = lab.predict(add_case(lab.nas, f"case-{len(likely)}", pixels))
        choice = answer["result"][0]
        assert choice["value"] == {"choices": likely if several else ["myo"]}
        assert 0.5 < choice["score"] <= 1


def test_a_bad_picture_leaves_its_own_task_without_prediction(lab: Lab) -> None:
    lab.promote("model-1")
    good = add_case(lab.nas, "case-1")
    flat = add_case(lab.nas, "case-flat", np.full((32, 32), 7, dtype=np.uint8))
    absent = good.replace("case-1", "case-404")
    answers = lab.predict(good, absent, "/data/local-files/?d=/etc/passwd", flat, None, good)
    assert [bool(answer) for answer in answers] == [True, False, False, False, False, True]
    assert lab.predict(absent, context={"x": 1})[0]["result"] == []


@pytest.mark.parametrize("route", ["setup", "predict", "webhook"])
@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff", b"[" * 50_000])
def test_a_body_that_is_no_call_is_refused_in_words(lab: Lab, route: str, body: bytes) -> None:
    answer = lab.client.post(f"/{TASK}/{route}", content=body)
    assert answer.status_code == 400
    assert "expected an object" in answer.text or "no JSON" in answer.text


def test_a_body_beyond_measure_is_refused(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(2):
            yield b"x" * 60

    monkeypatch.setattr("ml_backend.app.MAX_BODY_BYTES", 100)
    small = Lab(lab.nas.root)
    try:
        answer = small.client.post(f"/{TASK}/setup", content=b"x" * 101)
        chunked = small.client.post(f"/{TASK}/setup", content=chunks())
    finally:
        small.lanes.stop()
    assert (answer.status_code, chunked.status_code) == (413, 413)


@pytest.mark.parametrize(
    "path", ["/Task1_x/health", "/Task001_heart/x/health", "/Task001_heart/train", "/x/setup"]
)
def test_an_unknown_address_is_404_with_the_token(lab: Lab, path: str) -> None:
    assert lab.client.request("POST" if "setup" in path else "GET", path).status_code == 404


def test_versions_answer_to_get_and_post(lab: Lab) -> None:
    for method in ("GET", "POST"):
        answer = lab.client.request(method, f"/{TASK}/versions")
        assert answer.json() == {"versions": [f"{TASK}-v1"]}


def test_new_tasks_wake_the_pusher_and_training_is_not_started_here(lab: Lab) -> None:
    for action in ("TASKS_CREATED", "START_TRAINING", "ANNOTATION_CREATED"):
        answer = lab.client.post(f"/{TASK}/webhook", json={"action": action, "project": {"id": 1}})
        assert answer.status_code == 200
    assert len(lab.arrivals) == 1


def test_a_request_under_way_is_answered_by_the_model_it_began_with(lab: Lab) -> None:
    gate = threading.Event()
    lab.load.make = lambda version: FakePredictor(
        version, gate=gate if version == "model-1" else None
    )
    lab.promote("model-1")
    address = add_case(lab.nas, "case-1")
    answers: list[Any] = []
    thread = threading.Thread(target=lambda: answers.extend(lab.predict(address, address, address)))
    thread.start()
    first = lab.champions.current(TASK)
    assert isinstance(first, FakePredictor)
    while not first.batches:
        time.sleep(0.001)
    lab.promote("model-2")
    assert lab.setup() == "model-2"
    gate.set()
    thread.join(10)
    assert {answer["model_version"] for answer in answers} == {"model-1"}
    assert lab.predict(address)[0]["model_version"] == "model-2"


def test_health_answers_while_every_lane_computes(lab: Lab) -> None:
    gate = threading.Event()
    lab.load.make = lambda version: FakePredictor(version, gate=gate)
    lab.promote("model-1")
    address = add_case(lab.nas, "case-1")
    thread = threading.Thread(target=lab.predict, args=(address,) * 10)
    thread.start()
    predictor = lab.champions.current(TASK)
    assert isinstance(predictor, FakePredictor)
    while len(predictor.batches) < 2:
        time.sleep(0.001)
    start = time.perf_counter()
    assert lab.client.get("/health").json() == {"status": "UP", "waiting": 8}
    assert time.perf_counter() - start < 0.5
    gate.set()
    thread.join(10)


def test_a_click_in_the_editor_overtakes_a_batch(tmp_path: Path) -> None:
    lab = Lab(tmp_path, threads=1)
    gate = threading.Event()
    lab.load.make = lambda version: FakePredictor(version, gate=gate)
    lab.promote("model-1")
    slow = add_case(lab.nas, "case-1", square_picture(32))
    clicked = add_case(lab.nas, "case-2", square_picture(64))
    opened = add_case(lab.nas, "case-3", square_picture(48))
    predictor = lab.champions.current(TASK)
    assert isinstance(predictor, FakePredictor)
    threads = [threading.Thread(target=lab.predict, args=(slow,) * 10)]
    threads[0].start()
    while not predictor.batches:
        time.sleep(0.001)
    for address, context in ((opened, None), (clicked, {"result": []})):
        waiting = len(lab.lanes)
        threads.append(
            threading.Thread(target=lab.predict, args=(address,), kwargs={"context": context})
        )
        threads[-1].start()
        while len(lab.lanes) == waiting:
            time.sleep(0.001)
    gate.set()
    for thread in threads:
        thread.join(10)
    lab.lanes.stop()
    assert [shape[0] for shape in predictor.seen] == [32, 64, 48] + [32] * 9


def test_a_client_that_hangs_up_takes_its_pictures_out_of_the_queue(lab: Lab) -> None:
    gate = threading.Event()
    lab.load.make = lambda version: FakePredictor(version, gate=gate)
    lab.promote("model-1")
    address = add_case(lab.nas, "case-1")
    predictor = lab.champions.current(TASK)
    assert isinstance(predictor, FakePredictor)
    tasks = [{"id": n, "data": {"image": address}} for n in range(50)]
    body = json.dumps({"tasks": tasks}).encode()

    async def hang_up_after_sending() -> None:
        messages: list[dict[str, Any]] = [
            {"type": "http.request", "body": body},
            {"type": "http.disconnect"},
        ]

        async def receive() -> dict[str, Any]:
            return messages.pop(0)

        async def send(_: Any) -> None:
            pass

        scope = {
            "type": "http",
            "method": "POST",
            "path": f"/{TASK}/predict",
            "query_string": b"",
            "headers": [(b"authorization", BASIC["Authorization"].encode())],
        }
        await lab.client.app(scope, receive, send)

    asyncio.run(hang_up_after_sending())
    gate.set()
    (answer,) = lab.predict(address)  # goes last in the queue
    assert answer["model_version"] == "model-1"
    assert sum(predictor.batches) <= 3
