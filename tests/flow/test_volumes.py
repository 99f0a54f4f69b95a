"""The loop on volumes: slices are drawn in Label Studio, one label map comes back, a model follows.

And the airlock: DICOM with a planted identity goes through the same stack.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from imaging.dataset.cases import CaseRecord, list_cases
from imaging.dataset.quarantine import quarantined
from imaging.dataset.snapshot import Snapshot, load_snapshot, newest_snapshot
from imaging.io.nifti import read_label_volume, read_nifti
from imaging.io.volumes import read_labels
from imaging.labelstudio.stack import items_of
from imaging.layout import TaskFolder
from imaging.task import GatePolicy, RecipeChoice
from stack.demo.annotator import Annotator
from stack.demo.dataset import DemoSet, hippocampus_set
from stack.demo.story import Round, Story
from tests.flow.stacks import RunningStack, assert_nothing_lost_or_doubled, running_stack, wait_for
from tests.phi import SERIES, assert_nothing_planted, require

pytestmark = [pytest.mark.label_studio, pytest.mark.slow]
DATA = Path(os.environ.get("LABLOOP_DATA", Path(__file__).parents[3] / "shared" / "data"))
DRAWN = 4
BUDGET_S = 60.0
# Coarse voxels and few patches: good enough to beat a guess within the time.
COARSE = {"stem_stride": 2, "blocks": 1, "batch": 2, "average_decay": 0.95}


@pytest.fixture(scope="module")
def demo() -> DemoSet:
    if not (DATA / "hippocampus_mr").is_dir():
        pytest.skip(f"there is no {DATA / 'hippocampus_mr'}: LABLOOP_DATA names the sets' folder")
    made = hippocampus_set(DATA, drawn=DRAWN, volumes=30)
    recipe = RecipeChoice("auto", BUDGET_S, COARSE)
    gate = GatePolicy(min_held_out_cases=3)
    return replace(made, config=replace(made.config, recipe=recipe, gate=gate))


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    with running_stack(tmp_path_factory.mktemp("volumes") / "home") as running:
        yield running


@pytest.fixture(scope="module")
def story(stack: RunningStack, demo: DemoSet) -> Story:
    return stack.story(demo)


@pytest.fixture(scope="module")
def first_run(story: Story) -> Round:
    """Label maps that came with their volumes have trained a first model."""
    project = story.arrive()
    made = story.train(turn=1)
    story.predictions(project, made)
    return made


@pytest.fixture(scope="module")
def second_snapshot(story: Story, first_run: Round) -> Snapshot:
    """What is frozen after an annotator has drawn the rest, slice by slice."""
    project = story.client.find_project(story.demo.task)
    assert project is not None
    annotator = Annotator(story.client, project.id, story.folder, story.demo.truths)
    assert story.annotate(annotator, DRAWN) == (DRAWN, DRAWN), "all began from the model's guess"
    wait_for("the second snapshot", lambda: len(list(story.folder.snapshots.glob("snap-*"))) == 2)
    newest = newest_snapshot(story.folder)
    assert newest is not None
    return load_snapshot(newest.folder)


def test_a_model_of_volumes_is_promoted_and_its_guess_lies_on_slices(
    stack: RunningStack, story: Story, first_run: Round
) -> None:
    assert first_run.promoted and (first_run.candidate_score or 0) > 0.5
    project = stack.client.find_project(story.demo.task)
    assert project is not None
    cases = {case.case: case for case in list_cases(story.folder)}
    open_tasks = [task for task in stack.client.tasks(project.id) if not task["annotations"]]
    assert len(open_tasks) == DRAWN
    for task in open_tasks:
        items = items_of(task["data"])
        volume = cases[task["data"]["case"]].volume
        assert volume is not None and sorted(items) == list(range(volume.plane.count))
        [guess] = task["predictions"]
        shown = {region["item_index"] for region in guess["result"]}
        assert len(shown) > 5 and max(shown) < len(items)


def test_what_was_drawn_on_slices_is_one_label_map_on_the_exact_grid(
    stack: RunningStack, story: Story, second_snapshot: Snapshot
) -> None:
    records = {case.case: case for case in list_cases(story.folder)}
    assert len(second_snapshot.cases) == len(story.demo.items)
    by_people = 0
    for case in second_snapshot.cases:
        record = records[case.case]
        source = DATA / "hippocampus_mr" / "labels" / file_of(record)
        assert record.volume is not None and case.labels is not None
        expected_XYZ = read_labels(source, record.volume.grid, second_snapshot.scheme)
        found_XYZ = read_label_volume(case.labels, record.volume.grid)
        np.testing.assert_array_equal(found_XYZ, expected_XYZ)
        image = read_nifti(DATA / "hippocampus_mr" / "images" / file_of(record))
        assert read_nifti(case.labels).grid == image.grid, "shape and affine, to the last digit"
        by_people += any("import" not in answer.file for answer in case.answers)
        assert not case.interpolated
    assert by_people == DRAWN
    assert_nothing_lost_or_doubled(stack, story.demo)


def test_neighbours_of_one_patient_are_on_one_side(story: Story, second_snapshot: Snapshot) -> None:
    records = {case.case: case for case in list_cases(story.folder)}
    patients = {item.file: item.patient for item in story.demo.items}
    sides: dict[str, set[str]] = {}
    for case in second_snapshot.cases:
        sides.setdefault(patients[file_of(records[case.case])], set()).add(case.split)
    assert all(len(side) == 1 for side in sides.values())
    assert {split for side in sides.values() for split in side} == {"train", "validation", "test"}


def test_a_planted_identity_gets_nowhere_and_waits_for_a_person(stack: RunningStack) -> None:
    healthy = DATA / "mr_brain_t1_t2_dicom" / "patient07" / "T1"
    require(SERIES, healthy)
    task = stack.home.nas.task("Task005_brains")
    filling = task.root / ".filling"
    shutil.copytree(healthy, filling / "first")
    shutil.copytree(SERIES, filling / "second")
    filling.rename(task.rawdata)
    wait_for("one series is a case, one waits", lambda: standing(task) == (1, 1))
    [held] = quarantined(task)
    assert held.picture.is_file() and held.id in labloop(stack, "release", task.name)
    assert not (task.root / "rejected").exists()
    assert_nothing_planted(stack.home.root, beside=[task.rawdata])

    labloop(stack, "release", task.name, held.id, "--reject", "--by", "the lab's physicist")
    wait_for(
        "its files are rejected", lambda: len(list(task.rejected.glob("rej-*/reason.txt"))) > 0
    )
    [reason] = task.rejected.glob("rej-*/reason.txt")
    originals = [path for path in reason.parent.rglob("*") if path.is_file() and path != reason]
    assert len(originals) == 12
    assert_nothing_planted(stack.home.root, beside=[task.rawdata, *originals])
    assert standing(task) == (1, 1) and tasks_of(stack, task) == 1


def standing(task: TaskFolder) -> tuple[int, int]:
    """Cases, and series in quarantine."""
    return len(list(list_cases(task))), len(list(quarantined(task)))


def tasks_of(stack: RunningStack, task: TaskFolder) -> int:
    project = stack.client.find_project(task.name)
    return 0 if project is None else len(list(stack.client.tasks(project.id)))


def labloop(stack: RunningStack, *arguments: str) -> str:
    command = [sys.executable, "-m", "stack.cli", *arguments, "--home", str(stack.home.root)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def file_of(record: CaseRecord) -> str:
    return record.source.path.rsplit("/", 1)[-1]
