"""A network's answer about a whole volume, patch by patch, handed on as it is finished.

Patches overlap and are blended with a Gaussian: a network is least sure at the border of what it
sees. Windows, weights and padding are those of MONAI's `SlidingWindowInferer(mode="gaussian")`, but
only the patches of one row of windows are in memory at a time, whatever the volume's length.
"""

import math
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from imaging.recipes.recipe import Triple

FloatArray = NDArray[np.float32]
Forward = Callable[[FloatArray], FloatArray]  # images_BCXYZ to probabilities_BKXYZ
SIGMA = 0.125  # of the Gaussian, share of the patch's side
LEAST = 1e-3  # weight, so that a corner seen by one patch only is still an answer


def answer_in_slabs(
    image_CXYZ: FloatArray, patch_XYZ: Triple, overlap: float, forward: Forward
) -> Iterator[FloatArray]:
    """The network's blended answer, as consecutive slabs along X: probabilities KsYZ.

    Args:
        image_CXYZ: the whole volume at the planned spacing; 0 is put around one that is smaller
            than a patch.
        patch_XYZ: what the network takes.
        overlap: share of a patch that its neighbour sees too.
        forward: the network.
    """
    inner = image_CXYZ.shape[1:]
    before = [max(0, side - n) // 2 for side, n in zip(patch_XYZ, inner, strict=True)]
    image_CXYZ = _padded(image_CXYZ, patch_XYZ, before)
    starts = [
        window_starts(n, side, overlap)
        for n, side in zip(image_CXYZ.shape[1:], patch_XYZ, strict=True)
    ]
    kept = [slice(first, first + n) for first, n in zip(before, inner, strict=True)]
    for begin, slab in _rows(image_CXYZ, patch_XYZ, starts, forward):
        # Of a padded axis only what the volume itself fills.
        from_x, to_x = max(kept[0].start - begin, 0), kept[0].stop - begin
        if from_x < slab.shape[1]:
            yield slab[:, from_x:to_x, kept[1], kept[2]]


def window_starts(length: int, side: int, overlap: float) -> list[int]:
    """Where windows begin along an axis; the last one ends with it.

    Source: MONAI's `dense_patch_slices` and `_get_scan_interval`.
    """
    if length <= side:
        return [0]
    interval = max(1, int(side * (1 - overlap)))
    count = math.ceil((length - side) / interval) + 1
    return [min(place * interval, length - side) for place in range(count)]


def blending_weights(patch_XYZ: Triple) -> FloatArray:
    """The Gaussian weight of each voxel of a patch, 1 in the middle.

    Source: MONAI's `compute_importance_map(mode="gaussian")` and the floor that
    `sliding_window_inference` puts under it.
    """
    weights = np.ones((), dtype=np.float32)
    for side in patch_XYZ:
        places = np.arange(-(side - 1) / 2, (side - 1) / 2 + 1, dtype=np.float32)
        sigma = np.float32(side * SIGMA)
        weights = weights[..., None] * np.exp(places**2 / (-2 * sigma**2))
    found: FloatArray = np.maximum(weights, max(float(weights.min()), LEAST)).astype(np.float32)
    return found


def _rows(
    image_CXYZ: FloatArray, patch_XYZ: Triple, starts: list[list[int]], forward: Forward
) -> Iterator[tuple[int, FloatArray]]:
    """Where a slab begins, and the slab; the next one begins where it ends."""
    weights = blending_weights(patch_XYZ)
    side_x = patch_XYZ[0]
    sums: FloatArray | None = None
    shared = np.zeros((side_x, *image_CXYZ.shape[2:]), dtype=np.float32)
    for row, x in enumerate(starts[0]):
        for y in starts[1]:
            for z in starts[2]:
                window = (slice(y, y + patch_XYZ[1]), slice(z, z + patch_XYZ[2]))
                patch = np.ascontiguousarray(image_CXYZ[:, x : x + side_x, *window])
                answer_KXYZ = forward(patch[None])[0]
                if sums is None:
                    sums = np.zeros((len(answer_KXYZ), *shared.shape), dtype=np.float32)
                sums[:, :, *window] += answer_KXYZ * weights
                shared[:, *window] += weights
        if sums is None:
            return
        following = starts[0][row + 1] if row + 1 < len(starts[0]) else x + side_x
        done = following - x
        yield x, sums[:, :done] / shared[:done]
        for array in (*sums, shared):
            array[: side_x - done] = array[done:].copy()
            array[side_x - done :] = 0


def _padded(image_CXYZ: FloatArray, patch_XYZ: Triple, before: list[int]) -> FloatArray:
    missing = [max(0, side - n) for side, n in zip(patch_XYZ, image_CXYZ.shape[1:], strict=True)]
    if not any(missing):
        return image_CXYZ
    rims = [(first, all_ - first) for first, all_ in zip(before, missing, strict=True)]
    return np.pad(image_CXYZ, [(0, 0), *rims])
