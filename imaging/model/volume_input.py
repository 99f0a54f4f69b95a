"""From a volume to network input: resampled to the planned spacing, its values normalised.

Training and serving run these same functions. They equal MONAI's Orientation, Spacing and intensity
transforms, so that a bundle's configs/inference.json says the same in plain MONAI; a test holds the
two equal.
"""

import numpy as np
from numpy.typing import NDArray

from imaging.errors import VolumeError
from imaging.recipes.recipe import VolumeRecipe
from imaging.resample import resample, to_spacing
from imaging.volume import Volume

FloatArray = NDArray[np.float32]


def volume_input(volume: Volume, recipe: VolumeRecipe) -> FloatArray:
    """What the network sees of a volume, CXYZ at the planned spacing.

    Raises:
        VolumeError: the volume has another number of channels than the recipe.
    """
    found = len(volume.voxels_CXYZ)
    if found != recipe.channels:
        names = f" ({', '.join(recipe.channel_names)})" if recipe.channel_names else ""
        raise VolumeError(
            f"a volume of {found} channel(s), expected {recipe.channels}{names}",
            reason="channels",
            hint="Give the model the channels that it was trained on, in the same order.",
        )
    resampling = to_spacing(volume.grid, recipe.spacing_mm)
    channels = [
        normalised(_finite(resample(voxels_XYZ, resampling)), recipe, channel)
        for channel, voxels_XYZ in enumerate(volume.voxels_CXYZ)
    ]
    return np.stack(channels)


def normalised(values_XYZ: FloatArray, recipe: VolumeRecipe, channel: int) -> FloatArray:
    """Values as the recipe scales them; a channel of one value becomes 0."""
    if recipe.normalisation == "dataset":
        low, high = recipe.clip_low[channel], recipe.clip_high[channel]
        scaled: FloatArray = values_XYZ.clip(low, high)
        scaled -= np.float32(recipe.mean[channel])
        scaled /= np.float32(recipe.deviation[channel])
        return scaled
    if recipe.normalisation == "volume":
        mean, deviation = _moments(values_XYZ)
        return (values_XYZ - mean) / deviation
    shown = values_XYZ != 0
    found = values_XYZ.copy()
    if shown.any():
        mean, deviation = _moments(values_XYZ[shown])
        found[shown] = (found[shown] - mean) / deviation
    return found


def _moments(values: FloatArray) -> tuple[np.float32, np.float32]:
    deviation = float(values.std(dtype=np.float64))
    mean = values.mean(dtype=np.float64)
    return np.float32(mean), np.float32(deviation if deviation > 0 else 1.0)


def _finite(values_XYZ: FloatArray) -> FloatArray:
    """Values without what is no number: one of them would make the whole answer none."""
    if np.isfinite(values_XYZ.sum(dtype=np.float64)):
        return values_XYZ
    found: FloatArray = np.nan_to_num(values_XYZ, nan=0.0, posinf=0.0, neginf=0.0)
    return found
