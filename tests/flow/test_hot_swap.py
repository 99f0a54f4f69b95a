"""Promotions and roll-backs under load, with real networks and the real process."""

import signal
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from imaging.layout import Nas
from imaging.registry import promote, roll_back
from tests.flow.back_ends import BackEnd, one_label_bundle, running
from tests.ml_backend.fakes import add_case, point_at, square_picture
from tests.phantoms import TASK, mask_config

pytestmark = pytest.mark.slow

V1, V2, V3 = (f"model-20260314T09310{number}Z-41ac" for number in range(3))
ANSWERS = {V1: [], V2: ["disc"], V3: ["core"]}  # what each model calls every pixel
PER_S = 20
SECONDS = 12.0


@pytest.fixture(scope="module")
def nas(tmp_path_factory: pytest.TempPathFactory) -> Nas:
    nas = Nas(tmp_path_factory.mktemp("nas"))
    nas.dataset.mkdir()
    nas.marker.touch()
    for index, version in enumerate(ANSWERS):
        one_label_bundle(nas, TASK, version, mask_config(), index)
    return nas


def test_swapping_under_load_fails_nobody_and_tears_nothing(nas: Nas, tmp_path: Path) -> None:
    addresses = [add_case(nas, f"case-{n}", square_picture(64 + n), TASK) for n in range(8)]
    promote(nas, TASK, V1, "test")
    with running(BackEnd(nas, tmp_path)) as back_end, ThreadPoolExecutor(24) as pool:
        back_end.wait_for(lambda: back_end.version(TASK) == V1, "the first champion serves")
        stop = threading.Event()
        futures: list[Future[tuple[int, Any]]] = []
        pacing = threading.Thread(
            target=ask_steadily, args=(back_end, pool, addresses, stop, futures)
        )
        pacing.start()
        swapped_s, rolled_back_s = swap_for(back_end, nas, SECONDS)
        stop.set()
        pacing.join()
        answers = [future.result(60) for future in futures]
        assert back_end.stop() == 0

    assert len(answers) > 0.8 * PER_S * SECONDS
    seen = set()
    for status, body in answers:
        assert status == 200, body
        for answer in body["results"]:
            labels = [region["value"]["brushlabels"][0] for region in answer["result"]]
            assert labels == ANSWERS[answer["model_version"]]
        versions = {answer["model_version"] for answer in body["results"]}
        assert len(versions) == 1
        seen |= versions
    assert seen == {V1, V2, V3}
    assert len(swapped_s) >= 3
    assert max(rolled_back_s) <= 5.0


def ask_steadily(
    back_end: BackEnd,
    pool: ThreadPoolExecutor,
    addresses: list[str],
    stop: threading.Event,
    futures: "list[Future[tuple[int, Any]]]",
) -> None:
    """Twenty requests a second, whether or not the last ones are answered."""
    number = 0
    while not stop.wait(1 / PER_S):
        number += 1
        chosen = [addresses[number % 8], addresses[(number + 3) % 8]]
        body = {"tasks": [{"id": i, "data": {"image": image}} for i, image in enumerate(chosen)]}
        futures.append(pool.submit(back_end.call, "POST", f"/{TASK}/predict", body))


def swap_for(back_end: BackEnd, nas: Nas, seconds: float) -> tuple[list[float], list[float]]:
    """Promote and roll back in turn; seconds until each took effect."""
    swapped_s: list[float] = []
    rolled_back_s: list[float] = []
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for version in (V2, V3):
            promote(nas, TASK, version, "test")
            took_s = back_end.wait_for(lambda v=version: back_end.version(TASK) == v, version)
            swapped_s.append(round(took_s, 2))
            time.sleep(0.5)
        for _ in range(2):
            back = roll_back(nas, TASK).version
            took_s = back_end.wait_for(lambda v=back: back_end.version(TASK) == v, back)
            rolled_back_s.append(round(took_s, 2))
            time.sleep(0.5)
    return swapped_s, rolled_back_s


def test_sigterm_finishes_the_request_under_way(nas: Nas, tmp_path: Path) -> None:
    address = add_case(nas, "case-term", square_picture(700), TASK)
    promote(nas, TASK, V2, "test")
    with running(BackEnd(nas, tmp_path)) as back_end, ThreadPoolExecutor(1) as pool:
        back_end.wait_for(lambda: back_end.version(TASK) == V2, "the champion serves")
        body = {"tasks": [{"id": i, "data": {"image": address}} for i in range(40)]}
        future = pool.submit(back_end.call, "POST", f"/{TASK}/predict", body)
        back_end.wait_for(lambda: back_end.call("GET", "/health")[1]["waiting"] > 0, "work waits")
        assert back_end.stop(signal.SIGTERM) == 0
        status, answer = future.result(60)
    assert status == 200
    assert len(answer["results"]) == 40 and all(answer["results"])


def test_a_corrupt_champion_does_not_serve_and_is_reported(nas: Nas, tmp_path: Path) -> None:
    promote(nas, TASK, V2, "test")
    with running(BackEnd(nas, tmp_path, settings={"POLL_S": "0.1"})) as back_end:
        back_end.wait_for(lambda: back_end.version(TASK) == V2, "the champion serves")
        broken = "model-20260314T093109Z-dead"
        folder = one_label_bundle(nas, TASK, broken, mask_config(), 1)
        (folder / "models" / "model.bin").write_bytes(b"\0" * 64)
        point_at(nas, broken, TASK)  # `promote` would refuse it
        back_end.wait_for(lambda: back_end.call("GET", "/health")[1]["reason"] != "", "a reason")
        reason = back_end.call("GET", "/health")[1]["reason"]
        heartbeat = tmp_path / "heartbeat"
        back_end.wait_for(lambda: heartbeat.read_text() == reason, "the heartbeat says it too")
        assert back_end.version(TASK) == V2
    assert TASK in reason and "model.bin" in reason
