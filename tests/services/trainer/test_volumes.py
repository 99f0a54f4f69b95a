"""Volumes through the trainer's loop: it learns, goes on after a kill, and shows what it does."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from imaging.dataset.snapshot import freeze_snapshot
from imaging.dataset.volumes import read_case_labels, read_case_volume
from imaging.layout import MARKER, Nas
from imaging.model.bundle import describe_model, load_bundle, write_bundle
from imaging.model.metrics import dice_by_label, score_masks
from imaging.model.predict import load_predictor
from imaging.model.predict_volume import VolumePredictor
from imaging.recipes.plan import plan_for
from imaging.recipes.recipe import Recipe, VolumeRecipe
from imaging.runs import load_state, request_run
from imaging.task import GatePolicy, save_task
from services.trainer.board import TensorBoard
from services.trainer.claims import claim, this_process
from services.trainer.errors import HopelessRunError, InterruptedRunError
from services.trainer.exits import DONE
from services.trainer.loop import TrainingData, train
from services.trainer.work import (
    Attempt,
    check_trainable,
    perform,
    postprocessing_for,
    prepare_data,
)
from tests.imaging.dataset.lab import VOLUMES, block, import_label_map, make_volume
from tests.phantoms import TASK
from tests.services.trainer.runs import Clock, SilentBoard, settings_of, surroundings
from tests.volume_phantoms import SCHEME, volume_config, volume_snapshot


def made_ready(
    folder: Path, budget_s: float, count: int = 6, **numbers: object
) -> tuple[Recipe, TrainingData]:
    snapshot = volume_snapshot(folder, count)
    recipe = plan_for(volume_config(budget_s, **numbers), snapshot)  # type: ignore[arg-type]
    return recipe, prepare_data(snapshot, recipe)


def stop_after(count: int) -> Callable[[], bool]:
    left = iter([False] * (count - 1))
    return lambda: next(left, True)


def test_a_training_of_volumes_validates_whole_ones(tmp_path: Path) -> None:
    recipe, data = made_ready(tmp_path, 0.5)
    board = SilentBoard()
    trained = train(recipe, data, surroundings(tmp_path, board, Clock(0.05)))
    assert trained.iterations > 2
    found = board.found[-1]
    assert found.score == trained.validation
    assert len(found.labels) == 2
    assert found.images_BCHW.shape[0] == len(data.validation)
    assert found.truth_BHW is not None and found.truth_BHW.any()


def test_a_killed_training_of_volumes_ends_with_the_very_same_weights(tmp_path: Path) -> None:
    recipe, data = made_ready(tmp_path, 1e6, max_epochs=3, validate_every_s=8e4)
    whole = train(recipe, data, surroundings(tmp_path / "whole", clock=Clock(0.0)))
    stopped = surroundings(tmp_path / "cut", clock=Clock(0.0), is_stopping=stop_after(3))
    with pytest.raises(InterruptedRunError):
        train(recipe, data, stopped)
    resumed = train(recipe, data, surroundings(tmp_path / "cut", clock=Clock(0.0)))
    assert resumed.iterations == whole.iterations
    for name, tensor in whole.weights.items():
        assert torch.equal(tensor, resumed.weights[name])


def test_tensorboard_shows_slices_of_volumes(tmp_path: Path) -> None:
    recipe, data = made_ready(tmp_path, 0.2)
    with TensorBoard(tmp_path / "board", SCHEME) as board:
        board.start(data, recipe)
        around = surroundings(tmp_path, board, Clock(0.05))  # type: ignore[arg-type]
        train(recipe, data, around)
    assert list((tmp_path / "board").glob("events*"))


def test_volumes_without_any_label_cannot_train(tmp_path: Path) -> None:
    from imaging.io.nifti import read_nifti, write_label_volume

    snapshot = volume_snapshot(tmp_path, 3)
    recipe = plan_for(volume_config(1.0), snapshot)
    for case in snapshot.cases:
        assert case.labels is not None
        grid = read_nifti(case.image).grid
        write_label_volume(case.labels, np.zeros(grid.shape_XYZ, np.uint8), grid)
    with pytest.raises(HopelessRunError, match="shows a label, expected front, back"):
        check_trainable(prepare_data(snapshot, recipe).train, SCHEME.names)


@pytest.mark.slow
def test_a_few_seconds_teach_where_the_ball_is(tmp_path: Path) -> None:
    snapshot = volume_snapshot(tmp_path / "set", 12)
    config = volume_config(1e6, widths="8 16 32", learning_rate=5e-3, max_epochs=25)
    recipe = plan_for(config, snapshot)
    trained = train(recipe, prepare_data(snapshot, recipe), surroundings(tmp_path, clock=Clock(0)))
    record = describe_model(tmp_path / "model-1", "run-1", recipe, snapshot, {})
    bundle = write_bundle(
        record, trained.weights, choose=lambda one: postprocessing_for(one, snapshot)
    )
    predictor = load_predictor(bundle.folder, threads=1)
    assert isinstance(predictor, VolumePredictor)
    dice = []
    for case in snapshot.of("test"):
        volume = read_case_volume(case)
        answer = predictor.predict([volume])[0]
        truth_XYZ = read_case_labels(case, volume.grid)
        dice += dice_by_label(score_masks(truth_XYZ, answer.labels_XYZ, SCHEME)).values()
    assert np.mean(dice) > 0.8  # type: ignore[arg-type]


@pytest.mark.slow
def test_a_run_on_volumes_ends_with_a_bundle_and_a_verdict(tmp_path: Path) -> None:
    nas = Nas(tmp_path)
    (tmp_path / MARKER).touch()
    task = nas.task(TASK)
    config = replace(
        volume_config(1.0, "CT"),
        scheme=VOLUMES.scheme,
        gate=GatePolicy(min_held_out_cases=1, resamples=200),
    )
    save_task(task.config, config)
    for number in range(8):
        case = make_volume(task, number)
        import_label_map(task, case, block(2 + number % 3))
    snapshot = freeze_snapshot(task, config)
    run = request_run(nas, TASK, snapshot.id, requested_by="person", reason="a test")
    lease = claim(run, this_process(), stale_s=60.0)
    assert lease is not None
    assert perform(Attempt(nas, lease, settings_of(nas))) == DONE
    version = load_state(run).version
    assert version is not None
    bundle = load_bundle(nas.model(TASK).version(version))
    assert isinstance(bundle.recipe, VolumeRecipe)
    assert bundle.recipe.normalisation == "dataset"
    assert "mean Dice" in bundle.metrics
    assert run.verdict.is_file()
