"""From probabilities at the planned spacing to a label map on the volume's own grid, in slabs.

Probabilities are interpolated and the largest wins after that: interpolating label indices would
invent labels between two others and cut corners. Of a CT with sixteen labels all that would be five
gigabytes of numbers, nearly all of them for nothing: where the eight voxels around a place agree on
the largest, it is the largest in between, too. So only the places on the borders of labels are
computed, plane by plane, and what is kept is one byte per voxel.
"""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from imaging.resample import LabelArray, Resampling, Taps

FloatArray = NDArray[np.floating]
UNDECIDED = 255  # so at most 254 labels beside background
PLACES = 1 << 16  # computed at a time


def labels_from_slabs(slabs: Iterable[FloatArray], resampling: Resampling) -> LabelArray:
    """The label map on the target grid.

    Args:
        slabs: probabilities or logits KsYZ at the planned spacing: consecutive along X, of any
            thickness, together the whole source grid.
        resampling: from the planned spacing to the volume's own grid.

    Returns:
        labels_XYZ on the target grid: of each voxel the first largest of the linearly
        interpolated values.
    """
    along_x = resampling.taps[0]
    found = np.empty(resampling.target_XYZ, dtype=np.uint8)
    done = 0  # planes of the target that are written
    first, planes = 0, deque[_Plane]()  # those of the source at hand, and the first one's number
    for slab in slabs:
        planes.extend(_Plane(slab[:, x], labels) for x, labels in enumerate(likeliest(slab)))
        while done < len(along_x.low) and along_x.high[done] < first + len(planes):
            low, high = planes[along_x.low[done] - first], planes[along_x.high[done] - first]
            found[done] = _between(low, high, along_x.share[done], resampling.taps[1:])
            done += 1
        while len(planes) > 1:  # the last one may be needed with the next slab
            planes.popleft()
            first += 1
    return found


def likeliest(values_KXYZ: FloatArray) -> LabelArray:
    """The index of the largest for each voxel, the first of equals."""
    best = values_KXYZ[0].copy()
    labels = np.zeros(best.shape, dtype=np.uint8)
    for index, value in enumerate(values_KXYZ[1:], start=1):
        np.putmask(labels, value > best, index)
        np.maximum(best, value, out=best)
    return labels


@dataclass(frozen=True, slots=True, eq=False)
class _Plane:
    """One plane of the source: its values, and which is the largest."""

    values_KYZ: FloatArray
    labels_YZ: LabelArray


def _between(low: _Plane, high: _Plane, share: np.float32, taps: tuple[Taps, ...]) -> LabelArray:
    """A plane of the target that lies between two of the source."""
    along_y, along_z = taps
    if share == 0:
        high = low
    labels_YZ = _agreed(low.labels_YZ, high.labels_YZ)
    labels_YZ = _agreed(labels_YZ[along_y.low], labels_YZ[along_y.high])
    labels_YZ = _agreed(labels_YZ.take(along_z.low, 1), labels_YZ.take(along_z.high, 1))
    undecided = np.flatnonzero(labels_YZ == UNDECIDED)
    for start in range(0, len(undecided), PLACES):
        places = undecided[start : start + PLACES]
        y, z = np.divmod(places, labels_YZ.shape[1])
        within = _chosen(along_y, y), _chosen(along_z, z)
        values_KN = _interpolated(low.values_KYZ, *within)
        if high is not low:
            values_KN = _mixed(values_KN, _interpolated(high.values_KYZ, *within), share)
        labels_YZ.ravel()[places] = likeliest(values_KN)
    return labels_YZ


def _interpolated(values_KYZ: FloatArray, along_y: Taps, along_z: Taps) -> FloatArray:
    """Values KN at single places of a plane."""
    width = values_KYZ.shape[2]
    flat = values_KYZ.reshape(len(values_KYZ), -1)
    low_rows, high_rows = along_y.low * width, along_y.high * width

    def column(of: NDArray[np.intp]) -> FloatArray:
        low = flat.take(low_rows + of, 1).astype(np.float32, copy=False)
        if not along_y.share.any():
            return low
        return _mixed(low, flat.take(high_rows + of, 1), along_y.share)

    if not along_z.share.any():
        return column(along_z.low)
    return _mixed(column(along_z.low), column(along_z.high), along_z.share)


def _chosen(taps: Taps, places: NDArray[np.intp]) -> Taps:
    return Taps(taps.low[places], taps.high[places], taps.share[places])


def _agreed(one: LabelArray, other: LabelArray) -> LabelArray:
    found: LabelArray = np.where(one == other, one, np.uint8(UNDECIDED))
    return found


def _mixed(
    one: FloatArray, other: FloatArray, share: np.float32 | NDArray[np.float32]
) -> FloatArray:
    # In this form a larger value stays larger after rounding, which `_agreed` relies on.
    return one * (1 - share) + other * share
