"""`kill -9` of every service in every phase of the loop: nothing is lost, nothing is doubled."""

from pathlib import Path

import pytest

from tests.flow.kills import small_demo, turn_while_killing
from tests.flow.stacks import running_stack

pytestmark = [pytest.mark.label_studio, pytest.mark.slow]
SERVICES = ("ingest", "watchdog", "trainer", "ml-backend", "label-studio")


def test_killing_every_service_in_every_phase_loses_and_doubles_nothing(tmp_path: Path) -> None:
    with running_stack(tmp_path / "home") as stack:
        turn_while_killing(stack, small_demo(), SERVICES)
