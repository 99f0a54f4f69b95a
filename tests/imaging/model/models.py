"""Bundles without training, for tests: the network's first random weights, exported."""

from pathlib import Path

import torch

from imaging.ids import utc_now
from imaging.model.bundle import Bundle, write_bundle
from imaging.model.network import build_network
from imaging.recipes.facts import SnapshotFacts
from imaging.recipes.plan import plan_recipe
from imaging.recipes.recipe import Recipe
from imaging.task import TaskConfig
from tests.phantoms import TASK

FACTS = SnapshotFacts(10, 40, 36, same_aspect=False, colour=False, bits=8)


def tiny_recipe(config: TaskConfig) -> Recipe:
    return plan_recipe(config, FACTS)


def record_of(folder: Path, config: TaskConfig) -> Bundle:
    """What labloop.json says about a model of six invented cases."""
    return Bundle(
        folder=folder,
        version=folder.name,
        task=TASK,
        run="run-1",
        snapshot="snap-1",
        scheme=config.scheme,
        multi_label=config.multi_label,
        recipe=tiny_recipe(config),
        cases={"train": ("case-1", "case-2"), "validation": ("case-3",), "test": ("case-4",)},
        patients={"train": ("p-1", "p-2"), "validation": ("p-3",), "test": ("p-4",)},
        created_at=utc_now(),
        training={"seconds": 1.5},
    )


def random_weights(config: TaskConfig, seed: int = 0) -> dict[str, torch.Tensor]:
    torch.manual_seed(seed)
    return dict(build_network(tiny_recipe(config)).state_dict())


def untrained_bundle(folder: Path, config: TaskConfig, seed: int = 0) -> Bundle:
    return write_bundle(record_of(folder, config), random_weights(config, seed))
