import multiprocessing
import os
import subprocess
import sys
from dataclasses import replace
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest

from imaging.layout import RunFolder
from imaging.publish import read_json
from services.trainer.claims import claim, this_process
from services.trainer.errors import LeaseLostError

STALE_S = 30.0


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    folder = RunFolder(tmp_path / "Task001_a" / "run-1")
    folder.root.mkdir(parents=True)
    return folder


def elsewhere(pid: int = 1):  # type: ignore[no-untyped-def]
    """A trainer on another machine."""
    return replace(this_process(), host="other", boot="other", pid=pid)


def grow_old(run: RunFolder) -> None:
    for path in [run.lease, *run.root.glob(".lease.*")]:
        if path.exists():
            os.utime(path, (0, 0))


def test_the_first_to_claim_has_the_run(run: RunFolder) -> None:
    lease = claim(run, this_process(), STALE_S)
    assert lease is not None
    assert claim(run, elsewhere(), STALE_S) is None
    record = read_json(run.lease)
    assert record["owner"].endswith(f":{os.getpid()}")
    assert record["claimed_at"].endswith("Z")
    lease.check()


def test_a_released_run_can_be_claimed_at_once(run: RunFolder) -> None:
    first = claim(run, this_process(), STALE_S)
    assert first is not None
    first.release()
    assert not run.lease.exists()
    second = claim(run, elsewhere(), STALE_S)
    assert second is not None
    with pytest.raises(LeaseLostError):
        first.check()


def test_an_old_heartbeat_is_taken_over_and_the_old_owner_finds_out(run: RunFolder) -> None:
    slow = claim(run, elsewhere(1), STALE_S)
    assert slow is not None
    grow_old(run)
    assert claim(run, elsewhere(2), STALE_S) is not None
    with pytest.raises(LeaseLostError, match="another trainer has taken over"):
        slow.beat()
    slow.release()  # leaves the new owner's lease alone
    assert run.lease.exists()
    assert claim(run, elsewhere(3), STALE_S) is None


def test_a_heartbeat_keeps_a_lease_fresh(run: RunFolder) -> None:
    lease = claim(run, elsewhere(), STALE_S)
    assert lease is not None
    grow_old(run)
    lease.beat()
    assert claim(run, this_process(), STALE_S) is None


def test_a_dead_owner_on_this_machine_is_not_waited_for(run: RunFolder) -> None:
    program = (
        "import sys; from pathlib import Path; from imaging.layout import RunFolder;"
        "from services.trainer.claims import claim, this_process;"
        f"assert claim(RunFolder(Path({str(run.root)!r})), this_process(), 30.0)"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=30)
    assert claim(run, this_process(), STALE_S) is not None


def test_a_process_number_used_again_is_not_the_old_owner(run: RunFolder) -> None:
    before = replace(this_process(), started="1")
    assert claim(run, before, STALE_S) is not None
    assert claim(run, this_process(), STALE_S) is not None


def test_a_half_written_claim_counts_until_it_is_old(run: RunFolder) -> None:
    (run.root / ".lease.1").write_text("")
    assert claim(run, this_process(), STALE_S) is None
    grow_old(run)
    assert claim(run, this_process(), STALE_S) is not None


def _race(root: str, barrier: Barrier, results: "multiprocessing.Queue[bool]") -> None:
    run = RunFolder(Path(root))
    barrier.wait()
    results.put(claim(run, this_process(), STALE_S) is not None)
    barrier.wait()  # stay alive until all have tried: the dead are not waited for


@pytest.mark.parametrize("abandoned", [False, True])
def test_of_racing_trainers_exactly_one_wins(run: RunFolder, abandoned: bool) -> None:
    context = multiprocessing.get_context("fork")
    for _ in range(5):
        for path in run.root.iterdir():
            path.unlink()
        if abandoned:
            assert claim(run, elsewhere(), STALE_S) is not None
            grow_old(run)
        results: multiprocessing.Queue[bool] = context.Queue()
        barrier = context.Barrier(6)
        racers = [
            context.Process(target=_race, args=(str(run.root), barrier, results)) for _ in range(6)
        ]
        for racer in racers:
            racer.start()
        wins = [results.get(timeout=20) for _ in racers]
        for racer in racers:
            racer.join(20)
        assert sum(wins) == 1
