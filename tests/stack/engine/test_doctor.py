"""What the doctor makes of the stack's containers."""

from dataclasses import replace

import pytest

from stack.engine.doctor import containers
from stack.engine.engine import ContainerState
from tests.stack.engine.test_look import WELL


@pytest.mark.parametrize(
    ("found", "grade", "words"),
    [
        ([], "ok", "is down"),
        ([WELL, WELL], "ok", "2 containers are healthy"),
        ([WELL, replace(WELL, service="files-lite", health="starting")], "warn", "files-lite"),
        ([replace(WELL, health="unhealthy")], "fail", "db unhealthy: no answer within 5 s"),
        ([replace(WELL, status="exited", exit_code=137)], "fail", "137"),
    ],
)
def test_a_container_that_was_just_started_is_no_fault(
    found: list[ContainerState], grade: str, words: str
) -> None:
    finding = containers(found)
    assert finding.grade == grade and words in finding.found
