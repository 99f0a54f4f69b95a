import os
import threading
import time
from pathlib import Path

import pytest

from imaging.errors import NasGoneError
from imaging.layout import Nas
from ml_backend.champion import RETRY_S, Champions
from tests.ml_backend.fakes import TASK, FakeLoader, FakePredictor, point_at

V1, V2, V3 = "model-1", "model-2", "model-3"


@pytest.fixture
def nas(tmp_path: Path) -> Nas:
    nas = Nas(tmp_path)
    nas.marker.touch()
    return nas


def version(champions: Champions) -> str | None:
    current = champions.current(TASK)
    return current.version if current else None


def test_nothing_serves_before_a_first_champion(nas: Nas) -> None:
    champions = Champions(nas, FakeLoader())
    champions.refresh()
    assert version(champions) is None
    assert champions.troubles() == {}


def test_a_promotion_is_followed(nas: Nas) -> None:
    load = FakeLoader()
    champions = Champions(nas, load)
    for promoted in (V1, V2):
        point_at(nas, promoted)
        champions.refresh()
        champions.refresh()
        assert version(champions) == promoted
    assert load.loaded == [V1, V2]


def test_the_old_model_serves_until_the_new_one_is_loaded(nas: Nas) -> None:
    loading, gate = threading.Event(), threading.Event()

    def make(name: str) -> FakePredictor:
        if name == V2:
            loading.set()
            gate.wait(10)
        return FakePredictor(name)

    champions = Champions(nas, FakeLoader(make=make))
    point_at(nas, V1)
    champions.refresh()
    point_at(nas, V2)
    thread = threading.Thread(target=champions.refresh)
    thread.start()
    assert loading.wait(5)
    assert version(champions) == V1
    gate.set()
    thread.join(5)
    assert version(champions) == V2


def test_a_roll_back_loads_nothing(nas: Nas) -> None:
    load = FakeLoader()
    champions = Champions(nas, load)
    for promoted in (V1, V2, V1, V2):
        point_at(nas, promoted)
        champions.refresh()
        assert version(champions) == promoted
    assert load.loaded == [V1, V2]


def test_a_champion_that_cannot_be_loaded_leaves_the_old_one_and_a_reason(nas: Nas) -> None:
    now = [0.0]
    load = FakeLoader(broken={V2})
    champions = Champions(nas, load, clock=lambda: now[0])
    point_at(nas, V1)
    champions.refresh()
    point_at(nas, V2)
    champions.refresh()
    assert version(champions) == V1
    assert "weights are missing" in champions.troubles()[TASK]

    load.broken.clear()  # somebody restores the folder; the pointer is what it was
    champions.refresh()
    assert version(champions) == V1
    now[0] += RETRY_S
    champions.refresh()
    assert version(champions) == V2
    assert champions.troubles() == {}


def test_a_bundle_of_another_version_does_not_serve(nas: Nas) -> None:
    champions = Champions(nas, FakeLoader(make=lambda _: FakePredictor(V3)))
    point_at(nas, V1)
    champions.refresh()
    assert version(champions) is None
    assert "says that it is model-3" in champions.troubles()[TASK]


def test_a_broken_pointer_leaves_the_model_that_serves(nas: Nas) -> None:
    champions = Champions(nas, FakeLoader())
    point_at(nas, V1)
    champions.refresh()
    nas.model(TASK).champion.write_text("{")
    champions.refresh()
    assert version(champions) == V1
    assert TASK in champions.troubles()


def test_models_serve_on_while_the_share_is_gone(nas: Nas) -> None:
    champions = Champions(nas, FakeLoader())
    point_at(nas, V1)
    champions.refresh()
    nas.marker.unlink()
    with pytest.raises(NasGoneError):
        champions.refresh()
    assert version(champions) == V1

    nas.marker.touch()
    nas.model(TASK).champion.unlink()
    champions.refresh()
    assert version(champions) == V1


def test_a_pointer_replaced_within_one_tick_of_the_clock_is_seen(nas: Nas) -> None:
    champions = Champions(nas, FakeLoader())
    stamp = time.time_ns()
    for promoted in (V1, V2):
        path = point_at(nas, promoted)
        os.utime(path, ns=(stamp, stamp))
        champions.refresh()
    assert version(champions) == V2
