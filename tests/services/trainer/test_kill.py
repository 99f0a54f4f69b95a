"""The trainer as it runs: processes, signals and nothing patched."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from imaging.layout import Nas, RunFolder
from imaging.publish import STAGING, read_json
from imaging.registry import versions
from imaging.runs import load_state
from tests.phantoms import TASK, class_config
from tests.services.trainer.runs import environment_of, requested_run, settings_of

pytestmark = pytest.mark.slow
CONFIG = class_config(budget_s=12.0, checkpoint_every_s=0.3)


class TrainerProcess:
    """`python -m services.trainer`, in a process group of its own."""

    def __init__(self, nas: Nas, *arguments: str) -> None:
        settings = settings_of(nas)
        command = [sys.executable, "-m", "services.trainer", *arguments]
        self.process = subprocess.Popen(
            command, env=environment_of(settings), start_new_session=True
        )

    def child(self) -> int | None:
        """The process that trains."""
        path = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        children = path.read_text().split() if path.exists() else []
        return int(children[0]) if children else None

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(30)


def wait_for(condition: Callable[[], object], timeout_s: float = 120.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


def iterations(run: RunFolder) -> int:
    path = run.checkpoints / "last.pt"
    return int(torch.load(path, weights_only=True)["iteration"]) if path.is_file() else 0


def is_gone(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return True
    return state == "Z"


def check_end(nas: Nas, run: RunFolder) -> None:
    """One bundle, one verdict, nothing left lying about."""
    state = load_state(run)
    assert state.state == "judged"
    assert [version.version for version in versions(nas, TASK)] == [state.version]
    assert read_json(run.verdict)["subject"]["candidate"] == state.version
    staging = nas.model(TASK).root / STAGING
    assert not staging.is_dir() or not any(staging.iterdir())


def test_a_killed_child_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    nas, run = requested_run(tmp_path, CONFIG, count=40)
    trainer = TrainerProcess(nas, "--once")
    wait_for(lambda: iterations(run) > 5)
    child = trainer.child()
    assert child is not None
    os.kill(child, signal.SIGKILL)
    before = iterations(run)
    assert trainer.process.wait(180) == 0
    assert iterations(run) > before
    assert load_state(run).attempts == 2
    check_end(nas, run)


def test_a_killed_trainer_takes_its_child_along_and_the_next_one_goes_on(tmp_path: Path) -> None:
    nas, run = requested_run(tmp_path, CONFIG, count=40)
    first = TrainerProcess(nas)
    wait_for(lambda: iterations(run) > 5)
    child = first.child()
    assert child is not None
    first.kill()
    wait_for(lambda: is_gone(child), 10)
    before = iterations(run)
    began = time.monotonic()
    assert TrainerProcess(nas, "--once").process.wait(180) == 0
    assert time.monotonic() - began < 100  # it does not wait for the lease to grow old
    assert iterations(run) > before
    check_end(nas, run)


@pytest.mark.parametrize("moment", ["version named", "bundle published", "metrics written"])
def test_killed_after_training_there_is_still_one_bundle_and_one_verdict(
    tmp_path: Path, moment: str
) -> None:
    nas, run = requested_run(tmp_path, class_config(budget_s=2.0), count=40)
    reached = {
        "version named": lambda: load_state(run).version,
        "bundle published": lambda: versions(nas, TASK),
        "metrics written": lambda: run.metrics.is_file(),
    }
    first = TrainerProcess(nas)
    wait_for(reached[moment])
    first.kill()
    assert TrainerProcess(nas, "--once").process.wait(180) == 0
    check_end(nas, run)


def test_asked_to_stop_the_trainer_gives_the_run_back_and_exits_well(tmp_path: Path) -> None:
    nas, run = requested_run(tmp_path, CONFIG, count=40)
    trainer = TrainerProcess(nas)
    wait_for(lambda: iterations(run) > 5)
    trainer.process.send_signal(signal.SIGTERM)
    assert trainer.process.wait(30) == 0
    state = load_state(run)
    assert (state.state, state.attempts) == ("claimed", 0)
    assert not run.lease.exists()
    before = iterations(run)
    assert TrainerProcess(nas, "--once").process.wait(180) == 0
    assert iterations(run) > before
    check_end(nas, run)


def test_two_trainers_share_the_work_without_doing_it_twice(tmp_path: Path) -> None:
    nas, run = requested_run(tmp_path, class_config(budget_s=3.0), count=40)
    trainers = [TrainerProcess(nas, "--once") for _ in range(2)]
    codes = [trainer.process.wait(180) for trainer in trainers]
    assert 0 in codes
    assert load_state(run).attempts == 1
    check_end(nas, run)
