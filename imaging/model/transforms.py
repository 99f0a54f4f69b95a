"""From picture to network input and back to the picture's grid, in numpy.

Training and serving run these same functions, and the OpenVINO server needs nothing else. They
equal MONAI's Resize (bilinear, anti-aliased), ScaleIntensityRangePercentiles and SpatialPad, so
that a bundle's configs/inference.json says the same in plain MONAI; a test holds the two equal.

Resizing is linear along each axis: every row of the result is a weighted sum of a few rows, and
so are the columns. The weights are remembered, as the pictures of a task share few sizes. No
matrix product is used: BLAS would start threads of its own in each of ours, and they would wait
for one another ten times as long as they compute.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from imaging.recipes.recipe import Preprocessing

FloatArray = NDArray[np.float32]
LabelArray = NDArray[np.uint8]
Taps = tuple[NDArray[np.int64], FloatArray]  # per tap and row of the result: which row, its weight
STRIP_ROWS = 256  # of the picture's grid at a time: a slide's probabilities would fill the memory


@dataclass(frozen=True, slots=True)
class Placement:
    """Where in the network's input a picture came to lie."""

    shape_HW: tuple[int, int]  # the picture's own grid
    inner_HW: tuple[int, int]  # its size within the input
    top: int
    left: int


def preprocess(pixels: NDArray[Any], recipe: Preprocessing) -> tuple[FloatArray, Placement]:
    """What the network sees of a picture.

    Args:
        pixels: HW, or HWC with C = 3; 8 or 16 bits.
        recipe: size, channels and scaling.

    Returns:
        image_CHW in [0, 1] of the recipe's size, and where the picture lies in it.
    """
    placement = place((pixels.shape[0], pixels.shape[1]), recipe)
    image_CHW = _channels(pixels.astype(np.float32), recipe.channels)
    resized_CHW = resize(image_CHW, placement.inner_HW)
    is_as_dropped = resized_CHW is image_CHW and pixels.size == image_CHW.size
    image_CHW = scale_intensity(resized_CHW, recipe, pixels if is_as_dropped else resized_CHW)
    return _padded(image_CHW, placement, recipe), placement


def place(shape_HW: tuple[int, int], recipe: Preprocessing) -> Placement:
    """Where a picture of this grid comes to lie in the input. Padding is symmetric."""
    if recipe.fit == "stretch":
        return Placement(shape_HW, (recipe.input_H, recipe.input_W), 0, 0)
    scale = recipe.input_H / max(shape_HW)
    height, width = (max(1, round(side * scale)) for side in shape_HW)
    top, left = (recipe.input_H - height) // 2, (recipe.input_W - width) // 2
    return Placement(shape_HW, (height, width), top, left)


def preprocess_labels(labels_HW: LabelArray, count: int, recipe: Preprocessing) -> LabelArray:
    """A label map on the network's grid; each pixel takes the label that covers most of it.

    Args:
        labels_HW: label map on the picture's grid.
        count: number of labels, background included.
        recipe: size and fit.
    """
    shape_HW = (labels_HW.shape[0], labels_HW.shape[1])
    placement = place(shape_HW, recipe)
    inner_HW = np.zeros(placement.inner_HW, dtype=np.uint8)
    largest_HW = np.zeros(placement.inner_HW, dtype=np.float32)
    for index in range(count):  # one label at a time: all shares of a slide would fill the memory
        share_HW = resize((labels_HW[None] == index).astype(np.float32), placement.inner_HW)[0]
        inner_HW[share_HW > largest_HW] = index
        np.maximum(largest_HW, share_HW, out=largest_HW)
    return cast(LabelArray, _padded(inner_HW[None], placement, recipe)[0])


def labels_on_picture(probabilities_KHW: FloatArray, placement: Placement) -> LabelArray:
    """The label map on the picture's own grid, from probabilities on the network's grid.

    Probabilities are resampled and the largest wins after that: resampling label indices would
    invent labels between two others and cut corners.
    """
    inner_KHW = crop(probabilities_KHW, placement)
    height, width = placement.shape_HW
    if placement.inner_HW == placement.shape_HW:
        return likeliest(inner_KHW)
    wide_KHW = _along_columns(inner_KHW, _interpolation_taps(inner_KHW.shape[2], width))
    indices, weights = _interpolation_taps(inner_KHW.shape[1], height)
    labels_HW = np.empty((height, width), dtype=np.uint8)
    for start in range(0, height, STRIP_ROWS):
        strip = slice(start, start + STRIP_ROWS)
        taps = indices[:, strip], weights[:, strip]
        labels_HW[strip] = likeliest(_along_rows(wide_KHW, taps))
    return labels_HW


def likeliest(probabilities_KHW: FloatArray) -> LabelArray:
    """The index of the largest for each pixel, the first of equals.

    numpy's argmax over a short first axis takes two to four times as long.
    """
    best_HW = probabilities_KHW[0].copy()
    labels_HW = np.zeros(best_HW.shape, dtype=np.uint8)
    for index, probability_HW in enumerate(probabilities_KHW[1:], start=1):
        np.putmask(labels_HW, probability_HW > best_HW, index)
        np.maximum(best_HW, probability_HW, out=best_HW)
    return labels_HW


def crop(values_KHW: FloatArray, placement: Placement) -> FloatArray:
    """The part of the network's grid that the picture fills."""
    height, width = placement.inner_HW
    rows = slice(placement.top, placement.top + height)
    return values_KHW[:, rows, placement.left : placement.left + width]


def resize(image_CHW: FloatArray, size_HW: tuple[int, int]) -> FloatArray:
    """Bilinear, with a Gaussian before it along every axis that shrinks."""
    if image_CHW.shape[1:] == size_HW:
        return image_CHW
    image_CHW = _along_rows(image_CHW, _smoothing_taps(image_CHW.shape[1], size_HW[0]))
    return _along_columns(image_CHW, _smoothing_taps(image_CHW.shape[2], size_HW[1]))


def _along_rows(values_CHW: FloatArray, taps: Taps) -> FloatArray:
    indices, weights = taps
    summed = values_CHW[:, indices[0]] * weights[0][:, None]
    for index, weight in zip(indices[1:], weights[1:], strict=True):
        summed += values_CHW[:, index] * weight[:, None]
    return cast(FloatArray, summed)


def _along_columns(values_CHW: FloatArray, taps: Taps) -> FloatArray:
    turned_CWH = np.ascontiguousarray(values_CHW.swapaxes(1, 2))
    return np.ascontiguousarray(_along_rows(turned_CWH, taps).swapaxes(1, 2))


@lru_cache(maxsize=64)
def _interpolation_taps(source: int, target: int) -> Taps:
    return as_taps(interpolation(source, target))


@lru_cache(maxsize=64)
def _smoothing_taps(source: int, target: int) -> Taps:
    return as_taps(smoothed_interpolation(source, target))


def as_taps(matrix: FloatArray) -> Taps:
    """A target × source matrix with few neighbouring weights per row, without its zeros."""
    target, source = matrix.shape
    is_used = matrix != 0
    first = is_used.argmax(1)
    count = int((source - is_used[:, ::-1].argmax(1) - first).max())
    first = np.minimum(first, source - count)  # so that no tap lies beyond the border
    indices = first + np.arange(count)[:, None]
    return indices, np.ascontiguousarray(matrix[np.arange(target), indices])


def interpolation(source: int, target: int) -> FloatArray:
    """target × source matrix of linear interpolation between pixel centres.

    Source: PyTorch's `interpolate(mode="bilinear", align_corners=False)`.
    """
    centres = (np.arange(target) + 0.5) * (source / target) - 0.5
    centres = np.clip(centres, 0, source - 1)
    low = np.floor(centres).astype(np.int64)
    high = np.minimum(low + 1, source - 1)
    share = (centres - low).astype(np.float32)
    matrix = np.zeros((target, source), dtype=np.float32)
    rows = np.arange(target)
    np.add.at(matrix, (rows, low), 1 - share)
    np.add.at(matrix, (rows, high), share)
    return matrix


def smoothed_interpolation(source: int, target: int) -> FloatArray:
    """`interpolation`, after the Gaussian that keeps fine stripes from turning into moiré.

    Source: sigma as in scikit-image's `resize` and MONAI's `Resize(anti_aliasing=True)`; the
    kernel integrates the Gaussian over each pixel, and beyond the border there is nothing.
    """
    matrix = interpolation(source, target)
    sigma = (source / target - 1) / 2
    if sigma <= 0:
        return matrix
    tail = int(max(sigma * 4.0, 0.5) + 0.5)
    edges = [math.erf((x - 0.5) / (sigma * math.sqrt(2))) for x in range(-tail, tail + 2)]
    kernel = 0.5 * np.diff(np.array(edges))
    spread = np.array([np.convolve(row, kernel, mode="full") for row in matrix])
    return np.ascontiguousarray(spread[:, tail : tail + source], dtype=np.float32)


def scale_intensity(
    image_CHW: FloatArray, recipe: Preprocessing, values: NDArray[Any] | None = None
) -> FloatArray:
    """Grey values scaled to [0, 1], all channels alike; a picture of one value becomes 0.

    Args:
        image_CHW: the picture.
        recipe: between which values.
        values: the picture's values in the type that they were read as.
    """
    if recipe.normalisation == "range":
        low, high = 0.0, recipe.range_max
    else:
        limits = [recipe.low_percentile, recipe.high_percentile]
        low, high = percentiles(image_CHW if values is None else values, limits)
    if high <= low:
        return np.zeros_like(image_CHW)
    scaled: FloatArray = np.clip((image_CHW - low) / (high - low), 0, 1)
    return scaled


def percentiles(values: NDArray[Any], limits: Sequence[float]) -> list[float]:
    """As numpy's; of bytes by counting, which takes a sixth of the time that sorting does."""
    if values.dtype != np.uint8:
        return [float(value) for value in np.percentile(values, limits)]
    upto = np.cumsum(np.bincount(values.ravel(), minlength=256))
    places = np.asarray(limits) / 100 * (values.size - 1)
    below = np.searchsorted(upto, np.floor(places), side="right")
    above = np.searchsorted(upto, np.ceil(places), side="right")
    return [float(value) for value in below + (above - below) * (places - np.floor(places))]


def _channels(pixels: FloatArray, channels: int) -> FloatArray:
    """HW or HWC as CHW with that many channels: colours are averaged, grey is repeated."""
    image_CHW = pixels[None] if pixels.ndim == 2 else np.moveaxis(pixels, -1, 0)
    if image_CHW.shape[0] == channels:
        return image_CHW
    grey_CHW = image_CHW.mean(0, keepdims=True)
    return np.repeat(grey_CHW, channels, axis=0)


def _padded(inner_CHW: NDArray[Any], placement: Placement, recipe: Preprocessing) -> NDArray[Any]:
    """The picture within the input; around it 0, which is the darkest value and background."""
    height, width = placement.inner_HW
    if (height, width) == (recipe.input_H, recipe.input_W):
        return inner_CHW
    full = np.zeros((inner_CHW.shape[0], recipe.input_H, recipe.input_W), dtype=inner_CHW.dtype)
    rows = slice(placement.top, placement.top + height)
    full[:, rows, placement.left : placement.left + width] = inner_CHW
    return full
