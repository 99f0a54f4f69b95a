"""A recipe: every number of a training, complete and immutable.

A run stores its recipe as JSON beside its other files and the bundle carries it too, so that a
model can be explained, and trained again, from what lies next to it. Recipes are made by
`imaging.recipes.plan`; `task.yaml` may set single numbers differently.
"""

import hashlib
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal, get_args

from imaging.errors import RecipeError
from imaging.task import Kind, Scalar

Fit = Literal["stretch", "pad"]
Normalisation = Literal["percentile", "range"]
NetworkName = Literal["UNet", "ResNet"]
Activation = Literal["softmax", "sigmoid"]
Norm = Literal["INSTANCE", "BATCH"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """What is trained and how. The field names are the keys of `recipe:` in task.yaml."""

    name: str
    kind: Kind

    # From picture to network input; the bundle carries these to the server.
    input_H: int
    input_W: int
    channels: int  # 1: grey (colour pictures are averaged), 3: colour
    fit: Fit  # how a picture of another aspect ratio meets the input: stretched, or padded
    normalisation: Normalisation  # percentiles of each picture, or a fixed range of values
    low_percentile: float  # of the picture; becomes 0
    high_percentile: float  # becomes 1
    range_max: float  # with `range`: 0 stays 0 and this becomes 1

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
    augment_flip_H: bool  # upside down
    augment_flip_W: bool  # left and right
    augment_gamma: float  # exponent from exp(-gamma) to exp(gamma)
    augment_contrast: float
    augment_brightness: float
    augment_noise: float  # largest standard deviation

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"widths": list(self.widths)}

    @property
    def input_HW(self) -> tuple[int, int]:
        return self.input_H, self.input_W

    @property
    def preprocessing(self) -> "Preprocessing":
        """The part of the recipe that decides what the network sees of a picture."""
        return Preprocessing(**{one.name: getattr(self, one.name) for one in fields(Preprocessing)})

    @property
    def digest(self) -> str:
        """Changes when any number changes: 16 hex digits."""
        text = json.dumps(self.to_json(), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True, kw_only=True)
class Preprocessing:
    """From picture to network input, see the fields of the same names in `Recipe`."""

    input_H: int
    input_W: int
    channels: int
    fit: Fit
    normalisation: Normalisation
    low_percentile: float
    high_percentile: float
    range_max: float


FIXED = ("name", "kind", "outputs", "activation", "budget_s")  # follow from the rest of task.yaml
CHOICES: dict[str, tuple[Any, ...]] = {
    "kind": get_args(Kind),
    "channels": (1, 3),
    "fit": get_args(Fit),
    "normalisation": get_args(Normalisation),
    "network": get_args(NetworkName),
    "activation": get_args(Activation),
    "norm": get_args(Norm),
}
RANGES: dict[str, tuple[float, float]] = {  # both ends are allowed
    "input_H": (16, 4096),
    "input_W": (16, 4096),
    "low_percentile": (0, 49),
    "high_percentile": (51, 100),
    "range_max": (1, 65535),
    "outputs": (1, 256),
    "blocks": (1, 8),
    "dice_weight": (0, 100),
    "cross_entropy_weight": (0, 100),
    "label_smoothing": (0, 0.5),
    "learning_rate": (1e-8, 10),
    "warmup": (0, 0.5),
    "weight_decay": (0, 1),
    "clip_norm": (1e-3, 1e6),
    "average_decay": (0, 0.99999),
    "batch": (1, 4096),
    "budget_s": (0.1, 30 * 86400.0),
    "max_epochs": (1, 10**7),
    "seed": (0, 2**31),
    "validate_every_s": (0.1, 86400.0),
    "checkpoint_every_s": (0.1, 86400.0),
    "selection_margin": (0, 1),
    "augment_rotate_deg": (0, 180),
    "augment_scale": (0, 3),
    "augment_shift": (0, 1),
    "augment_elastic": (0, 0.5),
    "augment_gamma": (0, 2),
    "augment_contrast": (0, 2),
    "augment_brightness": (0, 1),
    "augment_noise": (0, 1),
}
LEVELS = (2, 7)  # of a network
RESNET_LEVELS = 4  # MONAI's ResNet has neither more nor fewer


def with_overrides(recipe: Recipe, overrides: Mapping[str, Scalar]) -> Recipe:
    """The recipe with the numbers that task.yaml sets differently.

    Raises:
        RecipeError: unknown or fixed keys, values of the wrong type or out of range; all listed.
    """
    known = {one.name for one in fields(Recipe)} - set(FIXED)
    problems = [
        f"recipe.{key} follows from the rest of task.yaml and cannot be set"
        if key in FIXED
        else f"recipe.{key} is not a known key"
        for key in overrides
        if key not in known
    ]
    values: dict[str, Any] = {}
    for key, value in overrides.items():
        if key in known:
            try:
                values[key] = _converted(key, value)
            except RecipeError as error:
                problems.append(f"recipe.{error}")
    if problems:
        raise RecipeError("; ".join(problems))
    changed = replace(recipe, **values)
    _check_whole(changed)
    return changed


def parse_recipe(record: Mapping[str, Any], *, where: str) -> Recipe:
    """The recipe in a recipe.json or labloop.json.

    Raises:
        RecipeError: keys are missing or unknown, or values are unusable; all are listed.
    """
    known = {one.name for one in fields(Recipe)}
    problems = [f"{key} is missing" for key in sorted(known - set(record))]
    problems += [f"{key} is not a known key" for key in sorted(set(record) - known)]
    values: dict[str, Any] = {}
    for key in known & set(record):
        try:
            values[key] = _converted(key, record[key])
        except RecipeError as error:
            problems.append(str(error))
    if problems:
        raise RecipeError(f"{where}: " + "; ".join(problems))
    recipe = Recipe(**values)
    _check_whole(recipe)
    return recipe


def _converted(key: str, value: object) -> Any:
    """The value in the type of its field, checked against its choices or range."""
    converted = _READERS[Recipe.__annotations__[key]](key, value)
    if key in CHOICES and converted not in CHOICES[key]:
        raise RecipeError(f"{key} is {value!r}, expected {' or '.join(map(str, CHOICES[key]))}")
    if key in RANGES:
        low, high = RANGES[key]
        if not low <= converted <= high:  # also false for NaN
            raise RecipeError(f"{key} is {value}, expected {low:g} to {high:g}")
    return converted


def _boolean(key: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise RecipeError(f"{key} is {value!r}, expected true or false")
    return value


def _integer(key: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise RecipeError(f"{key} is {value!r}, expected a whole number")
    return value


def _number(key: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise RecipeError(f"{key} is {value!r}, expected a number")
    return float(value)


def _text(key: str, value: object) -> str:
    if not isinstance(value, str):
        raise RecipeError(f"{key} is {value!r}, expected text")
    return value


def _widths(key: str, value: object) -> tuple[int, ...]:
    """`[16, 32, 64]` in JSON, `16 32 64` in task.yaml."""
    parts = value.split() if isinstance(value, str) else value
    try:
        widths = tuple(int(part) for part in parts)  # type: ignore[attr-defined]
    except (TypeError, ValueError):
        widths = ()
    if not LEVELS[0] <= len(widths) <= LEVELS[1] or not all(1 <= w <= 4096 for w in widths):
        low, high = LEVELS
        raise RecipeError(
            f"{key} is {value!r}, expected {low} to {high} numbers of channels, e.g. '16 32 64 128'"
        )
    return widths


_READERS: dict[object, Callable[[str, object], Any]] = {
    bool: _boolean,
    int: _integer,
    float: _number,
    str: _text,
    tuple[int, ...]: _widths,
} | dict.fromkeys((Kind, Fit, Normalisation, NetworkName, Activation, Norm), _text)


def _values_to_normalise(recipe: Recipe) -> int:
    """How many values per channel share a mean and a deviation on the coarsest grid."""
    # A ResNet halves the grid in its first convolution and its pooling, too.
    step = 1 << (len(recipe.widths) + (1 if recipe.network == "ResNet" else -1))
    grid = math.ceil(recipe.input_H / step) * math.ceil(recipe.input_W / step)
    return grid * (recipe.batch if recipe.norm == "BATCH" else 1)


def _check_whole(recipe: Recipe) -> None:
    """What no single field can tell.

    Raises:
        RecipeError: two numbers contradict each other.
    """
    step = 2 ** (len(recipe.widths) - 1) if recipe.network == "UNet" else 1
    if recipe.input_H % step or recipe.input_W % step:
        raise RecipeError(
            f"the input is {recipe.input_H} × {recipe.input_W}, expected multiples of {step}: "
            f"a UNet of {len(recipe.widths)} levels halves the grid {len(recipe.widths) - 1} times"
        )
    if recipe.fit == "pad" and recipe.input_H != recipe.input_W:
        raise RecipeError(
            f"the input is {recipe.input_H} × {recipe.input_W}, expected a square with fit: pad"
        )
    if (recipe.kind == "segmentation") != (recipe.network == "UNet"):
        raise RecipeError(f"network is {recipe.network}, which is not made for {recipe.kind}")
    if recipe.network == "ResNet" and len(recipe.widths) != RESNET_LEVELS:
        raise RecipeError(f"widths has {len(recipe.widths)} levels, a ResNet has {RESNET_LEVELS}")
    if _values_to_normalise(recipe) < 2:
        raise RecipeError(
            f"the input is {recipe.input_H} × {recipe.input_W}: a single value is left on the "
            f"coarsest grid of the network, expected at least 2 for norm: {recipe.norm}; raise "
            f"input_H or input_W"
        )
    if recipe.dice_weight + recipe.cross_entropy_weight <= 0:
        raise RecipeError("dice_weight and cross_entropy_weight are both 0: nothing to learn from")
