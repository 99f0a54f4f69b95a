"""The supervisor with real processes: health, crashes, kills, and nothing left behind."""

import errno
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from stack.bootstrap import COMPOSE_FILE, Wishes, prepare
from stack.control import start_detached, stop, wait_until_healthy
from stack.errors import AlreadyRunningError, NotReadyError
from stack.home import Home
from stack.lock import Holder, holder, is_supervised, only_supervisor
from stack.ports import HOST, is_free
from stack.processes import marked
from stack.runners.local import Supervisor
from stack.state import ServiceStatus, StackStatus, read_state
from stack.status import overview
from tests.stack.fake_stack import beat, service, web, write_stack

pytestmark = pytest.mark.slow  # each starts a stack of processes

PATIENCE_S = 20.0


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    home = Home(tmp_path / "home")
    yield home
    stop(home)


def start(home: Home, **services: object) -> None:
    start_detached(home, Wishes(write_stack(home.root.parent / "stack", **services)))


def seen(home: Home, name: str) -> ServiceStatus:
    status = read_state(home)
    assert status is not None
    return next(one for one in status.services if one.name == name)


def kill(home: Home, name: str) -> None:
    pid = seen(home, name).pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)


def wait_for(look: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not look():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


def test_a_stack_starts_in_order_mends_itself_and_goes_down_without_a_trace(home: Home) -> None:
    after = {"depends_on": {"door": {"condition": "service_healthy"}}}
    mule = service("stubborn", stop_s=0.3)
    start(home, shop=beat() | after, door=web(), mule=mule)
    shop, door, _ = wait_until_healthy(home, PATIENCE_S).services
    assert shop.since is not None and door.since is not None and shop.since > door.since
    assert door.url == f"http://127.0.0.1:{door.port}/"

    # A death: what it left behind is ended before it starts again.
    before = set(marked(home.root, "mule"))
    assert len(before) == 2  # it and its child, in a session of its own
    kill(home, "mule")
    wait_for(lambda: len(set(marked(home.root, "mule")) - before) == 2)
    assert not before & set(marked(home.root))
    assert "mule was ended by SIGKILL" in home.log("supervisor").read_text()

    # The end: dependents first, and the deaf ones too.
    assert stop(home)
    assert marked(home.root) == [] and not is_supervised(home)
    assert {seen(home, name).state for name in ("shop", "door", "mule")} == {"stopped"}
    words = home.log("supervisor").read_text()
    assert words.index("shop stopped") < words.index("door stopped")
    assert not stop(home)


def test_what_is_wrong_with_a_service_is_told(home: Home) -> None:
    quick = {"heartbeat": "${STATE_DIR}/heartbeat", "start_s": 0.1}
    trouble = {"HEARTBEAT_FILE": "${STATE_DIR}/heartbeat", "TROUBLE": "no NAS"}
    start(
        home,
        shop=beat(environment=trouble, health=quick),
        door=service("crash", "3"),
        window=service("crash", "2"),
    )
    wait_for(lambda: seen(home, "shop").state == "unhealthy" and seen(home, "door").deaths > 0)
    assert seen(home, "shop").reason == "no NAS"
    door = seen(home, "door")
    assert door.state in ("restarting", "starting")
    assert door.last_lines == ("crash says hello", "the disk is on fire")
    # Exit code 2 says that the settings are wrong: starting it again would not help.
    wait_for(lambda: seen(home, "window").state == "failing")
    assert "exit code 2" in seen(home, "window").reason
    with pytest.raises(NotReadyError, match=r"window failing \(ended with exit code 2"):
        wait_until_healthy(home, PATIENCE_S)


def test_after_the_supervisor_is_killed_the_next_one_finds_a_clean_table(home: Home) -> None:
    start(home, shop=web(), mule=service("stubborn", stop_s=0.3))
    wait_until_healthy(home, PATIENCE_S)
    status = read_state(home)
    assert status is not None
    before = set(marked(home.root))
    os.kill(status.pid, signal.SIGKILL)
    wait_for(lambda: seen(home, "shop").pid not in marked(home.root))  # the kernel tells it
    assert not is_supervised(home)
    port = seen(home, "shop").port
    # The stubborn ones still run; whoever starts a supervisor ends them first.
    assert set(marked(home.root)) & before
    start(home, shop=web(stop_s=0.3), mule=service("stubborn", stop_s=0.3))
    wait_until_healthy(home, PATIENCE_S)
    assert not before & set(marked(home.root))
    assert seen(home, "shop").port == port


def test_a_service_that_outlives_its_supervisor_does_not_cost_the_next_one_its_port(
    home: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    shop = web(command=["python", "service.py", "deaf-web"], stop_s=0.3)
    start(home, shop=shop)
    port = wait_until_healthy(home, PATIENCE_S).services[0].port
    supervisor = holder(home)
    assert port is not None and supervisor is not None
    os.kill(supervisor.pid, signal.SIGKILL)
    wait_for(lambda: not is_supervised(home))
    assert not is_free(port)
    start(home, shop=shop)
    assert wait_until_healthy(home, PATIENCE_S).services[0].port == port
    stop(home)

    with socket.create_server((HOST, port)):
        prepare(home, Wishes(home.root.parent / "stack" / "compose.yaml"))
    assert f"port {port} is taken" in capsys.readouterr().err


def test_nothing_is_prepared_or_ended_in_a_home_that_runs(home: Home) -> None:
    start(home, shop=beat())
    before = marked(home.root)
    with pytest.raises(AlreadyRunningError):
        prepare(home, Wishes(home.root.parent / "stack" / "compose.yaml"))
    assert marked(home.root) == before


def test_down_cleans_up_after_a_killed_supervisor(home: Home, tmp_path: Path) -> None:
    start(home, shop=web())
    wait_until_healthy(home, PATIENCE_S)
    status = read_state(home)
    assert status is not None
    os.kill(status.pid, signal.SIGKILL)
    stop(home)
    assert marked(home.root) == []


@pytest.mark.parametrize("damage", ["removed", "emptied"])
def test_a_stack_whose_state_file_is_lost_is_seen_and_stopped(home: Home, damage: str) -> None:
    start(home, shop=beat())
    supervisor = wait_until_healthy(home, PATIENCE_S)
    assert holder(home) == Holder(supervisor.pid, supervisor.started)
    if damage == "removed":
        home.stack_state.unlink()
    else:
        home.stack_state.write_text("")
    assert overview(home, COMPOSE_FILE).running
    wait_for(lambda: read_state(home) == supervisor)  # the supervisor says it again
    home.stack_state.unlink()
    assert stop(home)
    assert marked(home.root) == [] and not supervisor.is_supervised


def test_two_homes_run_side_by_side(home: Home, tmp_path: Path) -> None:
    other = Home(tmp_path / "other" / "home")
    try:
        for one in (home, other):
            start(one, shop=web())
        ports = {wait_until_healthy(one, PATIENCE_S).services[0].port for one in (home, other)}
        assert len(ports) == 2
        stop(other)
        assert seen(home, "shop").state == "healthy" and marked(home.root)
    finally:
        stop(other)


def test_a_home_has_one_supervisor(home: Home, tmp_path: Path) -> None:
    launches = prepare(home, Wishes(write_stack(tmp_path / "stack", shop=beat())))
    with only_supervisor(home):
        assert is_supervised(home)
        with pytest.raises(AlreadyRunningError):
            Supervisor(home, launches, {}).run()
    assert not is_supervised(home)


def test_a_full_disk_does_not_bring_the_stack_down(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The state cannot be written for a while; services are started and stopped all the same."""
    launches = prepare(home, Wishes(write_stack(tmp_path / "stack", shop=beat())))
    supervisor = Supervisor(home, launches, {})
    writes = []

    def write(_: Home, status: StackStatus) -> None:
        writes.append(status.services[0].state)
        if len(writes) < 4:
            raise OSError(errno.ENOSPC, "No space left on device")
        if status.is_healthy:
            supervisor.stop_signals = 1

    monkeypatch.setattr("stack.runners.local.write_state", write)
    supervisor.run()
    assert writes[0] == "starting" and "healthy" in writes and writes[-1] == "stopped"
    assert marked(home.root) == []
