import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import ml_backend.lanes
from ml_backend.errors import BusyError
from ml_backend.lanes import Lanes, Rank, Work
from ml_backend.model import PixelArray, Prediction, Predictor
from tests.ml_backend.fakes import FakePredictor, square_picture


def work(
    predictor: FakePredictor,
    rank: Rank = Rank.OPEN,
    pixels: PixelArray | None = None,
    tag: Any = "",
) -> Work:
    def finish(model: Predictor, prediction: Prediction) -> tuple[str, Any]:
        finished.append(tag)
        return model.version, tag

    picture = square_picture() if pixels is None else pixels
    return Work(rank, predictor, lambda: picture, finish)


finished: list[Any] = []


@pytest.fixture
def lane() -> Iterator[Lanes]:
    finished.clear()
    lanes = Lanes(threads=1)
    lanes.start()
    yield lanes
    lanes.stop()


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    gate = threading.Event()
    yield gate
    gate.set()


def test_whoever_has_a_person_waiting_goes_first(lane: Lanes, gate: threading.Event) -> None:
    slow, fast = FakePredictor("v0", gate=gate), FakePredictor("v1")
    futures = [lane.submit(work(slow, tag="under way"))]
    while not slow.batches:
        time.sleep(0.001)
    ranks = [Rank.PUSH, Rank.BATCH, Rank.OPEN, Rank.BATCH, Rank.INTERACTIVE, Rank.PUSH]
    futures += [lane.submit(work(fast, rank, tag=(rank, i))) for i, rank in enumerate(ranks)]
    gate.set()
    for future in futures:
        future.result(5)
    order = sorted((rank, i) for i, rank in enumerate(ranks))
    assert finished == ["under way", *order]


def test_each_answer_is_there_as_soon_as_it_is_computed(lane: Lanes, gate: threading.Event) -> None:
    first = lane.submit(work(FakePredictor("v0")))
    second = lane.submit(work(FakePredictor("v1", gate=gate)))
    assert first.result(5)[0] == "v0"
    assert not second.done()


def test_one_broken_picture_fails_alone() -> None:
    lanes = Lanes(threads=1, max_batch=4)
    predictor = FakePredictor("v0")
    flat = np.zeros((8, 8), dtype=np.uint8)
    futures = [lanes.submit(work(predictor, pixels=p)) for p in (square_picture(), flat)]

    def missing() -> PixelArray:
        raise FileNotFoundError("gone")

    futures.append(lanes.submit(Work(Rank.OPEN, predictor, missing, lambda *_: None)))
    futures.append(lanes.submit(work(predictor)))
    lanes.start()
    try:
        assert futures[0].result(5)[0] == futures[3].result(5)[0] == "v0"
        assert isinstance(futures[1].exception(5), ValueError)
        assert isinstance(futures[2].exception(5), FileNotFoundError)
    finally:
        lanes.stop()


def test_what_waits_for_one_model_is_computed_together() -> None:
    lanes = Lanes(threads=1, max_batch=3)
    one, other = FakePredictor("v0"), FakePredictor("v1")
    futures = [lanes.submit(work(model)) for model in (one, one, one, one, other, one)]
    lanes.start()
    try:
        versions = [future.result(5)[0] for future in futures]
    finally:
        lanes.stop()
    assert versions == ["v0", "v0", "v0", "v0", "v1", "v0"]
    assert (one.batches, other.batches) == ([3, 1, 1], [1])


def test_a_cancelled_picture_is_never_computed(lane: Lanes, gate: threading.Event) -> None:
    slow, unwanted = FakePredictor("v0", gate=gate), FakePredictor("v1")
    lane.submit(work(slow))
    future = lane.submit(work(unwanted))
    assert future.cancel()
    last = lane.submit(work(FakePredictor("v2")))
    gate.set()
    assert last.result(5)[0] == "v2"
    assert unwanted.batches == []


def test_a_full_queue_says_so(gate: threading.Event, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ml_backend.lanes, "MAX_WAITING", 2)
    lanes = Lanes(threads=1)
    lanes.submit(work(FakePredictor("v0")))
    lanes.submit(work(FakePredictor("v0")))
    with pytest.raises(BusyError, match="2 pictures wait"):
        lanes.submit(work(FakePredictor("v0")))


def test_stopping_finishes_what_is_computed_and_releases_who_waits(gate: threading.Event) -> None:
    lanes = Lanes(threads=1)
    lanes.start()
    slow = FakePredictor("v0", gate=gate)
    computed, waiting = lanes.submit(work(slow)), lanes.submit(work(slow))
    while not slow.batches:
        time.sleep(0.001)
    threading.Timer(0.05, gate.set).start()
    lanes.stop()
    assert computed.result(0)[0] == "v0"
    assert waiting.cancelled()
    with pytest.raises(BusyError):
        lanes.submit(work(slow))
