"""Volumes on other spacings: linear interpolation along each axis, in numpy.

The first voxel's centre stays where it is, as MONAI's `Spacing` keeps it, and beyond the last one
its value goes on. The axes keep their directions, so each can be resampled by itself: every plane
of the result is a mixture of two planes. That takes a tenth of the time that `Spacing` takes, and
the values agree to the last digit of single precision (`python -m bench.resample`).
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from imaging.volume import Grid

FloatArray = NDArray[np.float32]
LabelArray = NDArray[np.uint8]
Sides = tuple[int, int, int]
Spacing = tuple[float, float, float]
SAME = 1e-4  # relative difference of two spacings that are one


@dataclass(frozen=True, slots=True, eq=False)
class Taps:
    """One axis of a resampling: which two planes each plane of the result is mixed from."""

    low: NDArray[np.intp]
    high: NDArray[np.intp]
    share: FloatArray  # of the higher plane, in [0, 1)

    def is_identity(self, source: int) -> bool:
        """Whether so many planes stay what they were."""
        count = len(self.low)
        unmoved = source == count and not self.share.any()
        return unmoved and np.array_equal(self.low, np.arange(count))


@dataclass(frozen=True, slots=True, eq=False)
class Resampling:
    """From one grid to another of the same directions and first voxel."""

    source_XYZ: Sides
    target_XYZ: Sides
    taps: tuple[Taps, Taps, Taps]


def to_spacing(grid: Grid, spacing_mm: Spacing) -> Resampling:
    """From a volume's grid to the one that covers it with voxels of another size.

    Source: the shape is that of MONAI's `Spacing` (`compute_shape_offset`).
    """
    steps = _steps(grid, spacing_mm)
    sides = [
        max(1, round((side - 1) / step + 1))
        for side, step in zip(grid.shape_XYZ, steps, strict=True)
    ]
    x, y, z = sides
    return _resampling(grid.shape_XYZ, (x, y, z), steps)


def from_spacing(grid: Grid, spacing_mm: Spacing) -> Resampling:
    """The way back: from what `to_spacing` makes to the volume's own grid."""
    x, y, z = _steps(grid, spacing_mm)
    return _resampling(
        to_spacing(grid, spacing_mm).target_XYZ, grid.shape_XYZ, (1 / x, 1 / y, 1 / z)
    )


def resample(array_XYZ: NDArray[Any], resampling: Resampling) -> FloatArray:
    """The values of an array on the other grid.

    Axes that shrink most come first: less is left to do for the others.
    """
    gains = [
        target / source
        for source, target in zip(resampling.source_XYZ, resampling.target_XYZ, strict=True)
    ]
    found = array_XYZ
    for axis in sorted(range(3), key=lambda axis: gains[axis]):
        found = _along(found, axis, resampling.taps[axis])
    return np.ascontiguousarray(found, dtype=np.float32)


def resample_labels(labels_XYZ: LabelArray, resampling: Resampling, count: int) -> LabelArray:
    """A label map on the other grid; each voxel takes the label with the largest share there.

    Args:
        labels_XYZ: label map.
        resampling: where to.
        count: number of labels, background included.
    """
    if all(map(Taps.is_identity, resampling.taps, resampling.source_XYZ)):
        return np.ascontiguousarray(labels_XYZ)
    found = np.zeros(resampling.target_XYZ, dtype=np.uint8)
    # Background has what the labels leave; a label wins with more than that and than the others.
    largest = np.full(resampling.target_XYZ, -1.0, dtype=np.float32)
    total = np.zeros(resampling.target_XYZ, dtype=np.float32)
    for index, box in enumerate(ndimage.find_objects(labels_XYZ, count - 1), start=1):
        if box is None:
            continue
        # With a rim of 0 all round, the box has all that its own part of the target depends on.
        mask = np.pad(labels_XYZ[box] == index, 1).astype(np.float32)
        inner, window = _around(resampling, box, (mask.shape[0], mask.shape[1], mask.shape[2]))
        share = resample(mask, inner)
        wins = share > largest[window]
        found[window][wins] = index
        np.maximum(largest[window], share, out=largest[window])
        total[window] += share
    found[largest <= 1 - total] = 0
    return found


def _around(
    resampling: Resampling, box: tuple[slice, ...], sides: Sides
) -> tuple[Resampling, tuple[slice, ...]]:
    """The part of the target that is mixed from a box of the source, and the taps into the box
    with a rim of one voxel."""
    windows, taps = [], []
    for one, place in zip(resampling.taps, box, strict=True):
        reached = np.flatnonzero((one.high >= place.start) & (one.low < place.stop))
        window = slice(int(reached[0]), int(reached[-1]) + 1) if len(reached) else slice(0, 0)
        first = place.start - 1
        taps.append(Taps(one.low[window] - first, one.high[window] - first, one.share[window]))
        windows.append(window)
    x, y, z = (len(one.low) for one in taps)
    return Resampling(sides, (x, y, z), (taps[0], taps[1], taps[2])), tuple(windows)


def _along(array: NDArray[Any], axis: int, taps: Taps) -> NDArray[Any]:
    if taps.is_identity(array.shape[axis]):
        return array
    low = array.take(taps.low, axis).astype(np.float32, copy=False)
    high = array.take(taps.high, axis).astype(np.float32, copy=False)
    shape = [1] * array.ndim
    shape[axis] = -1
    high -= low
    high *= taps.share.reshape(shape)
    low += high
    return low


def _steps(grid: Grid, spacing_mm: Spacing) -> Spacing:
    """How many source voxels lie between two voxels of the target, by axis."""
    ratios = [wanted / own for wanted, own in zip(spacing_mm, grid.spacing_mm, strict=True)]
    x, y, z = (1.0 if math.isclose(ratio, 1.0, rel_tol=SAME) else ratio for ratio in ratios)
    return x, y, z


def _resampling(source: Sides, target: Sides, steps: Spacing) -> Resampling:
    x, y, z = (_taps(*one) for one in zip(source, target, steps, strict=True))
    return Resampling(source, target, (x, y, z))


def _taps(source: int, target: int, step: float) -> Taps:
    places = np.clip(np.arange(target) * step, 0, source - 1)
    low = np.floor(places).astype(np.intp)
    high = np.minimum(low + 1, source - 1)
    return Taps(low, high, (places - low).astype(np.float32))
