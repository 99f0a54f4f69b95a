"""Bundles for volumes without training, for tests: first random weights, exported."""

from pathlib import Path

import torch

from imaging.model.bundle import Bundle, describe_model, write_bundle
from imaging.model.cleaning import Cleanings
from imaging.model.network import build_network
from imaging.recipes.plan import plan_volume_recipe
from imaging.recipes.recipe import VolumeRecipe
from imaging.recipes.volume_facts import ChannelFacts, VolumeSetFacts
from imaging.task import Scalar
from tests.volume_phantoms import snapshot_of, volume_config

FACTS = VolumeSetFacts(
    train_cases=4,
    median_spacing_mm=(1.5, 1.5, 2.0),
    tenth_spacing_mm=(1.5, 1.5, 2.0),
    extents_mm=((23.0, 24.0, 28.0),),
    channels=(ChannelFacts(30.0, 220.0, 120.0, 40.0),),
    is_cut_out=False,
)


def tiny_volume_recipe(modality: str = "MR", channels: int = 1, **numbers: Scalar) -> VolumeRecipe:
    facts = VolumeSetFacts(
        **{
            **{name: getattr(FACTS, name) for name in FACTS.__dataclass_fields__},
            "channels": FACTS.channels * channels,
        }
    )
    return plan_volume_recipe(volume_config(1.0, modality, **numbers), facts)


def random_weights(recipe: VolumeRecipe, seed: int = 0) -> dict[str, torch.Tensor]:
    """Weights whose answers differ from place to place: MONAI's first ones say nearly nothing."""
    torch.manual_seed(seed)
    weights = build_network(recipe).state_dict()
    return {name: tensor * 3 if tensor.ndim > 1 else tensor for name, tensor in weights.items()}


def untrained_volume_bundle(
    folder: Path, recipe: VolumeRecipe, cleanings: Cleanings | None = None
) -> Bundle:
    record = describe_model(folder, "run-1", recipe, snapshot_of(folder, ()), {})
    return write_bundle(record, random_weights(recipe), choose=lambda _: cleanings or {})
