"""Blanking the places where text was read."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imaging.deid.reader import Box

MARGIN = 0.35  # of a line's height: readers draw their boxes close
OVERLAY_SLICES = 3  # text on so many slices is on all, though some hide it behind bone


def redact(
    slices_SHW: NDArray[Any],
    boxes: Mapping[int, Sequence[Box]],
    background: float | None = None,
) -> None:
    """Set the boxes, and a margin around them, to the background value. In place.

    Args:
        slices_SHW: voxels, or a view of them with slices first, rows and columns as the pictures
            had them that the boxes were found on; further axes may follow.
        boxes: slice → boxes. Boxes of slices that are not there are passed over. Where there are
            three slices or more, it is an overlay, and all boxes are blanked on every slice.
        background: what to set; the lowest value in the array if not given.
    """
    value = slices_SHW.min() if background is None else np.asarray(background, slices_SHW.dtype)
    wanted = {number: tuple(places) for number, places in boxes.items() if places}
    if len(wanted) >= OVERLAY_SLICES:
        every = tuple({box for places in wanted.values() for box in places})
        wanted = dict.fromkeys(range(len(slices_SHW)), every)
    for number, places in wanted.items():
        if not 0 <= number < len(slices_SHW):
            continue
        for top, left, bottom, right in places:
            more = max(2, round(MARGIN * (bottom - top)))
            rows = slice(max(0, top - more), bottom + more)
            slices_SHW[number, rows, max(0, left - more) : right + more] = value
