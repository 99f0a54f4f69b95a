"""The training, told from top to bottom.

Mini-batches until the time budget is spent, the learning rate following the share of it that is
gone; validation on the averaged weights; a checkpoint every now and then. Every number is the
recipe's. The same loop runs on a CPU and on a GPU.
"""

import copy
import logging
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from imaging.model.augment import augment
from imaging.model.augment_volume import augment_volumes
from imaging.model.data import Prepared
from imaging.model.network import build_loss, build_network, in_full_precision
from imaging.model.volume_data import PreparedVolumes, cut_patches
from imaging.recipes.recipe import PictureRecipe, Recipe, VolumeRecipe
from services.trainer.checkpoint import TrainingState, Weights, load_checkpoint, save_checkpoint
from services.trainer.errors import HopelessRunError, InterruptedRunError
from services.trainer.validate import Validation, validate
from services.trainer.validate_volumes import validate_volumes

log = logging.getLogger(__name__)
REPORT_EVERY_S = 2.0


class Board(Protocol):
    """Where the training's figures and pictures go: TensorBoard, or nowhere."""

    def training(self, iteration: int, loss: float, rate: float, images_per_s: float) -> None: ...

    def validation(self, iteration: int, found: Validation) -> None: ...

    def start(self, data: "TrainingData", recipe: Recipe) -> None: ...


@dataclass(frozen=True, slots=True)
class TrainingData:
    """The cases that train, and those that only choose between weights (there may be none)."""

    train: Prepared | PreparedVolumes
    validation: Prepared | PreparedVolumes


@dataclass(frozen=True, slots=True)
class Trained:
    """The outcome of a training."""

    weights: Weights  # on the CPU
    iterations: int
    epochs: float
    elapsed_s: float
    validation: float | None  # score of the weights on the validation cases


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the training touches beside its data."""

    checkpoint: Path
    board: Board
    report: Callable[[float, str], None]  # share of the training done, a line for people
    device: torch.device
    is_stopping: Callable[[], bool] = lambda: False
    clock: Callable[[], float] = time.monotonic


def train(  # noqa: PLR0915 (told whole, by intent)
    recipe: Recipe,
    data: TrainingData,
    around: Surroundings,
    start_weights: Mapping[str, torch.Tensor] | None = None,
) -> Trained:
    """Train a network, or go on with one from its checkpoint.

    Args:
        recipe: every number.
        data: preprocessed cases, in memory.
        around: checkpoint, board, progress, device and clock.
        start_weights: weights to begin with instead of random ones.

    Raises:
        HopelessRunError: the loss is no longer a number.
        InterruptedRunError: asked to stop; the checkpoint is written.
        OSError: the checkpoint cannot be written.
    """
    state = _fresh_state(recipe, around.device, start_weights)
    if load_checkpoint(around.checkpoint, state, recipe):
        log.info("went on from iteration %d, %.0f s", state.iteration, state.elapsed_s)
    else:
        around.board.start(data, recipe)
    network, average, optimiser = state.network, state.average, state.optimiser
    loss_of = build_loss(recipe, _class_shares(data.train, around.device))
    mixed = _mixed_precision(around.device)
    epochs_per_iteration = recipe.batch / len(data.train)

    began = around.clock() - state.elapsed_s
    next_validation_s = state.elapsed_s + recipe.validate_every_s
    next_checkpoint_s = state.elapsed_s + recipe.checkpoint_every_s
    report = _Reporter(recipe, around, state)
    network.train()

    while not state.finished:
        state.elapsed_s = around.clock() - began
        share = max(
            state.elapsed_s / recipe.budget_s,
            state.iteration * epochs_per_iteration / recipe.max_epochs,
        )
        if share >= 1.0:
            break
        rate = learning_rate(recipe, share)
        for group in optimiser.param_groups:
            group["lr"] = rate

        chosen_B = batch_indices(state.iteration, recipe.batch, len(data.train), recipe.seed)
        images, targets = _varied_batch(data.train, chosen_B, recipe, state, around.device)
        images = images.contiguous(memory_format=_layout(recipe))

        optimiser.zero_grad(set_to_none=True)
        with torch.autocast(around.device.type, dtype=mixed, enabled=mixed is not None):
            output = network(images)
        loss = loss_of(in_full_precision(output), targets)
        loss_value = float(loss.item())
        if not math.isfinite(loss_value):
            raise HopelessRunError(
                f"the loss became {loss_value} at iteration {state.iteration}: the training "
                f"diverged; recipe.learning_rate is {recipe.learning_rate:g}, try a third of it"
            )
        state.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        state.scaler.unscale_(optimiser)
        torch.nn.utils.clip_grad_norm_(network.parameters(), recipe.clip_norm)
        state.scaler.step(optimiser)
        state.scaler.update()
        state.iteration += 1
        _update_average(average, network, recipe.average_decay, state.iteration)

        state.elapsed_s = around.clock() - began
        report.tell(share, loss_value, rate)
        if state.elapsed_s >= next_validation_s and len(data.validation):
            took_s = _validate_and_keep_best(state, recipe, data.validation, around)
            state.elapsed_s = around.clock() - began
            # A slow validation becomes a rare one: at most a tenth of the budget goes there.
            next_validation_s = state.elapsed_s + max(recipe.validate_every_s, 9 * took_s)
        stopping = around.is_stopping()
        if stopping or state.elapsed_s >= next_checkpoint_s:
            save_checkpoint(around.checkpoint, state, recipe)
            next_checkpoint_s = state.elapsed_s + recipe.checkpoint_every_s
        if stopping:
            raise InterruptedRunError(f"stopped at iteration {state.iteration}")

    if not state.finished:
        state.finished = True
        weights, score = _choose(state, recipe, data.validation, around)
        average.load_state_dict(weights)
        state.best_score = score
        save_checkpoint(around.checkpoint, state, recipe)
    return Trained(
        weights=_copy(average),
        iterations=state.iteration,
        epochs=state.iteration * epochs_per_iteration,
        elapsed_s=state.elapsed_s,
        validation=state.best_score,
    )


def learning_rate(recipe: Recipe, share: float) -> float:
    """The rate after a share of the budget: a straight warm-up, then half a cosine down to 0."""
    warm = min(1.0, (share + 1e-3) / recipe.warmup) if recipe.warmup > 0 else 1.0
    return recipe.learning_rate * warm * 0.5 * (1 + math.cos(math.pi * share))


def batch_indices(iteration: int, batch: int, count: int, seed: int) -> NDArray[np.int64]:
    """Which cases the given iteration sees.

    An endless stream of shuffled epochs, cut into batches: a function of the iteration alone, so
    that a resumed training sees what it would have seen.
    """
    places = np.arange(iteration * batch, (iteration + 1) * batch)
    epochs, offsets = np.divmod(places, count)
    orders = {
        epoch: np.random.default_rng([seed, epoch]).permutation(count)
        for epoch in np.unique(epochs).tolist()
    }
    pairs = zip(epochs.tolist(), offsets.tolist(), strict=True)
    return np.array([orders[epoch][offset] for epoch, offset in pairs], dtype=np.int64)


def _fresh_state(
    recipe: Recipe, device: torch.device, start_weights: Mapping[str, torch.Tensor] | None
) -> TrainingState:
    torch.manual_seed(recipe.seed)
    network = build_network(recipe)
    if start_weights is not None:
        network.load_state_dict(start_weights)
    network = network.to(device=device, memory_format=_layout(recipe))  # type: ignore[call-overload]
    return TrainingState(
        network=network,
        average=copy.deepcopy(network).requires_grad_(False).eval(),
        optimiser=torch.optim.AdamW(
            network.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay
        ),
        scaler=torch.amp.GradScaler(device.type, enabled=_mixed_precision(device) == torch.float16),
        generator=torch.Generator(device).manual_seed(recipe.seed),
    )


def _mixed_precision(device: torch.device) -> torch.dtype | None:
    """The type to compute in on a GPU. On CPUs full precision: without AMX, bfloat16 takes 2.2 to
    3 times as long."""
    if device.type != "cuda":
        return None
    return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16


def _layout(recipe: Recipe) -> torch.memory_format:
    """Channels last: convolutions are 10 to 25 % faster, on CPUs too."""
    is_volume = isinstance(recipe, VolumeRecipe)
    return torch.channels_last_3d if is_volume else torch.channels_last


def _varied_batch(
    data: Prepared | PreparedVolumes,
    chosen_B: NDArray[np.int64],
    recipe: Recipe,
    state: TrainingState,
    device: torch.device,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Augmented network input, and label maps or classes for it."""
    if isinstance(data, PreparedVolumes) and isinstance(recipe, VolumeRecipe):
        pieces, drawn = cut_patches(data, chosen_B, recipe, state.iteration)
        images, labels = torch.from_numpy(pieces).to(device), torch.from_numpy(drawn).to(device)
        return augment_volumes(images.float(), labels.long(), recipe, state.generator)
    if isinstance(data, Prepared) and isinstance(recipe, PictureRecipe):
        images, targets = _batch(data, chosen_B, device)
        labels_BHW = targets if recipe.kind == "segmentation" else None
        images, labels_BHW = augment(images, labels_BHW, recipe, state.generator)
        return images, targets if labels_BHW is None else labels_BHW
    raise HopelessRunError(f"recipe {recipe.name} does not fit the prepared cases")


def _batch(
    data: Prepared, chosen_B: NDArray[np.int64], device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    images = torch.from_numpy(data.images_NCHW[chosen_B]).to(device).float()
    if data.labels_NHW is not None:
        return images, torch.from_numpy(data.labels_NHW[chosen_B]).to(device).long()
    if data.classes_NK is None:
        raise HopelessRunError("the cases have neither label maps nor classes")
    return images, torch.from_numpy(data.classes_NK[chosen_B]).to(device)


def _class_shares(data: Prepared | PreparedVolumes, device: torch.device) -> torch.Tensor | None:
    if isinstance(data, PreparedVolumes) or data.classes_NK is None:
        return None
    return torch.from_numpy(data.classes_NK.mean(0)).to(device)


@torch.no_grad()
def _update_average(
    average: torch.nn.Module, network: torch.nn.Module, decay: float, iteration: int
) -> None:
    """Move the average, statistics of batch norm included, towards the network.

    Quickly at first, while the average still holds random weights.
    """
    step = 1 - min(decay, (1 + iteration) / (10 + iteration))
    moving = [p for p in average.state_dict().values() if p.is_floating_point()]
    target = [p for p in network.state_dict().values() if p.is_floating_point()]
    torch._foreach_lerp_(moving, target, step)


def _validate(
    network: torch.nn.Module,
    cases: Prepared | PreparedVolumes,
    recipe: Recipe,
    device: torch.device,
) -> Validation:
    if isinstance(cases, PreparedVolumes) and isinstance(recipe, VolumeRecipe):
        return validate_volumes(network, cases, recipe, device)
    if isinstance(cases, Prepared):
        return validate(network, cases, recipe, device)
    raise HopelessRunError(f"recipe {recipe.name} does not fit the prepared cases")


def _validate_and_keep_best(
    state: TrainingState,
    recipe: Recipe,
    cases: Prepared | PreparedVolumes,
    around: Surroundings,
) -> float:
    """Validate the averaged weights; how long it took, in seconds."""
    began = around.clock()
    found = _validate(state.average, cases, recipe, around.device)
    around.board.validation(state.iteration, found)
    if found.score is not None and (state.best_score is None or found.score > state.best_score):
        state.best_score, state.best_weights = found.score, _copy(state.average)
    return around.clock() - began


def _choose(
    state: TrainingState,
    recipe: Recipe,
    cases: Prepared | PreparedVolumes,
    around: Surroundings,
) -> tuple[Weights, float | None]:
    """The last weights, unless earlier ones were clearly better on the validation cases.

    With the rate gone down to 0 the last weights are nearly always the best; on a few validation
    cases the highest of many scores is mostly luck, hence the margin.
    """
    if not len(cases):
        return _copy(state.average), None
    found = _validate(state.average, cases, recipe, around.device)
    around.board.validation(state.iteration, found)
    if found.score is None or state.best_score is None or state.best_weights is None:
        return _copy(state.average), found.score
    if state.best_score > found.score + recipe.selection_margin:
        return state.best_weights, state.best_score
    return _copy(state.average), found.score


def _copy(network: torch.nn.Module) -> Weights:
    # Contiguous: channels-last strides would travel into the bundle's model.pt.
    return {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, tensor in network.state_dict().items()
    }


class _Reporter:
    """Says now and then how far the training is."""

    def __init__(self, recipe: Recipe, around: Surroundings, state: TrainingState) -> None:
        self.recipe, self.around, self.state = recipe, around, state
        self.losses: list[float] = []
        self.told_s = state.elapsed_s

    def tell(self, share: float, loss: float, rate: float) -> None:
        self.losses.append(loss)
        since_s = self.state.elapsed_s - self.told_s
        if since_s < REPORT_EVERY_S:
            return
        mean = sum(self.losses) / len(self.losses)
        images_per_s = len(self.losses) * self.recipe.batch / since_s
        self.around.board.training(self.state.iteration, mean, rate, images_per_s)
        left_s = self.state.elapsed_s * (1 - share) / max(share, 1e-6)
        self.around.report(
            share,
            f"iteration {self.state.iteration}, loss {mean:.3f}, "
            f"{images_per_s:.0f} images/s, about {left_s:.0f} s left",
        )
        self.losses, self.told_s = [], self.state.elapsed_s
