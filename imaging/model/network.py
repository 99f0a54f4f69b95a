"""The network and the loss of a recipe, from MONAI.

The network is described once, as the dictionary that MONAI's bundle configuration holds, and
built from it: what trains is what configs/inference.json builds again.
"""

from collections.abc import Callable
from typing import Any, cast

import torch
from monai.bundle.config_item import ConfigComponent
from monai.losses.dice import DiceCELoss
from monai.losses.ds_loss import DeepSupervisionLoss
from torch.nn.functional import binary_cross_entropy_with_logits

from imaging.recipes.recipe import Recipe, VolumeRecipe

Output = torch.Tensor | list[torch.Tensor]  # several with deep supervision, finest first
Loss = Callable[[Any, torch.Tensor], torch.Tensor]


def network_config(recipe: Recipe) -> dict[str, Any]:
    """The network as a component of a MONAI bundle configuration."""
    if isinstance(recipe, VolumeRecipe):
        return _volume_network(recipe)
    if recipe.network == "UNet":
        return _unet(recipe, 2, [2] * (len(recipe.widths) - 1))
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


def _unet(recipe: Recipe, dimensions: int, strides: list[Any]) -> dict[str, Any]:
    return {
        "_target_": "UNet",
        "spatial_dims": dimensions,
        "in_channels": recipe.channels,
        "out_channels": recipe.outputs,
        "channels": list(recipe.widths),
        "strides": strides,
        "num_res_units": recipe.blocks,
        "norm": recipe.norm,
    }


def _volume_network(recipe: VolumeRecipe) -> dict[str, Any]:
    strides = [list(one) for one in recipe.strides]
    if recipe.network == "UNet":
        return _unet(recipe, 3, strides)
    if recipe.network == "DynUNet":
        return {
            "_target_": "DynUNet",
            "spatial_dims": 3,
            "in_channels": recipe.channels,
            "out_channels": recipe.outputs,
            "kernel_size": [3] * len(recipe.widths),
            "strides": [1, *strides],
            "upsample_kernel_size": strides,
            "filters": list(recipe.widths),
            "norm_name": [recipe.norm, {"affine": True}],
            "deep_supervision": recipe.deep_supervision > 0,
            "deep_supr_num": max(1, recipe.deep_supervision),
        }
    return {
        "_target_": "SegResNetDS",
        "spatial_dims": 3,
        "init_filters": recipe.widths[0],
        "in_channels": recipe.channels,
        "out_channels": recipe.outputs,
        "norm": recipe.norm,
        "blocks_down": [recipe.blocks] * len(recipe.widths),
        "dsdepth": recipe.deep_supervision + 1,
    }


def build_network(recipe: Recipe) -> torch.nn.Module:
    """The untrained network; logits_BKHW (BKXYZ) for masks, logits_BK for classes."""
    network = ConfigComponent(network_config(recipe)).instantiate()
    return cast(torch.nn.Module, network)


def build_loss(recipe: Recipe, class_shares_K: torch.Tensor | None = None) -> Loss:
    """What training makes smaller.

    Targets are label maps BHW (BXYZ) for masks and one row per picture, 1.0 for each class that
    holds, for classes.

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
        if isinstance(recipe, VolumeRecipe) and recipe.deep_supervision:
            deep = DeepSupervisionLoss(loss, weight_mode="exp")  # 1, ½, ¼ … for coarser outputs
            return lambda heads, labels_BXYZ: deep(heads, labels_BXYZ[:, None].float())
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


def in_full_precision(output: torch.Tensor | list[torch.Tensor]) -> Output:
    """What a network gave while training, as the loss takes it."""
    if isinstance(output, list):
        return [head.float() for head in output]
    if output.ndim == 6:  # a DynUNet stacks its heads: BNKXYZ, all on the finest grid
        return [head.float() for head in output.unbind(1)]
    return output.float()


def activate(logits: torch.Tensor, recipe: Recipe) -> torch.Tensor:
    """Probabilities from logits; axis 1 holds labels or classes."""
    return logits.softmax(1) if recipe.activation == "softmax" else logits.sigmoid()
