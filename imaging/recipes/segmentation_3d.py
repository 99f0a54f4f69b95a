"""The default recipe for volumes: spacing, patch and network planned from what the set looks like.

The rules follow nnU-Net (doi:10.1038/s41592-020-01008-z), with a budget in voxels that two CPU
cores can pay. The numbers were chosen on the Decathlon's hippocampus set with patients held out;
what was tried is in docs/decisions/0014-volume-recipes.md.
"""

import math
from collections.abc import Sequence

import numpy as np

from imaging.errors import RecipeError
from imaging.recipes.recipe import Triple, VolumeNormalisation, VolumeRecipe, strides_for
from imaging.recipes.volume_facts import VolumeSetFacts
from imaging.task import TaskConfig

Spacing = tuple[float, float, float]
ANISOTROPIC = 3.0  # from this ratio on thick slices set their own spacing
# Voxels that the network sees at once, and how many such patches a median volume may fill. On a CPU
# a large organ on coarse voxels beats a small part of it on fine ones.
PATCH_VOXELS, PATCHES = 96**3, 8
PATCH_VOXELS_ACCELERATED, PATCHES_ACCELERATED = 128**3, 64
SMALL_VOXELS = 2**17  # patches up to this size can pay for twice as many channels
WIDTHS_SMALL = (32, 64, 128, 256)
WIDTHS = (16, 32, 64, 128, 256)
WIDTHS_ACCELERATED = (32, 64, 128, 256, 320)
SHORTEST = 8


def plan_segmentation_3d(
    config: TaskConfig, facts: VolumeSetFacts, accelerated: bool
) -> VolumeRecipe:
    """The recipe before task.yaml's own numbers.

    Raises:
        RecipeError: the task names another number of channels than the volumes have.
    """
    spacing_mm = plan_spacing(facts, accelerated)
    most = PATCH_VOXELS_ACCELERATED if accelerated else PATCH_VOXELS
    wanted = [np.array(extent) / spacing_mm for extent in facts.extents_mm]
    tall = np.percentile(np.array(wanted), 90, axis=0).tolist()
    is_small = math.prod(math.ceil(side) for side in tall) <= SMALL_VOXELS
    widths = WIDTHS_ACCELERATED if accelerated else WIDTHS_SMALL if is_small else WIDTHS
    patch = plan_patch(spacing_mm, tall, most, len(widths) - 1)
    x, y, z = patch
    channels = len(facts.channels)
    return VolumeRecipe(
        name="segmentation_3d",
        kind="segmentation",
        channels=channels,
        channel_names=_channel_names(config, channels),
        spacing_X=spacing_mm[0],
        spacing_Y=spacing_mm[1],
        spacing_Z=spacing_mm[2],
        patch_X=x,
        patch_Y=y,
        patch_Z=z,
        normalisation=_normalisation(config, facts),
        clip_low=tuple(round(one.low, 4) for one in facts.channels),
        clip_high=tuple(round(one.high, 4) for one in facts.channels),
        mean=tuple(round(one.mean, 4) for one in facts.channels),
        deviation=tuple(round(one.deviation, 4) for one in facts.channels),
        overlap=0.5,
        network="DynUNet" if accelerated else "UNet",
        outputs=len(config.scheme.labels) + 1,
        activation="softmax",
        widths=widths,
        blocks=2,
        norm="INSTANCE",
        stem_stride=2,
        deep_supervision=3 if accelerated else 0,
        dice_weight=1.0,
        cross_entropy_weight=1.0,
        label_smoothing=0.0,
        learning_rate=2e-3,
        warmup=0.03,
        weight_decay=1e-4,
        clip_norm=12.0,
        average_decay=0.99,
        warm_start=True,
        batch=2,
        budget_s=config.recipe.budget_s,
        max_epochs=10_000,
        seed=0,
        validate_every_s=60.0,
        checkpoint_every_s=30.0,
        selection_margin=0.01,
        foreground_share=0.5,
        augment_rotate_deg=15.0,
        augment_scale=0.2,
        augment_shift=0.05,
        augment_elastic=0.0,
        augment_flip_X=False,  # left and right are told apart by many labels
        augment_flip_Y=False,
        augment_flip_Z=False,
        augment_gamma=0.3,
        augment_contrast=0.25,
        augment_brightness=0.25,
        augment_noise=0.15,
    )


def plan_spacing(facts: VolumeSetFacts, accelerated: bool) -> Spacing:
    """The set's median spacing, coarsened where a median volume would take too many patches.

    Where slices are much thicker than the rest, the finer tenth of the set decides how thick they
    become: thin ones then lose less. Finer axes are coarsened first.
    """
    spacing = list(facts.median_spacing_mm)
    thickest = int(np.argmax(spacing))
    if spacing[thickest] / min(spacing) > ANISOTROPIC:
        others = max(mm for axis, mm in enumerate(spacing) if axis != thickest)
        spacing[thickest] = max(facts.tenth_spacing_mm[thickest], others)
    extent = np.median(np.array(facts.extents_mm), axis=0)
    most = PATCH_VOXELS_ACCELERATED * PATCHES_ACCELERATED if accelerated else PATCH_VOXELS * PATCHES
    while math.prod(extent / spacing) > most:
        finest = min(spacing)
        spacing = [mm * 1.05 if mm < 1.05 * finest else mm for mm in spacing]
    x, y, z = (round(mm, 4) for mm in spacing)
    return x, y, z


def plan_patch(spacing_mm: Spacing, sides: Sequence[float], most: int, halvings: int) -> Triple:
    """The whole volume where it fits; otherwise as many voxels of its shape as are affordable.

    Args:
        spacing_mm: of the voxels.
        sides: how many of them most volumes have at most, by axis.
        most: how many are affordable; rounding may add to them.
        halvings: how often the network halves the grid: sides become multiples of that.
    """
    patch = [max(SHORTEST, math.ceil(side)) for side in sides]
    while math.prod(patch) > most:
        # The longest side in mm gives way first: patches become about as high as wide and deep.
        longest = max(range(3), key=lambda axis: patch[axis] * spacing_mm[axis])
        patch[longest] = max(SHORTEST, int(patch[longest] * 0.95))
    while True:  # a side that was rounded up may be long enough to be halved once more
        x, y, z = patch
        strides = strides_for(spacing_mm, (x, y, z), halvings)
        factors = [math.prod(one[axis] for one in strides) for axis in range(3)]
        rounded = [math.ceil(n / factor) * factor for n, factor in zip(patch, factors, strict=True)]
        if rounded == patch:
            return x, y, z
        patch = rounded


def _normalisation(config: TaskConfig, facts: VolumeSetFacts) -> VolumeNormalisation:
    """CT has a scale of its own, which the set's statistics keep; nothing else has."""
    if config.modality.upper() == "CT":
        return "dataset"
    return "nonzero" if facts.is_cut_out else "volume"


def _channel_names(config: TaskConfig, channels: int) -> tuple[str, ...]:
    named = config.volume.channels
    if named and len(named) != channels:
        raise RecipeError(
            f"volume.channels names {', '.join(named)}, the volumes have {channels} channels"
        )
    return named
