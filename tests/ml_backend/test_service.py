import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from imaging.layout import Nas
from ml_backend.service import Service
from ml_backend.settings import BackendSettings
from tests.ml_backend.fakes import TASK, FakeLoader, point_at


@pytest.fixture
def settings(tmp_path: Path) -> BackendSettings:
    (tmp_path / "nas").mkdir()
    (tmp_path / "token").write_text("s3cret")
    return BackendSettings.from_env(
        {
            "NAS_ROOT": str(tmp_path / "nas"),
            "HEARTBEAT_FILE": str(tmp_path / "heartbeat"),
            "LABEL_STUDIO_URL": "http://127.0.0.1:9",
            "LABEL_STUDIO_TOKEN_FILE": str(tmp_path / "token"),
            "ML_BACKEND_TOKEN_FILE": str(tmp_path / "token"),
            "ML_BACKEND_THREADS": "1",
            "POLL_S": "0.05",
        }
    )


@pytest.fixture
def nas(settings: BackendSettings) -> Nas:
    nas = Nas(settings.nas_root)
    nas.marker.touch()
    return nas


@pytest.fixture
def load() -> FakeLoader:
    return FakeLoader()


@pytest.fixture
def service(settings: BackendSettings, load: FakeLoader) -> Iterator[Service]:
    service = Service(settings, load)
    service.start()
    yield service
    service.stop()


def comes_true(look: object, within_s: float = 5.0) -> bool:
    assert callable(look)
    deadline = time.monotonic() + within_s
    while not look() and time.monotonic() < deadline:
        time.sleep(0.01)
    return bool(look())


def test_a_promotion_serves_within_a_second(nas: Nas, service: Service) -> None:
    assert comes_true(lambda: service.report()["tasks"] == {})
    point_at(nas, "model-1")
    assert comes_true(lambda: service.report()["tasks"] == {TASK: "model-1"}, within_s=1.0)
    assert service.reason() == ""


def test_an_unmounted_share_is_a_reason_that_goes_by_itself(nas: Nas, service: Service) -> None:
    point_at(nas, "model-1")
    assert comes_true(lambda: TASK in service.report()["tasks"])
    nas.marker.unlink()
    assert comes_true(lambda: "not mounted" in service.reason())
    assert service.report()["tasks"] == {TASK: "model-1"}
    nas.marker.touch()
    assert comes_true(lambda: service.reason() == "")


def test_a_champion_that_does_not_load_is_a_reason(
    nas: Nas, service: Service, load: FakeLoader
) -> None:
    load.broken.add("model-1")
    point_at(nas, "model-1")
    assert comes_true(lambda: service.reason().startswith(f"{TASK}: the champion cannot be loaded"))


def test_label_studio_down_is_told_but_is_not_our_illness(nas: Nas, service: Service) -> None:
    point_at(nas, "model-1")
    assert comes_true(lambda: "ConnectError" in str(service.report()["push"]))
    assert service.reason() == ""


def test_the_heartbeat_says_what_is_wrong(
    nas: Nas, service: Service, settings: BackendSettings
) -> None:
    async def beat_for_a_moment() -> None:
        beating = asyncio.create_task(service.beat())
        await asyncio.sleep(0.05)
        beating.cancel()

    nas.marker.unlink()
    assert comes_true(lambda: service.reason() != "")
    asyncio.run(beat_for_a_moment())
    assert "not mounted" in settings.heartbeat_file.read_text()


def test_a_hung_share_is_noticed(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ml_backend.service.STALE_S", -1.0)
    assert "last looked at" in service.reason()
