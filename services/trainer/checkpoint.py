"""Everything a training needs to go on after a kill, in one file that appears whole.

Written between two iterations, so that a resumed training continues with the very next one:
same weights, same optimiser moments, same random numbers, same place in the budget.
"""

import copy
import io
import logging
from collections.abc import Mapping
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
    stream = io.BytesIO()
    torch.save({"recipe": recipe.digest, **_content_of(state)}, stream)
    write_bytes(path, stream.getvalue())


def load_checkpoint(path: Path, state: TrainingState, recipe: Recipe) -> bool:
    """Continue from a checkpoint; False when there is none that fits, and nothing was changed.

    A file that cannot be used, or of another recipe, is no checkpoint of this run: training
    starts anew, which costs time but never a wrong model.

    Raises:
        OSError: the share did not let it be read.
    """
    if not path.is_file():
        return False
    data = path.read_bytes()
    before = copy.deepcopy(_content_of(state))
    try:
        content = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
        if content["recipe"] != recipe.digest:
            log.warning("ignored a checkpoint of another recipe in %s", path.parent)
            return False
        _apply(content, state)
    except MemoryError:
        raise
    except Exception as error:
        # Damaged bytes meet torch's readers with a dozen exception types, some of them only when
        # half of the content is in place. Nothing is read from the share here.
        log.warning("ignored an unusable checkpoint in %s: %r", path.parent, error)
        _apply(before, state)
        return False
    return True


def _content_of(state: TrainingState) -> dict[str, Any]:
    return {
        "device": state.generator.device.type,
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


def _apply(content: Mapping[str, Any], state: TrainingState) -> None:
    state.network.load_state_dict(content["network"])
    state.average.load_state_dict(content["average"])
    state.optimiser.load_state_dict(content["optimiser"])
    # A GPU's random numbers and loss scale mean nothing to a CPU, and the other way round. Where a
    # run goes on elsewhere, augmentation draws other numbers; all else is as it was.
    if content["device"] == state.generator.device.type:
        state.scaler.load_state_dict(content["scaler"])
        state.generator.set_state(content["generator"])
    state.iteration, state.elapsed_s = int(content["iteration"]), float(content["elapsed_s"])
    state.best_score, state.best_weights = content["best_score"], content["best_weights"]
    state.finished = bool(content["finished"])
