"""Blanking the places where text was read."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imaging.deid.reader import Box
from imaging.io.dicom.geometry import Placing

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
            rows = slice(max(0, top - more), max(0, bottom + more))
            columns = slice(max(0, left - more), max(0, right + more))
            slices_SHW[number, rows, columns] = value


def boxes_on_grid(
    boxes: Mapping[int, Sequence[Box]], placing: Placing
) -> dict[int, tuple[Box, ...]]:
    """Boxes on the images of a series as places on the grid that they were resampled to.

    Args:
        boxes: image → boxes, in its own pixels.
        placing: where the grid's voxels lie in the images.

    Returns:
        Slice of the grid → boxes, on every slice that an image has a share in. They may reach
        beyond the grid; `redact` passes over what does.
    """
    made: dict[int, tuple[Box, ...]] = {}
    for number, at in enumerate(placing.slices.tolist()):
        images = [image for image in sorted(boxes) if abs(at - image) < 1]
        places = [_on_grid(box, placing, image) for image in images for box in boxes[image]]
        if places:
            made[number] = tuple(places)
    return made


def _on_grid(box: Box, placing: Placing, image: int) -> Box:
    row, per_row = placing.rows[image].tolist()
    column, per_column = placing.columns[image].tolist()
    return Box(
        math.floor((box.top - row) / per_row),
        math.floor((box.left - column) / per_column),
        math.ceil((box.bottom - row) / per_row),
        math.ceil((box.right - column) / per_column),
    )
