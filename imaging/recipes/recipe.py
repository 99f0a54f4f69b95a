"""A recipe: every number of a training, complete and immutable.

A run stores its recipe as JSON beside its other files and the bundle carries it too, so that a
model can be explained, and trained again, from what lies next to it. Recipes are made by
`imaging.recipes.plan` and read by `imaging.recipes.reading`; `task.yaml` may set single numbers
differently.
"""

import hashlib
import json
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

from imaging.task import Kind

Fit = Literal["stretch", "pad"]
Normalisation = Literal["percentile", "range"]
VolumeNormalisation = Literal["dataset", "volume", "nonzero"]
NetworkName = Literal["UNet", "ResNet", "DynUNet", "SegResNet"]
Activation = Literal["softmax", "sigmoid"]
Norm = Literal["INSTANCE", "BATCH"]
Triple = tuple[int, int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """What every training has. The field names are the keys of `recipe:` in task.yaml."""

    name: str
    kind: Kind
    channels: int  # of the network's input

    # The network (MONAI's, by its name there).
    network: NetworkName
    outputs: int  # segmentation: labels and background; classification: classes
    activation: Activation  # sigmoid when several classes may hold at once
    widths: tuple[int, ...]  # channels per level; each level after the first halves the grid
    blocks: int  # residual units per level
    norm: Norm

    # Loss and optimiser (AdamW).
    dice_weight: float
    cross_entropy_weight: float
    label_smoothing: float
    learning_rate: float  # at its peak: after the warm-up, then a half cosine down to 0
    warmup: float  # share of the budget
    weight_decay: float
    clip_norm: float  # gradients longer than this are shortened
    average_decay: float  # of the running average of the weights, which is what is exported
    warm_start: bool  # begin with the champion's weights when they fit

    # How long, how much at once.
    batch: int
    budget_s: float  # wall-clock training time; the learning rate follows it
    max_epochs: int  # whichever ends first
    seed: int
    validate_every_s: float
    checkpoint_every_s: float
    selection_margin: float  # the best validated weights replace the last if better by this

    # Augmentation; 0 switches a step off. Each number is the largest change either way.
    augment_rotate_deg: float
    augment_scale: float  # 0.2: 1/1.2 to 1.2 times
    augment_shift: float  # share of the side length
    augment_elastic: float  # displacement, share of the side length
    augment_gamma: float  # exponent from exp(-gamma) to exp(gamma)
    augment_contrast: float
    augment_brightness: float
    augment_noise: float  # largest standard deviation

    def to_json(self) -> dict[str, Any]:
        found = asdict(self)
        return {key: list(one) if isinstance(one, tuple) else one for key, one in found.items()}

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Sides of the network's input: HW, or XYZ."""
        raise NotImplementedError

    @property
    def digest(self) -> str:
        """Changes when any number changes: 16 hex digits."""
        text = json.dumps(self.to_json(), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True, kw_only=True)
class PictureRecipe(Recipe):
    """The recipe of a model for 2D pictures."""

    # From picture to network input; the bundle carries these to the server.
    input_H: int
    input_W: int
    fit: Fit  # how a picture of another aspect ratio meets the input: stretched, or padded
    normalisation: Normalisation  # percentiles of each picture, or a fixed range of values
    low_percentile: float  # of the picture; becomes 0
    high_percentile: float  # becomes 1
    range_max: float  # with `range`: 0 stays 0 and this becomes 1

    augment_flip_H: bool  # upside down
    augment_flip_W: bool  # left and right

    @property
    def input_HW(self) -> tuple[int, int]:
        return self.input_H, self.input_W

    @property
    def input_shape(self) -> tuple[int, ...]:
        return self.input_HW

    @property
    def preprocessing(self) -> "Preprocessing":
        """The part of the recipe that decides what the network sees of a picture."""
        return Preprocessing(**{one.name: getattr(self, one.name) for one in fields(Preprocessing)})


@dataclass(frozen=True, slots=True, kw_only=True)
class Preprocessing:
    """From picture to network input, see the fields of the same names in `PictureRecipe`."""

    input_H: int
    input_W: int
    channels: int
    fit: Fit
    normalisation: Normalisation
    low_percentile: float
    high_percentile: float
    range_max: float


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeRecipe(Recipe):
    """The recipe of a model for volumes. Axes are those of RAS+ order."""

    channel_names: tuple[str, ...]  # in the order the network takes them; empty = one, no name

    # From volume to network input; the bundle carries these to the server.
    spacing_X: float  # mm; every volume is resampled to these
    spacing_Y: float
    spacing_Z: float
    patch_X: int  # voxels of the planned spacing that the network sees at once
    patch_Y: int
    patch_Z: int
    # By the whole set (CT: clipped, then its mean and deviation), by each volume, or by those of
    # its voxels that are not 0 (skull-stripped).
    normalisation: VolumeNormalisation
    clip_low: tuple[float, ...]  # with `dataset`, one number for each channel
    clip_high: tuple[float, ...]
    mean: tuple[float, ...]
    deviation: tuple[float, ...]
    overlap: float  # of neighbouring patches when a volume is larger than one

    stem_stride: int  # UNet: 2 halves the grid in the first block, for a fraction of the time
    deep_supervision: int  # coarser outputs that the loss looks at, too; DynUNet and SegResNet
    foreground_share: float  # of the patches, centred on a voxel of a label

    augment_flip_X: bool  # left and right
    augment_flip_Y: bool
    augment_flip_Z: bool

    @property
    def patch_XYZ(self) -> Triple:
        return self.patch_X, self.patch_Y, self.patch_Z

    @property
    def input_shape(self) -> tuple[int, ...]:
        return self.patch_XYZ

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        return self.spacing_X, self.spacing_Y, self.spacing_Z

    @property
    def strides(self) -> tuple[Triple, ...]:
        """How each level after the first shrinks the grid, by axis.

        An axis is halved only while its voxels are not twice as long as the shortest ones, and
        while at least four are left: thick slices stay apart until the rest is as coarse.
        """
        steps = len(self.widths) - 1
        if self.network == "SegResNet":  # MONAI's halves all axes alike
            return ((2, 2, 2),) * steps
        unshrunk = self.network == "UNet" and self.stem_stride == 1
        found = strides_for(self.spacing_mm, self.patch_XYZ, steps - unshrunk)
        return ((1, 1, 1), *found) if unshrunk else found


def strides_for(
    spacing_mm: tuple[float, float, float], patch_XYZ: Triple, steps: int
) -> tuple[Triple, ...]:
    """Which axes each of so many steps halves, after nnU-Net (doi:10.1038/s41592-020-01008-z)."""
    spacing, sides = list(spacing_mm), list(patch_XYZ)
    found: list[Triple] = []
    for _ in range(steps):
        able = [axis for axis in range(3) if sides[axis] >= 8]
        finest = min((spacing[axis] for axis in able), default=0.0)
        halved = [axis for axis in able if spacing[axis] < 2 * finest]
        for axis in halved:
            spacing[axis] *= 2
            sides[axis] //= 2
        x, y, z = (2 if axis in halved else 1 for axis in range(3))
        found.append((x, y, z))
    return tuple(found)
