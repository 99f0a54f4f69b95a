"""Services that hang, and services that are asked to end. Last, because nothing runs afterwards."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.docker.conftest import Lab
from tests.docker.engine import Container, docker
from tests.docker.images import FOLDERS

pytestmark = pytest.mark.docker
LIMIT_S = 60.0
# A loop may be silent for minutes before its check calls it hung. The test does not sit them out:
# it dates the last heartbeat back. Services that answer over HTTP are left to time out.
BEATS = ("ingest", "watchdog", "trainer")


def test_a_hung_service_turns_unhealthy_and_comes_back(lab: Lab) -> None:
    """All at once, because each takes the patience of its health check."""
    hung = [lab.containers[name] for name in FOLDERS]
    with ThreadPoolExecutor(len(hung)) as pool:
        list(pool.map(hang, hung))
        list(pool.map(lambda one: one.wait_until("unhealthy", LIMIT_S), hung))
        reasons = [one.reason() for one in hung]
        list(pool.map(Container.go_on, hung))
        list(pool.map(lambda one: one.wait_until("healthy", LIMIT_S), hung))
    assert all(reasons), reasons


def hang(container: Container) -> None:
    container.hang()
    if container.name.rpartition("--")[2] in BEATS:
        container.execute("touch", "-d", "yesterday", "/tmp/heartbeat")


def test_every_service_ends_when_it_is_asked_to(lab: Lab) -> None:
    names = list(FOLDERS)
    docker("stop", "--time", "30", *(lab.containers[name].name for name in names), timeout_s=240.0)
    codes = {name: lab.containers[name].inspect()["State"]["ExitCode"] for name in names}
    assert codes == dict.fromkeys(names, 0)
