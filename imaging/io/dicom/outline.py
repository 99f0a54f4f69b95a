"""Outlines of masks and the insides of outlines, in pixels: pure geometry.

Coordinates are (row, column) with pixel centres at whole numbers. A pixel belongs to an outline
when its centre lies inside it; where outlines of one structure nest, the inner one is a hole
(even-odd rule), which is how structure sets are drawn.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from imaging.volume import FloatArray

Mask = NDArray[np.bool_]
Point = tuple[int, int]


def inside(outlines: Sequence[FloatArray], shape_HW: tuple[int, int]) -> Mask:
    """Pixels whose centre lies inside an odd number of outlines.

    Args:
        outlines: N×2 (row, column) each, closed from the last point to the first.
        shape_HW: rows and columns; what lies beyond is cut off.

    Every edge that passes a row of centres turns over all centres on its right.
    """
    height, width = shape_HW
    turns = np.zeros((height, width + 1), dtype=np.int64)
    for points in outlines:
        following = np.roll(points, -1, axis=0)
        is_down = points[:, 0] <= following[:, 0]
        upper = np.where(is_down[:, None], points, following)
        lower = np.where(is_down[:, None], following, points)
        first, last = (
            np.clip(np.ceil(rows), 0, height).astype(np.int64)
            for rows in (upper[:, 0], lower[:, 0])
        )
        edges = np.repeat(np.arange(len(points)), last - first)
        if not len(edges):
            continue
        begun = np.cumsum(last - first) - (last - first)
        rows = first[edges] + np.arange(len(edges)) - begun[edges]
        share = (rows - upper[edges, 0]) / (lower[edges, 0] - upper[edges, 0])
        crossed = upper[edges, 1] + share * (lower[edges, 1] - upper[edges, 1])
        columns = np.clip(np.ceil(crossed), 0, width).astype(np.int64)
        np.add.at(turns, (rows, columns), 1)
    within: Mask = np.cumsum(turns, axis=1)[:, :width] % 2 == 1
    return within


def outlines(mask_HW: Mask) -> list[FloatArray]:
    """Closed outlines from which `inside` makes the same mask again; holes get one of their own.

    Every outline runs through the middles of the edges between pixels inside and outside, so that
    no centre lies closer to it than a third of a pixel: rounding cannot move one across.

    Returns:
        N×2 (row, column) each.
    """
    steps = _steps(mask_HW)
    found = []
    while steps:
        start = next(iter(steps))
        corner, loop = start, [start]
        while True:
            ends = steps[corner]
            corner = ends.pop()
            if not ends:
                del steps[loop[-1]]
            if corner == start:
                break
            loop.append(corner)
        found.append(_through_middles(np.array(loop, dtype=np.float64)))
    return found


def _steps(mask_HW: Mask) -> dict[Point, list[Point]]:
    """Edges between inside and outside as corner → next corners, the inside on the right."""
    padded = np.pad(mask_HW, 1)
    down_edge = padded[1:, 1:-1] != padded[:-1, 1:-1]  # between rows r - 1 and r
    side_edge = padded[1:-1, 1:] != padded[1:-1, :-1]
    steps: dict[Point, list[Point]] = {}
    for row, column in np.argwhere(down_edge).tolist():
        ends = ((row, column), (row, column + 1))
        begin, end = ends if padded[row + 1, column + 1] else ends[::-1]
        steps.setdefault(begin, []).append(end)
    for row, column in np.argwhere(side_edge).tolist():
        ends = ((row, column), (row + 1, column))
        begin, end = ends if padded[row + 1, column] else ends[::-1]
        steps.setdefault(begin, []).append(end)
    return steps


def _through_middles(corners: FloatArray) -> FloatArray:
    """Middles of the steps between corners, without those on a straight line."""
    middles = (corners + np.roll(corners, -1, axis=0)) / 2 - 0.5
    before, after = np.roll(middles, 1, axis=0) - middles, np.roll(middles, -1, axis=0) - middles
    is_bend = np.abs(before[:, 0] * after[:, 1] - before[:, 1] * after[:, 0]) > 1e-9
    return middles[is_bend]
