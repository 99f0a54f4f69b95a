import math
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from imaging.model.metrics import quadratic_scores
from imaging.task import TaskConfig
from services.trainer.checkpoint import TrainingState, Weights, load_checkpoint
from services.trainer.errors import HopelessRunError, InterruptedRunError
from services.trainer.loop import (
    Surroundings,
    _fresh_state,
    batch_indices,
    learning_rate,
    train,
)
from services.trainer.validate import Validation, certainty_per_class, dice_per_label
from tests.phantoms import class_config, mask_config
from tests.services.trainer.runs import Clock, SilentBoard, prepared, surroundings


def same(first: Weights, second: Weights) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[n], second[n]) for n in first)


class StopAfter:
    """Asks the loop to stop once it has gone round a number of times."""

    def __init__(self, iterations: int) -> None:
        self.left = iterations

    def __call__(self) -> bool:
        self.left -= 1
        return self.left <= 0


@pytest.mark.parametrize("config", [mask_config(max_epochs=50), class_config(max_epochs=20)])
def test_a_training_learns_its_task(tmp_path: Path, config: TaskConfig) -> None:
    recipe, data = prepared(tmp_path, config)
    # The clock says that hardly any time passes: the epochs end the training.
    board = SilentBoard()
    trained = train(recipe, data, surroundings(tmp_path, board, Clock(1e-4)))
    assert trained.epochs == pytest.approx(recipe.max_epochs, abs=1)
    assert trained.validation is not None
    assert trained.validation > (0.6 if config.kind == "segmentation" else 0.85)


@pytest.mark.gpu
def test_a_gpu_learns_the_same_task(tmp_path: Path) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    recipe, data = prepared(tmp_path, mask_config(max_epochs=50))
    around = replace(surroundings(tmp_path, clock=Clock(1e-4)), device=torch.device("cuda"))
    trained = train(recipe, data, around)
    assert trained.validation is not None
    assert trained.validation > 0.6
    assert all(tensor.device.type == "cpu" for tensor in trained.weights.values())


def test_the_budget_ends_the_training(tmp_path: Path) -> None:
    recipe, data = prepared(tmp_path, mask_config(budget_s=3.0))
    board = SilentBoard()
    trained = train(recipe, data, surroundings(tmp_path, board, Clock(0.05)))
    assert 3.0 <= trained.elapsed_s < 3.2
    assert trained.iterations < 40


def test_a_resumed_training_ends_with_the_very_same_weights(tmp_path: Path) -> None:
    config = mask_config(max_epochs=4, validate_every_s=1e3, budget_s=1e6)
    recipe, data = prepared(tmp_path, config)
    whole = train(recipe, data, surroundings(tmp_path / "whole", clock=lambda: 0.0))
    around = surroundings(tmp_path / "parts", clock=lambda: 0.0, is_stopping=StopAfter(3))
    with pytest.raises(InterruptedRunError):
        train(recipe, data, around)
    parts = train(recipe, data, surroundings(tmp_path / "parts", clock=lambda: 0.0))
    assert parts.iterations == whole.iterations
    assert same(parts.weights, whole.weights)


def test_a_resumed_training_goes_on_in_its_budget(tmp_path: Path) -> None:
    recipe, data = prepared(tmp_path, mask_config(budget_s=3.0))
    with pytest.raises(InterruptedRunError):
        train(recipe, data, surroundings(tmp_path, clock=Clock(0.05), is_stopping=StopAfter(8)))
    board = SilentBoard()
    trained = train(recipe, data, surroundings(tmp_path, board, Clock(0.05)))
    assert board.started == 0  # the contact sheet was shown by the first attempt
    assert trained.elapsed_s < 3.2


def test_a_finished_training_is_not_trained_again(tmp_path: Path) -> None:
    recipe, data = prepared(tmp_path, mask_config(budget_s=1.0))
    first = train(recipe, data, surroundings(tmp_path, clock=Clock(0.05)))
    board = SilentBoard()
    second = train(recipe, data, surroundings(tmp_path, board, Clock(0.05)))
    assert same(first.weights, second.weights)
    assert (second.iterations, second.validation) == (first.iterations, first.validation)
    assert not board.losses


@pytest.mark.parametrize("spoil", ["truncate", "other recipe", "nonsense"])
def test_an_unusable_checkpoint_means_a_fresh_start(tmp_path: Path, spoil: str) -> None:
    recipe, data = prepared(tmp_path, mask_config(budget_s=1.0))
    train(recipe, data, surroundings(tmp_path, clock=Clock(0.05)))
    path = surroundings(tmp_path).checkpoint
    if spoil == "truncate":
        path.write_bytes(path.read_bytes()[:1000])
    elif spoil == "nonsense":
        path.write_bytes(b"no checkpoint")
    else:
        recipe = replace(recipe, seed=7)
    board = SilentBoard()
    train(recipe, data, surroundings(tmp_path, board, Clock(0.05)))
    assert board.started == 1


def rewritten(path: Path, **changes: object) -> None:
    """A whole checkpoint that says something else."""
    torch.save(torch.load(path, weights_only=True) | {"finished": False} | changes, path)


@pytest.mark.parametrize(
    "changes",
    [
        {"optimiser": {"state": {}, "param_groups": []}},
        {"generator": torch.zeros(16, dtype=torch.uint8)},
        {"iteration": "many"},
        {"average": {}},
    ],
    ids=["optimiser", "generator", "iteration", "average"],
)
def test_a_checkpoint_that_breaks_off_halfway_leaves_nothing_behind(
    tmp_path: Path, changes: dict[str, object]
) -> None:
    recipe, data = prepared(tmp_path, mask_config(budget_s=1.0))
    expected = train(recipe, data, surroundings(tmp_path, clock=Clock(0.05)))
    rewritten(surroundings(tmp_path).checkpoint, **changes)
    board = SilentBoard()
    found = train(recipe, data, surroundings(tmp_path, board, Clock(0.05)))
    assert board.started == 1
    assert same(found.weights, expected.weights)


def test_a_checkpoint_of_a_gpu_goes_on_without_one(tmp_path: Path) -> None:
    recipe, data = prepared(tmp_path, mask_config(budget_s=1.0))
    first = train(recipe, data, surroundings(tmp_path, clock=Clock(0.05)))
    on_gpu = {"device": "cuda", "generator": torch.zeros(16, dtype=torch.uint8), "scaler": {"x": 1}}
    rewritten(surroundings(tmp_path).checkpoint, **on_gpu)
    board = SilentBoard()
    again = train(recipe, data, surroundings(tmp_path, board, Clock(0.05)))
    assert board.started == 0
    assert again.iterations >= first.iterations


def test_bit_rot_in_a_checkpoint_is_never_trouble(tmp_path: Path) -> None:
    recipe, data = prepared(tmp_path, mask_config(budget_s=1.0))
    train(recipe, data, surroundings(tmp_path, clock=Clock(0.05)))
    path, state = surroundings(tmp_path).checkpoint, _fresh_state(recipe, torch.device("cpu"), None)
    whole, draw = path.read_bytes(), np.random.default_rng(1)
    for _ in range(60):
        damaged = bytearray(whole)
        for place in draw.integers(0, 3000, size=4):
            damaged[place] = draw.integers(256)
        path.write_bytes(damaged)
        load_checkpoint(path, state, recipe)


def test_a_loss_that_is_no_number_fails_with_advice(tmp_path: Path) -> None:
    recipe, data = prepared(tmp_path, mask_config(budget_s=100.0))
    data.train.images_NCHW[:] = np.nan
    with pytest.raises(HopelessRunError, match=r"diverged; recipe\.learning_rate is 0\.01"):
        train(recipe, data, surroundings(tmp_path))


def test_training_works_without_validation_cases(tmp_path: Path) -> None:
    config = mask_config(budget_s=1.0)
    config = replace(config, split=replace(config.split, validation=0.0))
    recipe, data = prepared(tmp_path, config)
    assert len(data.validation) == 0
    trained = train(recipe, data, surroundings(tmp_path, clock=Clock(0.05)))
    assert trained.validation is None


def test_training_begins_with_the_weights_it_is_given(tmp_path: Path) -> None:
    recipe, data = prepared(tmp_path, mask_config(budget_s=1.0))
    frozen = replace(recipe, learning_rate=1e-8)
    first = train(recipe, data, surroundings(tmp_path / "a", clock=Clock(0.05)))
    again = train(frozen, data, surroundings(tmp_path / "b", clock=Clock(0.05)), first.weights)
    assert all(torch.allclose(first.weights[n], again.weights[n], atol=1e-5) for n in first.weights)


@pytest.mark.parametrize(("early", "kept"), [(0.9, 0.9), (0.505, 0.5)])
def test_earlier_weights_return_only_when_clearly_better(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, early: float, kept: float
) -> None:
    recipe, data = prepared(tmp_path, mask_config(budget_s=1.0, validate_every_s=0.3))
    seen: list[Weights] = []
    none = np.zeros((0, 1, 32, 32), dtype=np.float32)

    def scripted(network: torch.nn.Module, *_: object) -> Validation:
        seen.append({n: tensor.clone() for n, tensor in network.state_dict().items()})
        score = early if len(seen) == 1 else 0.5
        return Validation(score, (score, None), none, None, None, None, None)

    monkeypatch.setattr("services.trainer.loop.validate", scripted)
    trained = train(recipe, data, surroundings(tmp_path, clock=Clock(0.02)))
    assert trained.validation == kept
    assert same(trained.weights, seen[0] if kept == early else seen[-1])
    assert not same(seen[0], seen[-1])


def test_the_rate_rises_then_falls_to_nothing(tmp_path: Path) -> None:
    recipe, _ = prepared(tmp_path, mask_config())
    rates = [learning_rate(recipe, share) for share in np.linspace(0, 1, 101)]
    peak = int(np.argmax(rates))
    assert 0 < rates[0] < 0.1 * recipe.learning_rate
    assert abs(peak - 100 * recipe.warmup) <= 1
    assert all(a >= b for a, b in zip(rates[peak:], rates[peak + 1 :], strict=False))
    assert rates[-1] == pytest.approx(0, abs=1e-9)
    assert not math.isnan(sum(rates))


def test_every_case_is_seen_once_per_epoch_in_another_order() -> None:
    stream = np.concatenate([batch_indices(number, 4, 10, seed=0) for number in range(5)])
    assert len(stream) == 20
    assert Counter(stream[:10].tolist()) == Counter(stream[10:].tolist()) == Counter(range(10))
    assert stream[:10].tolist() != stream[10:].tolist()
    assert batch_indices(3, 4, 10, seed=0).tolist() == stream[12:16].tolist()


def test_fewer_cases_than_a_batch_are_repeated() -> None:
    assert Counter(batch_indices(0, 8, 3, seed=0).tolist()).most_common()[-1][1] >= 2


def test_a_missing_checkpoint_changes_nothing(tmp_path: Path) -> None:
    recipe, _ = prepared(tmp_path, mask_config())
    state = TrainingState.__new__(TrainingState)
    assert not load_checkpoint(tmp_path / "none.pt", state, recipe)


def test_validation_dice_skips_a_label_that_nobody_drew() -> None:
    truth = np.zeros((2, 4, 4), dtype=np.uint8)
    pred = truth.copy()
    truth[0, :2], pred[0, :2] = 1, 1
    pred[1, :1] = 1
    assert dice_per_label(truth, pred, count=3) == (0.5, None)


def test_validation_certainty_is_the_gates_measure() -> None:
    config = class_config()
    truth_NK = np.array([[1, 0], [0, 1], [0, 1]], dtype=np.float32)
    odds_NK = np.array([[0.9, 0.1], [0.4, 0.6], [0.8, 0.2]], dtype=np.float32)
    names = [("left",), ("right",), ("right",)]
    for several in (False, True):
        rows = quadratic_scores(names, odds_NK, config.scheme, multi_label=several)
        columns = {key: [row[key] for row in rows if row[key] is not None] for key in rows[0]}
        means = {key: float(np.mean(values)) for key, values in columns.items()}
        found = certainty_per_class(truth_NK, odds_NK, several=several)
        assert np.mean([one for one in found if one is not None]) == pytest.approx(
            np.mean(list(means.values())), abs=1e-6
        )


def test_progress_is_told_with_time_left(tmp_path: Path) -> None:
    told: list[tuple[float, str]] = []
    recipe, data = prepared(tmp_path, mask_config(budget_s=10.0))
    around = surroundings(tmp_path, clock=Clock(0.2))
    train(
        recipe,
        data,
        Surroundings(
            around.checkpoint,
            around.board,
            lambda share, text: told.append((share, text)),
            around.device,
            clock=around.clock,
        ),
    )
    shares = [share for share, _ in told]
    assert shares == sorted(shares)
    assert len(shares) >= 3
    assert "s left" in told[0][1]
