"""Runs on a phantom NAS, and what the trainer's parts need around them."""

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch

from imaging.layout import Nas, RunFolder
from imaging.model.data import prepare
from imaging.recipes.facts import measure_facts
from imaging.recipes.plan import plan_recipe
from imaging.recipes.recipe import Recipe
from imaging.runs import request_run
from imaging.task import TaskConfig
from services.trainer.loop import Surroundings, TrainingData
from services.trainer.settings import TrainerSettings
from services.trainer.validate import Validation
from tests.phantoms import TASK, phantom_nas, phantom_snapshot


@dataclass
class SilentBoard:
    """Remembers what TensorBoard would have shown."""

    losses: list[float] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)
    found: list[Validation] = field(default_factory=list)
    started: int = 0

    def training(self, iteration: int, loss: float, rate: float, images_per_s: float) -> None:
        self.losses.append(loss)
        self.rates.append(rate)

    def validation(self, iteration: int, found: Validation) -> None:
        self.found.append(found)

    def start(self, data: TrainingData, recipe: Recipe) -> None:
        self.started += 1


class Clock:
    """Every look at it takes a fixed time."""

    def __init__(self, step_s: float = 0.01) -> None:
        self.now_s, self.step_s = 0.0, step_s

    def __call__(self) -> float:
        self.now_s += self.step_s
        return self.now_s


def prepared(tmp_path: Path, config: TaskConfig) -> tuple[Recipe, TrainingData]:
    """A recipe and its data, from a phantom NAS."""
    snapshot = phantom_snapshot(phantom_nas(tmp_path / "nas", config), config)
    recipe = plan_recipe(config, measure_facts(snapshot))
    data = TrainingData(
        prepare(snapshot.of("train"), config.scheme, recipe),
        prepare(snapshot.of("validation"), config.scheme, recipe),
    )
    return recipe, data


def surroundings(
    tmp_path: Path,
    board: SilentBoard | None = None,
    clock: Callable[[], float] | None = None,
    is_stopping: Callable[[], bool] = lambda: False,
) -> Surroundings:
    return Surroundings(
        checkpoint=tmp_path / "checkpoints" / "last.pt",
        board=board or SilentBoard(),
        report=lambda share, text: None,
        device=torch.device("cpu"),
        is_stopping=is_stopping,
        clock=clock or Clock(),
    )


def settings_of(nas: Nas, **values: object) -> TrainerSettings:
    defaults: dict[str, object] = {
        "nas_root": nas.root,
        "heartbeat_file": nas.root.parent / "heartbeat",
        "poll_s": 0.1,
        "lease_stale_s": 60.0,
        "max_attempts": 3,
        "threads": 1,
        "nice": 0,
        "device": "cpu",
        "log_level": "INFO",
    }
    return TrainerSettings(**(defaults | values))  # type: ignore[arg-type]


def environment_of(settings: TrainerSettings) -> dict[str, str]:
    """The same settings, as the trainer's processes read them."""
    return {
        "PATH": os.environ["PATH"],
        "NAS_ROOT": str(settings.nas_root),
        "HEARTBEAT_FILE": str(settings.heartbeat_file),
        "POLL_S": str(settings.poll_s),
        "TRAINER_LEASE_STALE_S": str(settings.lease_stale_s),
        "TRAINER_MAX_ATTEMPTS": str(settings.max_attempts),
        "TRAINER_THREADS": str(settings.threads),
        "TRAINER_NICE": str(settings.nice),
        "TRAINER_DEVICE": settings.device,
    }


def requested_run(tmp_path: Path, config: TaskConfig, count: int = 24) -> tuple[Nas, RunFolder]:
    """A phantom NAS with one frozen snapshot and one waiting run."""
    nas = phantom_nas(tmp_path / "nas", config, count)
    return nas, request_again(nas, config)


def request_again(nas: Nas, config: TaskConfig) -> RunFolder:
    snapshot = phantom_snapshot(nas, config)
    return request_run(nas, TASK, snapshot.id, requested_by="person", reason="a test")


PYTHON = sys.executable
