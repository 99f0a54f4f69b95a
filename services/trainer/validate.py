"""How well a network does on the validation cases, on the network's grid: quick, and often."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from imaging.model.data import Prepared
from imaging.model.network import activate
from imaging.recipes.recipe import Recipe

BATCH = 16
SHOWN = 4  # cases drawn on TensorBoard


@dataclass(frozen=True, slots=True)
class Validation:
    """Scores in [0, 1], more is better; None where nothing could be scored."""

    score: float | None  # mean over the labels; chooses between weights
    labels: tuple[float | None, ...]  # Dice, or certainty about a class, in the scheme's order
    images_BCHW: NDArray[np.float32]  # the first few cases …
    truth_BHW: NDArray[np.uint8] | None
    pred_BHW: NDArray[np.uint8] | None
    classes_BK: NDArray[np.float32] | None
    probabilities_BK: NDArray[np.float32] | None


@torch.inference_mode()
def validate(
    network: torch.nn.Module, data: Prepared, recipe: Recipe, device: torch.device
) -> Validation:
    """Score a network on prepared cases; it stays in the mode it was in."""
    was_training = network.training
    network.eval()
    outputs = []
    for start in range(0, len(data), BATCH):
        images = torch.from_numpy(data.images_NCHW[start : start + BATCH]).to(device).float()
        images = images.contiguous(memory_format=torch.channels_last)
        probabilities = activate(network(images), recipe)
        masks = recipe.kind == "segmentation"
        outputs.append((probabilities.argmax(1).byte() if masks else probabilities).cpu().numpy())
    network.train(was_training)
    answers = np.concatenate(outputs)
    images_BCHW = data.images_NCHW[:SHOWN].astype(np.float32)
    if data.labels_NHW is not None:
        labels = dice_per_label(data.labels_NHW, answers, recipe.outputs)
        shown = data.labels_NHW[:SHOWN], answers[:SHOWN]
        return Validation(mean_of(labels), labels, images_BCHW, *shown, None, None)
    truth_NK = data.classes_NK
    if truth_NK is None:
        truth_NK = np.empty((0, recipe.outputs), dtype=np.float32)
    labels = certainty_per_class(truth_NK, answers, several=recipe.activation == "sigmoid")
    return Validation(
        mean_of(labels), labels, images_BCHW, None, None, truth_NK[:SHOWN], answers[:SHOWN]
    )


def dice_per_label(
    truth_NHW: NDArray[np.uint8], pred_NHW: NDArray[np.uint8], count: int
) -> tuple[float | None, ...]:
    """Mean Dice of each label over the cases in which truth or prediction hold it."""
    means: list[float | None] = []
    for index in range(1, count):
        truth, pred = truth_NHW == index, pred_NHW == index
        total_N = truth.sum((1, 2)) + pred.sum((1, 2))
        both_N = (truth & pred).sum((1, 2))
        held_N = total_N > 0
        dice_N = 2 * both_N[held_N] / total_N[held_N]
        means.append(float(dice_N.mean()) if len(dice_N) else None)
    return tuple(means)


def certainty_per_class(
    truth_NK: NDArray[np.floating], probabilities_NK: NDArray[np.floating], *, several: bool
) -> tuple[float | None, ...]:
    """The gate's measure (`quadratic_scores`) per class, over the cases that hold it or, where
    several may hold, over present and absent alike."""
    squares_NK = (probabilities_NK - truth_NK) ** 2
    score_N = 1 - squares_NK.sum(1) / 2
    means: list[float | None] = []
    for k in range(truth_NK.shape[1]):
        present_N = truth_NK[:, k] > 0
        if several:
            groups = [1 - squares_NK[held_N, k] for held_N in (present_N, ~present_N)]
        else:
            groups = [score_N[present_N]]
        means.append(mean_of([float(group.mean()) for group in groups if len(group)]))
    return tuple(means)


def mean_of(values: Sequence[float | None]) -> float | None:
    """Over what is known; None over nothing."""
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None
