"""The engine that `.ci/engine` started for this checkout: the only one a test may restart."""

import subprocess
from pathlib import Path

import pytest

from stack.environments import ROOT

PID_FILE = ROOT / ".cache" / "engine" / "dockerd.pid"
LIMIT_S = 90.0


def our_engine() -> int:
    """Its process; the test is skipped where the engine is somebody else's."""
    try:
        pid = int(PID_FILE.read_text())
        name = Path(f"/proc/{pid}/comm").read_text().strip()
    except (OSError, ValueError):
        pytest.skip("the engine was not started by .ci/engine of this checkout: it stays as it is")
    if name != "dockerd":
        pytest.skip(f"{PID_FILE} names {name}, not dockerd")
    return pid


def restart_engine() -> None:
    """Stop it as a machine does that goes down, and start it again."""
    our_engine()
    for verb in ("stop", "start"):
        subprocess.run([ROOT / ".ci" / "engine", verb], check=True, timeout=LIMIT_S)
