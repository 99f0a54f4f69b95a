"""Containers killed in every phase, all down and up, the engine restarted: nothing is lost."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from stack.demo.dataset import DemoSet
from tests.docker.engine import wait_for
from tests.docker.labs import DockerLab, a_lab, lab_umask
from tests.docker.loops import KillableLab
from tests.docker.our_engine import restart_engine
from tests.flow.kills import small_demo, turn_while_killing
from tests.flow.stacks import assert_nothing_lost_or_doubled

pytestmark = [pytest.mark.docker, pytest.mark.label_studio, pytest.mark.slow]
SERVICES = (
    "ingest",
    "watchdog",
    "trainer",
    "ml-backend",
    "label-studio",
    "db",
    "gateway",
    "tensorboard",
    "files-lite",
)


@pytest.fixture(scope="module")
def lab(engine: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DockerLab]:
    with a_lab(tmp_path_factory.mktemp("kills")) as lab:
        lab.up()
        yield lab


@pytest.fixture(scope="module")
def demo() -> DemoSet:
    return small_demo()


def test_killing_every_container_in_every_phase_loses_and_doubles_nothing(
    lab: DockerLab, demo: DemoSet
) -> None:
    with lab.client() as client, lab_umask():
        turn_while_killing(KillableLab(lab, client), demo, SERVICES)


def test_down_and_up_loses_nothing(lab: DockerLab, demo: DemoSet) -> None:
    """As when the machine is restarted in good order."""
    before = fingerprint(lab)
    said = lab.labloop("down")
    assert "no data was removed" in said and not lab.containers()
    lab.up()
    assert fingerprint(lab) == before
    with lab.client() as client:
        assert_nothing_lost_or_doubled(KillableLab(lab, client), demo)


def test_a_restarted_engine_brings_everything_back_by_itself(lab: DockerLab, demo: DemoSet) -> None:
    """As when the machine lost its power: all containers start at once, in no order."""
    before = fingerprint(lab)
    restart_engine()
    with lab.client() as client:
        killable = KillableLab(lab, client)
        killable.wait_until_healthy()
        assert_nothing_lost_or_doubled(killable, demo)
    assert fingerprint(lab) == before
    assert "nothing to do" in lab.up()


def fingerprint(lab: DockerLab) -> dict[str, bytes]:
    """Every label, snapshot, verdict and champion on the share."""
    root = lab.home.nas.root
    kept = ("annotations", "snapshots")
    files = [
        path
        for path in root.rglob("*")
        if path.is_file()
        and (
            set(path.relative_to(root).parts) & set(kept)
            or path.name in ("verdict.json", "champion.json")
        )
    ]
    wait_for("there is something to lose", lambda: bool(files), 1)
    return {path.relative_to(root).as_posix(): Path(path).read_bytes() for path in files}
