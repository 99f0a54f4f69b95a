import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import ml_backend.lanes
from imaging.volume import Volume
from ml_backend.errors import BusyError
from ml_backend.lanes import Lanes, Rank, Work
from ml_backend.model import PixelArray, Predictor
from ml_backend.pictures import Loaded, Stack
from tests.imaging.dataset.volume_lab import volume_record
from tests.ml_backend.fakes import (
    FakePredictor,
    FakeVolumePredictor,
    block_voxels,
    square_picture,
)


def work(
    predictor: FakePredictor,
    rank: Rank = Rank.OPEN,
    pixels: PixelArray | None = None,
    tag: Any = "",
) -> Work:
    def finish(model: Predictor, *_: object) -> tuple[str, Any]:
        finished.append(tag)
        return model.version, tag

    picture = square_picture() if pixels is None else pixels
    return Work(rank, predictor, lambda: Loaded(picture), finish)


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


# --- volumes ----------------------------------------------------------------------------------


def heavy(predictor: FakePredictor, rank: Rank, tag: Any = "") -> Work:
    record = volume_record()
    assert record.volume is not None
    volume = Volume(block_voxels()[None], record.volume.grid)
    loaded = Loaded(volume, Stack(record.volume.plane, (0,)))

    def finish(model: Predictor, *_: object) -> Any:
        finished.append(tag)
        return tag

    return Work(rank, predictor, lambda: loaded, finish)


@pytest.fixture
def lanes() -> Iterator[Lanes]:
    finished.clear()
    lanes = Lanes(threads=4)
    lanes.start()
    yield lanes
    lanes.stop()


def test_few_volumes_are_computed_at_the_same_time_and_pictures_pass_them(
    lanes: Lanes, gate: threading.Event
) -> None:
    slow = FakeVolumePredictor("v0", gate=gate)
    futures = [lanes.submit(heavy(slow, Rank.OPEN, number)) for number in range(5)]
    assert lanes.submit(work(FakePredictor("v1"), Rank.PUSH)).result(5)[0] == "v1"
    assert slow.under_way == ml_backend.lanes.MAX_VOLUMES == 2 and len(lanes) == 3
    gate.set()
    assert [future.result(5) for future in futures] == [0, 1, 2, 3, 4]
    assert slow.most_at_once == 2


def test_a_place_is_kept_for_volumes_that_people_wait_for(
    lanes: Lanes, gate: threading.Event
) -> None:
    slow = FakeVolumePredictor("v0", gate=gate)
    pushed = [lanes.submit(heavy(slow, Rank.PUSH)) for _ in range(3)]
    opened = FakeVolumePredictor("v1")
    assert lanes.submit(heavy(opened, Rank.INTERACTIVE, "mine")).result(5) == "mine"
    assert slow.under_way == 1
    gate.set()
    for future in pushed:
        future.result(5)


def test_a_volume_that_fails_gives_its_place_back(lanes: Lanes) -> None:
    class Broken(FakeVolumePredictor):
        def predict(self, images: Any) -> Any:
            raise MemoryError

    broken = Broken("v0")
    for _ in range(3):
        with pytest.raises(MemoryError):
            lanes.submit(heavy(broken, Rank.PUSH)).result(5)
    assert lanes.submit(heavy(FakeVolumePredictor("v1"), Rank.PUSH, 7)).result(5) == 7


def test_a_model_is_not_asked_about_what_it_is_not_made_for(lanes: Lanes) -> None:
    flat = lanes.submit(heavy(FakePredictor("v0"), Rank.OPEN))
    assert "the case is a volume" in str(flat.exception(5))
    deep = lanes.submit(work(FakeVolumePredictor("v1")))
    assert "the case is a picture" in str(deep.exception(5))
