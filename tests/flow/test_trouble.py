"""The NAS goes away, the disk fills up: the loop pauses, says why, and goes on by itself."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from imaging.dataset.cases import list_cases
from stack.bootstrap import init_nas
from stack.demo.annotator import Annotator
from stack.demo.dataset import DemoSet, demo_set
from tests.flow.stacks import (
    RunningStack,
    assert_nothing_lost_or_doubled,
    running_stack,
    wait_for,
)

pytestmark = [pytest.mark.label_studio, pytest.mark.slow]
SIZE_MB = 24


@pytest.fixture(scope="module")
def demo() -> DemoSet:
    whole = demo_set("example", 10.0, Path())
    items = tuple(replace(item, write_label=None) for item in whole.items[:24])
    return replace(whole, items=items, rounds=(8, 8))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of a few megabytes, for the NAS."""
    folder = tmp_path / "share"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={SIZE_MB}m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(command, check=False).returncode != 0:
        pytest.skip("mounting a small file system needs root")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_nas_that_goes_away_pauses_the_loop_and_comes_back(tmp_path: Path, demo: DemoSet) -> None:
    with running_stack(tmp_path / "home") as stack:
        story = stack.story(demo)
        marker = stack.home.nas.marker
        aside = marker.with_name("marker-aside")
        marker.rename(aside)
        for name in ("ingest", "watchdog", "trainer"):
            wait_for(f"{name} says why it pauses", lambda name=name: paused(stack, name), 60)
        demo.write(story.folder)
        assert not story.folder.cases.exists(), "nothing is taken from a share that is not there"
        aside.rename(marker)
        stack.wait_until_healthy()
        wait_for("the pictures become tasks", lambda: tasks(stack, demo) == len(demo.items), 120)
        assert_nothing_lost_or_doubled(stack, demo)


def test_a_full_disk_pauses_the_loop_and_loses_nothing(
    tmp_path: Path, demo: DemoSet, small_disk: Path
) -> None:
    init_nas(small_disk)
    with running_stack(tmp_path / "home", nas=small_disk) as stack:
        story = stack.story(demo)
        demo.write(story.folder)
        ballast = fill_up(small_disk)
        wait_for("ingest says that the disk is full", lambda: full(stack, "ingest"), 90)
        assert not any(story.folder.rejected.glob("rej-*")), "a good picture is not refused"
        ballast.unlink()
        wait_for("the pictures become tasks", lambda: tasks(stack, demo) == len(demo.items), 120)
        project = stack.client.find_project(demo.task)
        assert project is not None

        ballast = fill_up(small_disk)
        annotator = Annotator(stack.client, project.id, story.folder, demo.truths)
        for _ in range(4):
            assert annotator.annotate_next() is not None
        wait_for("the watchdog says that the disk is full", lambda: full(stack, "watchdog"), 90)
        ballast.unlink()
        stack.wait_until_healthy()
        wait_for("the answers land", lambda: landed(story.folder.annotations) == 4, 60)
        assert len(list(list_cases(story.folder))) == len(demo.items)
        assert_nothing_lost_or_doubled(stack, demo)


def paused(stack: RunningStack, name: str) -> bool:
    service = stack.service(name)
    return service.state != "healthy" and "not mounted" in service.reason


def full(stack: RunningStack, name: str) -> bool:
    service = stack.service(name)
    return service.state != "healthy" and "space" in service.reason.lower()


def tasks(stack: RunningStack, demo: DemoSet) -> int:
    project = stack.client.find_project(demo.task)
    return 0 if project is None else sum(1 for _ in stack.client.tasks(project.id))


def landed(annotations: Path) -> int:
    return sum(1 for _ in annotations.glob("case-*/*.json"))


def fill_up(folder: Path) -> Path:
    """A file that takes the last byte of the disk."""
    ballast = folder / "ballast"
    with ballast.open("wb") as stream:
        stream.write(bytes(shutil.disk_usage(folder).free))
    return ballast
