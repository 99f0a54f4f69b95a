"""The network and the loss of a recipe, from MONAI.

The network is described once, as the dictionary that MONAI's bundle configuration holds, and
built from it: what trains is what configs/inference.json builds again.
"""

from collections.abc import Callable
from typing import Any, cast

import torch
from monai.bundle.config_item import ConfigComponent
from monai.losses.dice import DiceCELoss
from torch.nn.functional import binary_cross_entropy_with_logits

from imaging.recipes.recipe import Recipe

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def network_config(recipe: Recipe) -> dict[str, Any]:
    """The network as a component of a MONAI bundle configuration."""
    if recipe.network == "UNet":
        return {
            "_target_": "UNet",
            "spatial_dims": 2,
            "in_channels": recipe.channels,
            "out_channels": recipe.outputs,
            "channels": list(recipe.widths),
            "strides": [2] * (len(recipe.widths) - 1),
            "num_res_units": recipe.blocks,
            "norm": recipe.norm,
        }
    return {
        "_target_": "ResNet",
        "block": "basic",
        "layers": [recipe.blocks] * len(recipe.widths),
        "block_inplanes": list(recipe.widths),
        "spatial_dims": 2,
        "n_input_channels": recipe.channels,
        "num_classes": recipe.outputs,
        "conv1_t_size": 7,
        "conv1_t_stride": 2,
        "norm": recipe.norm,
    }


def build_network(recipe: Recipe) -> torch.nn.Module:
    """The untrained network; logits_BKHW for masks, logits_BK for classes."""
    network = ConfigComponent(network_config(recipe)).instantiate()
    return cast(torch.nn.Module, network)


def build_loss(recipe: Recipe, class_shares_K: torch.Tensor | None = None) -> Loss:
    """What training makes smaller.

    Targets are label maps BHW for masks and one row per picture, 1.0 for each class that holds,
    for classes.

    Args:
        recipe: the weights of the loss's parts.
        class_shares_K: classification: the share of the training cases in which each class holds.
            A rare class weighs as much as a common one, as it does in the gate's measure.
    """
    if recipe.kind == "segmentation":
        # batch=True sums a label over the whole batch before dividing: pictures in which a small
        # label is absent then do not drown those that hold it.
        loss = DiceCELoss(
            include_background=False,
            to_onehot_y=True,
            softmax=True,
            batch=True,
            lambda_dice=recipe.dice_weight,
            lambda_ce=recipe.cross_entropy_weight,
            label_smoothing=recipe.label_smoothing,
        )
        return lambda logits_BKHW, labels_BHW: loss(logits_BKHW, labels_BHW[:, None])
    smoothing = recipe.label_smoothing
    shares_K = torch.full((recipe.outputs,), 0.5) if class_shares_K is None else class_shares_K
    if recipe.activation == "softmax":
        weights_K = _rarity(shares_K * recipe.outputs)
        return torch.nn.CrossEntropyLoss(weight=weights_K, label_smoothing=smoothing)
    present_K, absent_K = _rarity(shares_K * 2), _rarity((1 - shares_K) * 2)

    def binary(logits_BK: torch.Tensor, classes_BK: torch.Tensor) -> torch.Tensor:
        weight_BK = torch.where(classes_BK > 0, present_K, absent_K)
        smoothed_BK = classes_BK * (1 - smoothing) + smoothing / 2
        return binary_cross_entropy_with_logits(logits_BK, smoothed_BK, weight_BK)

    return binary


def _rarity(relative_share_K: torch.Tensor) -> torch.Tensor:
    """Weights against imbalance, at most ten: one mislabelled case must not rule the training."""
    return (1 / relative_share_K.clamp(min=0.1)).clamp(max=10.0)


def activate(logits: torch.Tensor, recipe: Recipe) -> torch.Tensor:
    """Probabilities from logits; axis 1 holds labels or classes."""
    return logits.softmax(1) if recipe.activation == "softmax" else logits.sigmoid()
