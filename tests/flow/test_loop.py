"""The loop, closed: the whole stack on the demo's pictures, from the first drop to a roll-back."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from imaging.dataset.cases import list_cases
from imaging.dataset.snapshot import load_snapshot, newest_snapshot
from imaging.io.picture import read_label_map, write_label_map
from imaging.publish import MANIFEST, manifest_files, publish, read_json, staging_folder, write_json
from imaging.registry import champion
from imaging.runs import is_over, list_runs, load_state, request_run
from stack.demo.dataset import DemoSet, demo_set
from stack.demo.story import Outcome
from stack.serving import served_version
from tests.flow.stacks import (
    RunningStack,
    assert_nothing_lost_or_doubled,
    running_stack,
    wait_for,
)

pytestmark = [pytest.mark.label_studio, pytest.mark.slow]
BUDGET_S = 30.0
SHAPE_HW = (128, 128)


@pytest.fixture(scope="module")
def demo() -> DemoSet:
    return demo_set("example", BUDGET_S, Path())


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    with running_stack(tmp_path_factory.mktemp("loop") / "home") as running:
        yield running


@pytest.fixture(scope="module")
def outcome(stack: RunningStack, demo: DemoSet) -> Outcome:
    return stack.story(demo).tell()


def test_the_loop_turns_twice_without_a_hand(
    stack: RunningStack, demo: DemoSet, outcome: Outcome
) -> None:
    first, second = outcome.rounds
    assert first.promoted and second.promoted
    assert outcome.corrected_guesses == outcome.labels == demo.rounds[1]
    verdict = read_json(stack.home.nas.run(demo.task, second.run).verdict)
    assert verdict["opponent"] == "champion" and verdict["overall"]["low"] > 0
    page = stack.home.nas.run(demo.task, second.run).verdict_text.read_text()
    assert page.startswith("# Promoted") and "Label by label" in page
    assert len(list(list_runs(stack.home.nas, demo.task))) == 2, "one run per round"
    assert_nothing_lost_or_doubled(stack, demo)


def test_a_snapshot_keeps_patients_apart(
    stack: RunningStack, demo: DemoSet, outcome: Outcome
) -> None:
    folder = stack.home.nas.task(demo.task)
    snapshots = [load_snapshot(path) for path in sorted(folder.snapshots.glob("snap-*"))]
    assert len(snapshots) == 2
    held_out = [
        {case.patient for case in snapshot.cases if case.split == "test"} for snapshot in snapshots
    ]
    assert held_out[0] <= held_out[1], "held-out patients stay held out"
    trained = {case.patient for case in snapshots[1].cases if case.split != "test"}
    assert not trained & held_out[1]


def test_a_model_trained_on_shuffled_labels_is_refused(
    stack: RunningStack, demo: DemoSet, outcome: Outcome
) -> None:
    nas = stack.home.nas
    serving = champion(nas, demo.task)
    assert serving is not None
    planted = _plant_shuffled_snapshot(stack, demo)
    run = request_run(nas, demo.task, planted, requested_by="person", reason="planted")
    wait_for("the planted run is judged", lambda: is_over(run), limit_s=300)
    assert load_state(run).state == "judged"
    verdict = read_json(run.verdict)
    assert not verdict["promote"] and verdict["reasons"]
    still = champion(nas, demo.task)
    assert still is not None and still.version == serving.version


def test_a_roll_back_serves_the_previous_model_within_five_seconds(
    stack: RunningStack, demo: DemoSet, outcome: Outcome
) -> None:
    first, second = outcome.rounds
    assert served_version(stack.home, demo.task) == second.version
    labloop(stack, "rollback", demo.task)
    wait_for(
        "the previous version serves",
        lambda: served_version(stack.home, demo.task) == first.version,
        limit_s=5,
    )
    labloop(stack, "promote", demo.task, str(second.version))
    assert served_version(stack.home, demo.task) == second.version


def test_scripts_get_masks_figures_and_versions_from_the_champion(
    stack: RunningStack, demo: DemoSet, outcome: Outcome, tmp_path: Path
) -> None:
    folder = stack.home.nas.task(demo.task)
    pictures = [folder.case(case.case) / case.image for case in list_cases(folder)][:3]
    for number, picture in enumerate(pictures):
        (tmp_path / f"{number}.png").write_bytes(picture.read_bytes())
    (tmp_path / "broken.png").write_bytes(pictures[0].read_bytes()[:200])
    files = [str(tmp_path / name) for name in ("0.png", "1.png", "2.png")]
    labloop(stack, "predict", demo.task, *files, "-o", str(tmp_path / "out"))
    rows = (tmp_path / "out" / "predictions.csv").read_text().splitlines()
    assert rows[0] == "file,version,score,grey matter,white matter" and len(rows) == 4
    labels_HW = read_label_map(tmp_path / "out" / "0.png", SHAPE_HW)
    assert set(np.unique(labels_HW)) == {0, 1, 2}
    with pytest.raises(subprocess.CalledProcessError) as caught:
        labloop(
            stack, "predict", demo.task, str(tmp_path / "broken.png"), "-o", str(tmp_path / "b")
        )
    assert caught.value.returncode == 1 and "ends too early" in caught.value.stderr
    with pytest.raises(subprocess.CalledProcessError) as caught:
        labloop(stack, "predict", demo.task, files[0], "-o", str(tmp_path))
    assert caught.value.returncode == 3, "a mask never takes the place of its own picture"

    figures = labloop(stack, "evaluate", demo.task, "-o", str(tmp_path / "evaluation"))
    assert "mean Dice" in figures
    assert (tmp_path / "evaluation" / "cases.csv").read_text().count("\n") > 10
    listed = labloop(stack, "models", demo.task)
    assert all(str(one.version) in listed for one in outcome.rounds)


def labloop(stack: RunningStack, *arguments: str) -> str:
    command = [sys.executable, "-m", "stack.cli", *arguments, "--home", str(stack.home.root)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def _plant_shuffled_snapshot(stack: RunningStack, demo: DemoSet) -> str:
    """The newest snapshot again, with the label maps of train and validation exchanged."""
    task = stack.home.nas.task(demo.task)
    newest = newest_snapshot(task)
    assert newest is not None
    manifest = read_json(newest.folder / MANIFEST)
    manifest["snapshot"] = name = newest.id[:-4] + "bad0"
    entries = [one for one in manifest["cases"] if one["split"] != "test"]
    shifted = entries[7:] + entries[:7]
    final = task.snapshot(name)
    with staging_folder(final) as staging:
        (staging / "labels").mkdir()
        for entry in manifest["cases"]:
            labels_HW = read_label_map(newest.folder / entry["labels"], SHAPE_HW)
            if entry in entries:
                other = shifted[entries.index(entry)]
                labels_HW = read_label_map(newest.folder / other["labels"], SHAPE_HW)
                labels_HW = np.ascontiguousarray(labels_HW[::-1])
            write_label_map(staging / entry["labels"], labels_HW)
        (staging / "folds.json").write_bytes((newest.folder / "folds.json").read_bytes())
        manifest["files"] = manifest_files(staging)
        write_json(staging / MANIFEST, manifest)
        publish(staging, final)
    return name
