from dataclasses import replace
from typing import Any

import pytest

from stack.engine.engine import ContainerState, container_state
from stack.engine.look import reason_of, state_of
from stack.engine.up import is_converged, is_troubled

RECORD: dict[str, Any] = {
    "Name": "/lab-db-1",
    "RestartCount": 2,
    "State": {
        "Status": "running",
        "ExitCode": 0,
        "StartedAt": "2026-03-14T09:15:00.5Z",
        "Health": {
            "Status": "unhealthy",
            "Log": [{"Output": "old"}, {"Output": "no answer\n within 5 s\n"}],
        },
    },
    "Config": {
        "Image": "postgres:17.7",
        "Labels": {
            "com.docker.compose.service": "db",
            "com.docker.compose.config-hash": "abc",
        },
    },
    "HostConfig": {"PortBindings": {"8443/tcp": [{"HostIp": "", "HostPort": "443"}]}},
}
WELL = replace(container_state(RECORD), health="healthy")


def test_a_container_is_told_with_the_last_words_of_its_check() -> None:
    found = container_state(RECORD)
    assert (found.service, found.health, found.restarts) == ("db", "unhealthy", 2)
    assert found.reason == "no answer within 5 s"
    assert found.ports == (("0.0.0.0", 443),)
    assert found.since == "2026-03-14T09:15:00Z"


@pytest.mark.parametrize(
    ("found", "state", "words"),
    [
        (WELL, "healthy", ""),
        (replace(WELL, health="unhealthy"), "unhealthy", "no answer within 5 s"),
        (replace(WELL, health="starting"), "starting", "no answer"),
        (replace(WELL, status="paused"), "unhealthy", "docker unpause"),
        (replace(WELL, status="created"), "waiting", ""),
        (replace(WELL, status="exited"), "stopped", ""),
        (replace(WELL, status="exited", exit_code=137), "failing", "killed"),
        (replace(WELL, status="restarting", exit_code=2), "restarting", "exit code 2"),
    ],
)
def test_the_engines_words_become_ours(found: ContainerState, state: str, words: str) -> None:
    assert state_of(found) == state
    assert words in reason_of(found, state_of(found))


def test_a_stack_is_converged_when_all_run_as_described_and_are_well() -> None:
    assert is_converged({"db": "abc"}, [WELL])
    assert not is_converged({"db": "other"}, [WELL])
    assert not is_converged({"db": "abc", "redis": "x"}, [WELL])
    assert not is_converged({}, [WELL]), "a service that was taken out still runs"
    assert not is_converged({"db": "abc"}, [replace(WELL, health="unhealthy")])


def test_young_and_waiting_containers_are_not_the_trouble() -> None:
    assert not is_troubled(replace(WELL, health="starting"))
    assert not is_troubled(replace(WELL, status="created"))
    assert is_troubled(replace(WELL, health="unhealthy"))
    assert is_troubled(replace(WELL, status="exited", exit_code=1))
