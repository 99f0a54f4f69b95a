"""Recipes from JSON and from task.yaml: every value in its type, within its range, and the whole
free of contradictions."""

import math
from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from typing import Any, TypeVar, get_args

from imaging.errors import RecipeError, shown
from imaging.recipes.recipe import (
    Activation,
    Fit,
    NetworkName,
    Norm,
    Normalisation,
    PictureRecipe,
    Recipe,
    VolumeNormalisation,
    VolumeRecipe,
)
from imaging.task import Kind, Scalar

AnyRecipe = TypeVar("AnyRecipe", bound=Recipe)
RECIPE_TYPES: Mapping[str, type[Recipe]] = {
    "segmentation_2d": PictureRecipe,
    "classification_2d": PictureRecipe,
    "segmentation_3d": VolumeRecipe,
}

# These follow from the rest of task.yaml, or from the data.
FIXED = ("name", "kind", "outputs", "activation", "budget_s")
FIXED_OF_VOLUMES = (*FIXED, "channels", "channel_names")
CHOICES: dict[str, tuple[Any, ...]] = {
    "kind": get_args(Kind),
    "fit": get_args(Fit),
    "network": get_args(NetworkName),
    "activation": get_args(Activation),
    "norm": get_args(Norm),
    "stem_stride": (1, 2),
}
CHOICES_BY_TYPE: Mapping[type[Recipe], Mapping[str, tuple[Any, ...]]] = {
    PictureRecipe: {"channels": (1, 3), "normalisation": get_args(Normalisation)},
    VolumeRecipe: {"normalisation": get_args(VolumeNormalisation)},
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
    "channels": (1, 16),
    **dict.fromkeys(("spacing_X", "spacing_Y", "spacing_Z"), (0.01, 100.0)),
    **dict.fromkeys(("patch_X", "patch_Y", "patch_Z"), (8, 512)),
    "overlap": (0, 0.9),
    "deep_supervision": (0, 4),
    "foreground_share": (0, 1),
}
LEVELS = (2, 7)  # of a network
RESNET_LEVELS = 4  # MONAI's ResNet has neither more nor fewer
NETWORKS: Mapping[tuple[type[Recipe], str], tuple[str, ...]] = {
    (PictureRecipe, "segmentation"): ("UNet",),
    (PictureRecipe, "classification"): ("ResNet",),
    (VolumeRecipe, "segmentation"): ("UNet", "DynUNet", "SegResNet"),
}


def with_overrides(recipe: AnyRecipe, overrides: Mapping[str, Scalar]) -> AnyRecipe:
    """The recipe with the numbers that task.yaml sets differently.

    Raises:
        RecipeError: unknown or fixed keys, values of the wrong type or out of range; all listed.
    """
    fixed = FIXED_OF_VOLUMES if isinstance(recipe, VolumeRecipe) else FIXED
    known = {one.name for one in fields(recipe)} - set(fixed)
    problems = [
        f"recipe.{key} follows from the rest of task.yaml and cannot be set"
        if key in fixed
        else f"recipe.{key} is not a known key"
        for key in overrides
        if key not in known
    ]
    values: dict[str, Any] = {}
    for key, value in overrides.items():
        if key in known:
            try:
                values[key] = _converted(type(recipe), key, value)
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
    kind_of_recipe = RECIPE_TYPES.get(str(record.get("name")))
    if kind_of_recipe is None:
        known_names = ", ".join(RECIPE_TYPES)
        raise RecipeError(
            f"{where}: name is {shown(record.get('name'))}, expected one of {known_names}"
        )
    known = {one.name for one in fields(kind_of_recipe)}
    problems = [f"{key} is missing" for key in sorted(known - set(record))]
    problems += [f"{key} is not a known key" for key in sorted(set(record) - known)]
    values: dict[str, Any] = {}
    for key in known & set(record):
        try:
            values[key] = _converted(kind_of_recipe, key, record[key])
        except RecipeError as error:
            problems.append(str(error))
    if problems:
        raise RecipeError(f"{where}: " + "; ".join(problems))
    recipe = kind_of_recipe(**values)
    _check_whole(recipe)
    return recipe


def _converted(of: type[Recipe], key: str, value: object) -> Any:
    """The value in the type of its field, checked against its choices or range."""
    annotation = next(one.type for one in fields(of) if one.name == key)
    converted = _READERS[annotation](key, value)
    choices = CHOICES_BY_TYPE[of].get(key) or CHOICES.get(key)
    if choices is not None:
        if converted not in choices:
            raise RecipeError(f"{key} is {value!r}, expected {' or '.join(map(str, choices))}")
    elif key in RANGES:
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


def _numbers(key: str, value: object) -> tuple[float, ...]:
    """One for each channel: `[-160, 0]` in JSON, `-160 0` in task.yaml, one alone as it is."""
    parts: Any = value.split() if isinstance(value, str) else value
    try:
        many = parts if isinstance(parts, list | tuple) else [parts]
        numbers = tuple(float(part) for part in many)
    except (TypeError, ValueError):
        numbers = (math.nan,)
    if not all(map(math.isfinite, numbers)) or isinstance(value, bool):
        raise RecipeError(f"{key} is {value!r}, expected a number for each channel")
    return numbers


def _texts(key: str, value: object) -> tuple[str, ...]:
    if not isinstance(value, list | tuple) or not all(isinstance(one, str) for one in value):
        raise RecipeError(f"{key} is {value!r}, expected a list of names")
    return tuple(value)


_READERS: dict[object, Callable[[str, object], Any]] = {
    bool: _boolean,
    int: _integer,
    float: _number,
    str: _text,
    tuple[int, ...]: _widths,
    tuple[float, ...]: _numbers,
    tuple[str, ...]: _texts,
} | dict.fromkeys(
    (Kind, Fit, Normalisation, VolumeNormalisation, NetworkName, Activation, Norm), _text
)


def _check_whole(recipe: Recipe) -> None:
    """What no single field can tell.

    Raises:
        RecipeError: two numbers contradict each other.
    """
    fitting = NETWORKS.get((type(recipe), recipe.kind), ())
    if recipe.network not in fitting:
        raise RecipeError(
            f"network is {recipe.network}, which is not made for {recipe.kind} with {recipe.name}"
        )
    if recipe.network == "ResNet" and len(recipe.widths) != RESNET_LEVELS:
        raise RecipeError(f"widths has {len(recipe.widths)} levels, a ResNet has {RESNET_LEVELS}")
    if recipe.dice_weight + recipe.cross_entropy_weight <= 0:
        raise RecipeError("dice_weight and cross_entropy_weight are both 0: nothing to learn from")
    if isinstance(recipe, PictureRecipe):
        _check_picture(recipe)
    elif isinstance(recipe, VolumeRecipe):
        _check_volume(recipe)


def _check_picture(recipe: PictureRecipe) -> None:
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
    if _values_to_normalise(recipe) < 2:
        raise RecipeError(
            f"the input is {recipe.input_H} × {recipe.input_W}: a single value is left on the "
            f"coarsest grid of the network, expected at least 2 for norm: {recipe.norm}; raise "
            f"input_H or input_W"
        )


def _values_to_normalise(recipe: PictureRecipe) -> int:
    """How many values per channel share a mean and a deviation on the coarsest grid."""
    # A ResNet halves the grid in its first convolution and its pooling, too.
    step = 1 << (len(recipe.widths) + (1 if recipe.network == "ResNet" else -1))
    grid = math.ceil(recipe.input_H / step) * math.ceil(recipe.input_W / step)
    return grid * (recipe.batch if recipe.norm == "BATCH" else 1)


def _check_volume(recipe: VolumeRecipe) -> None:
    steps = [math.prod(one[axis] for one in recipe.strides) for axis in range(3)]
    patch = " × ".join(map(str, recipe.patch_XYZ))
    if any(side % step for side, step in zip(recipe.patch_XYZ, steps, strict=True)):
        raise RecipeError(
            f"the patch is {patch}, expected multiples of {' × '.join(map(str, steps))}: that is "
            f"how far a {recipe.network} of {len(recipe.widths)} levels shrinks it"
        )
    if math.prod(recipe.patch_XYZ) // math.prod(steps) * recipe.batch < 2:
        raise RecipeError(f"the patch is {patch}: a single value is left on the coarsest grid")
    if recipe.deep_supervision and recipe.network == "UNet":
        raise RecipeError("deep_supervision needs network DynUNet or SegResNet, found UNet")
    if recipe.deep_supervision > len(recipe.widths) - 2:
        raise RecipeError(
            f"deep_supervision is {recipe.deep_supervision}, expected at most "
            f"{len(recipe.widths) - 2} with {len(recipe.widths)} levels"
        )
    doubling = tuple(recipe.widths[0] * 2**level for level in range(len(recipe.widths)))
    if recipe.network == "SegResNet" and recipe.widths != doubling:
        raise RecipeError(f"widths is {recipe.widths}, a SegResNet doubles them level by level")
    _check_statistics(recipe)


def _check_statistics(recipe: VolumeRecipe) -> None:
    if recipe.normalisation != "dataset":
        return
    for key in ("clip_low", "clip_high", "mean", "deviation"):
        if len(getattr(recipe, key)) != recipe.channels:
            raise RecipeError(
                f"{key} is {getattr(recipe, key)}, expected {recipe.channels} numbers, one for "
                "each channel"
            )
    pairs = zip(recipe.clip_low, recipe.clip_high, recipe.deviation, strict=True)
    if not all(low < high and deviation > 0 for low, high, deviation in pairs):
        raise RecipeError("clip_low must lie below clip_high, and deviation above 0")
