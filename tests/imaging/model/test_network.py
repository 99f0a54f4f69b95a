from dataclasses import replace

import numpy as np
import pytest
import torch

from imaging.model.network import activate, build_loss, build_network
from imaging.recipes.plan import plan_recipe
from imaging.task import TaskConfig
from tests.imaging.model.models import FACTS, tiny_recipe
from tests.phantoms import class_config, mask_config

MASKS, CLASSES = mask_config(), class_config()


@pytest.mark.parametrize("config", [MASKS, CLASSES])
def test_networks_answer_in_the_shape_of_their_kind(config: TaskConfig) -> None:
    recipe = tiny_recipe(config)
    logits = build_network(recipe)(torch.zeros(2, recipe.channels, *recipe.input_HW))
    expected = (2, 3, 32, 32) if config is MASKS else (2, 2)
    assert logits.shape == expected
    total = activate(logits, recipe).sum(1)
    assert torch.allclose(total, torch.ones_like(total))


@pytest.mark.parametrize("kind", ["segmentation", "classification"])
def test_the_default_networks_fit_their_default_input(kind: str) -> None:
    config = replace(MASKS if kind == "segmentation" else CLASSES, recipe=type(MASKS.recipe)())
    recipe = plan_recipe(config, replace(FACTS, median_H=300, median_W=200, same_aspect=True))
    with torch.inference_mode():
        logits = build_network(recipe).eval()(torch.zeros(1, 1, *recipe.input_HW))
    assert logits.shape[1] == recipe.outputs


@pytest.mark.parametrize("side", [8, 16, 23, 40])
@pytest.mark.parametrize("kind", ["segmentation", "classification"])
def test_networks_for_tiny_pictures_can_be_trained(kind: str, side: int) -> None:
    config = replace(MASKS if kind == "segmentation" else CLASSES, recipe=type(MASKS.recipe)())
    recipe = plan_recipe(config, replace(FACTS, median_H=side, median_W=side, same_aspect=True))
    network = build_network(recipe).train()
    network(torch.rand(recipe.batch, recipe.channels, *recipe.input_HW)).sum().backward()


def test_the_mask_loss_falls_with_the_right_answer_and_knows_each_label() -> None:
    loss = build_loss(tiny_recipe(MASKS))
    labels_BHW = torch.zeros(1, 8, 8, dtype=torch.long)
    labels_BHW[0, :4], labels_BHW[0, 4:6] = 1, 2
    right = 10 * torch.nn.functional.one_hot(labels_BHW, 3).permute(0, 3, 1, 2).float()
    swapped = right[:, [0, 2, 1]]
    assert loss(right, labels_BHW) < 0.01
    assert loss(swapped, labels_BHW) > 1.0


def test_a_rare_class_weighs_as_much_as_a_common_one() -> None:
    recipe = replace(tiny_recipe(CLASSES), label_smoothing=0.0)
    shares = torch.tensor([0.8, 0.2])
    loss = build_loss(recipe, shares)
    logits = torch.zeros(10, 2, requires_grad=True)
    targets = torch.zeros(10, 2)
    targets[:8, 0], targets[8:, 1] = 1, 1
    loss(logits, targets).backward()
    assert logits.grad is not None
    assert logits.grad.sum(0).abs().max() < 1e-6  # even odds are the optimum


def test_several_classes_are_balanced_one_by_one() -> None:
    recipe = replace(tiny_recipe(CLASSES), activation="sigmoid", label_smoothing=0.0)
    targets = torch.tensor(np.repeat([[1.0, 1.0], [0.0, 1.0]], [5, 5], axis=0), dtype=torch.float32)
    targets[9, 1] = 0.0
    loss = build_loss(recipe, targets.mean(0))
    logits = torch.zeros(10, 2, requires_grad=True)
    loss(logits, targets).backward()
    assert logits.grad is not None
    assert logits.grad.sum(0).abs().max() < 1e-6
