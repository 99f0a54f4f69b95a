"""Everything a training needs to go on after a kill, in one file that appears whole.

Written between two iterations, so that a resumed training continues with the very next one:
same weights, same optimiser moments, same random numbers, same place in the budget.
"""

import io
import logging
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from imaging.publish import write_bytes
from imaging.recipes.recipe import Recipe

log = logging.getLogger(__name__)
Weights = dict[str, torch.Tensor]


@dataclass
class TrainingState:
    """What changes while a network trains."""

    network: torch.nn.Module
    average: torch.nn.Module  # running average of the network's weights; what is exported
    optimiser: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    generator: torch.Generator  # of the augmentation
    iteration: int = 0
    elapsed_s: float = 0.0  # of the budget; goes on where a killed attempt stopped
    best_score: float | None = None  # of the averaged weights on the validation cases
    best_weights: Weights | None = None
    finished: bool = False


def save_checkpoint(path: Path, state: TrainingState, recipe: Recipe) -> None:
    """Replace the checkpoint in one step.

    Raises:
        OSError: the share is full or gone; the previous checkpoint is still there.
    """
    content = {
        "recipe": recipe.digest,
        "network": state.network.state_dict(),
        "average": state.average.state_dict(),
        "optimiser": state.optimiser.state_dict(),
        "scaler": state.scaler.state_dict(),
        "generator": state.generator.get_state(),
        "iteration": state.iteration,
        "elapsed_s": state.elapsed_s,
        "best_score": state.best_score,
        "best_weights": state.best_weights,
        "finished": state.finished,
    }
    stream = io.BytesIO()
    torch.save(content, stream)
    write_bytes(path, stream.getvalue())


def load_checkpoint(path: Path, state: TrainingState, recipe: Recipe) -> bool:
    """Continue from a checkpoint; False when there is none that fits, and nothing was changed.

    A file that cannot be read, or of another recipe, is no checkpoint of this run: training
    starts anew, which costs time but never a wrong model.
    """
    if not path.is_file():
        return False
    try:
        content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        fits = content["recipe"] == recipe.digest
    except (RuntimeError, ValueError, KeyError, EOFError, pickle.UnpicklingError) as error:
        log.warning("ignored an unreadable checkpoint in %s: %s", path.parent, error)
        return False
    if not fits:
        log.warning("ignored a checkpoint of another recipe in %s", path.parent)
        return False
    state.network.load_state_dict(content["network"])
    state.average.load_state_dict(content["average"])
    state.optimiser.load_state_dict(content["optimiser"])
    state.scaler.load_state_dict(content["scaler"])
    state.generator.set_state(content["generator"])
    state.iteration, state.elapsed_s = content["iteration"], content["elapsed_s"]
    state.best_score, state.best_weights = content["best_score"], content["best_weights"]
    state.finished = content["finished"]
    return True
