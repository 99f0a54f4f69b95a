"""Drawn shapes as masks: polygon, ellipse, rectangle, keypoint; and rectangles as boxes.

Label Studio gives every length in percent of the picture, 0 to 100, and every angle in degrees,
clockwise on the screen. Pixel (row, column) covers [column, column + 1) × [row, row + 1), and
belongs to a shape when its centre lies inside. A centre exactly on an outline belongs to the shape
on its right or below, so polygons that share an edge neither overlap nor leave a gap.

The browser keeps shapes inside the picture. SLACK leaves room for a script's rounding, and what
lies outside the picture is cut off; anything further out was not drawn in Label Studio (most
often it is in pixels) and is refused.

Polygons are filled by own code: Pillow also paints the outline, which grows every shape by half a
pixel, and scikit-image tests each pixel against each corner and needs seconds for a long outline.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from imaging.errors import CodecError

MaskArray = npt.NDArray[np.bool_]
FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
Shape = tuple[int, int]  # rows, columns
Value = Mapping[str, Any]  # the `value` of a region, as it came

SLACK = 1.0  # percent
MAX_CORNERS = 10_000
CROSSINGS_AT_ONCE = 2**20  # bounds the memory that a long outline on a tall picture takes


@dataclass(frozen=True, slots=True)
class Patch:
    """A mask of part of a picture, and where it lies: a thousand cells need no thousand grids."""

    top: int
    left: int
    mask_HW: MaskArray

    @classmethod
    def around(cls, low_xy: FloatArray, high_xy: FloatArray, shape_HW: Shape) -> Self:
        """An empty patch over the pixels between two corners, as far as they are in the picture."""
        limits = np.array(shape_HW[::-1])
        left, top = np.clip(np.floor(low_xy), 0, limits).astype(int).tolist()
        right, bottom = np.clip(np.ceil(high_xy), 0, limits).astype(int).tolist()
        return cls(top, left, np.zeros((bottom - top, right - left), dtype=bool))

    @property
    def window(self) -> tuple[slice, slice]:
        """The patch's place as an index into the whole grid."""
        height, width = self.mask_HW.shape
        return slice(self.top, self.top + height), slice(self.left, self.left + width)


@dataclass(frozen=True, slots=True)
class Box:
    """An upright rectangle in pixels from the upper left corner of the picture."""

    label: str
    x0: float
    y0: float
    x1: float
    y1: float


def polygon_patch(value: Value, shape_HW: Shape) -> Patch:
    """The inside of `value.points`, a list of [x, y]; the outline closes by itself.

    Where an outline crosses itself the non-zero rule holds, as on the annotator's screen.

    Raises:
        CodecError: fewer than 3 points, more than MAX_CORNERS, one that cannot be meant, or an
            outline that the annotator left open; Label Studio shows no inside then.
    """
    if not value.get("closed", True):
        raise CodecError("outline is open, expected a closed one")
    points = value.get("points")
    if not isinstance(points, list | tuple) or not 3 <= len(points) <= MAX_CORNERS:
        found = len(points) if isinstance(points, list | tuple) else type(points).__name__
        raise CodecError(f"points is {found}, expected a list of 3 to {MAX_CORNERS}")
    for point in points:
        if not isinstance(point, list | tuple) or len(point) != 2:
            raise CodecError(f"a point is {point!r:.60}, expected [x, y]")
    percent_XY = np.array([[_place("x", x), _place("y", y)] for x, y in points])
    return _fill(percent_XY * _pixels_per_percent(shape_HW), shape_HW)


def rectangle_patch(value: Value, shape_HW: Shape) -> Patch:
    """The inside of a rectangle, turned about its upper left corner (x, y)."""
    return _fill(_rectangle_corners(value, shape_HW), shape_HW)


def ellipse_patch(value: Value, shape_HW: Shape) -> Patch:
    """The inside of an ellipse about (x, y), turned about its centre.

    `radiusX` is in percent of the picture's width, `radiusY` in percent of its height.
    """
    radius_x, radius_y = _sizes(value, shape_HW, "radiusX", "radiusY")
    patch, right, below = _around_point(value, max(radius_x, radius_y), shape_HW)
    cosine, sine = _direction(value)
    along, across = right * cosine + below * sine, below * cosine - right * sine
    reach = (along * radius_y) ** 2 + (across * radius_x) ** 2
    patch.mask_HW[...] = reach < (radius_x * radius_y) ** 2
    return patch


def keypoint_patch(value: Value, shape_HW: Shape) -> Patch:
    """The dot that Label Studio shows: a disc of radius `width`, in percent of the width.

    At least the pixel under the point belongs to it, and its neighbours when it lies on an edge.
    """
    radius = float(_sizes(value, shape_HW, "width")[0])
    patch, right, below = _around_point(value, radius, shape_HW)
    under = (abs(right) <= 0.5) & (abs(below) <= 0.5)
    patch.mask_HW[...] = (right**2 + below**2 < radius**2) | under
    return patch


def rectangle_box(value: Value, label: str, shape_HW: Shape) -> Box:
    """The smallest upright box around a rectangle, cut at the picture's edges."""
    corners = np.clip(_rectangle_corners(value, shape_HW), 0, shape_HW[::-1])
    # Percent and back costs the last digits; a millionth of a pixel is none.
    low, high = corners.min(axis=0).round(6), corners.max(axis=0).round(6)
    return Box(label, *low.tolist(), *high.tolist())


def box_value(box: Box, shape_HW: Shape) -> dict[str, float]:
    """The `value` of a rectangle region that shows the box, without its label.

    Raises:
        CodecError: the box is not inside the picture, or is inside out.
    """
    height, width = shape_HW
    if not (0 <= box.x0 < box.x1 <= width and 0 <= box.y0 < box.y1 <= height):
        raise CodecError(f"{box} is not inside a picture of {width} × {height} pixels")
    return {
        "x": 100 * box.x0 / width,
        "y": 100 * box.y0 / height,
        "width": 100 * (box.x1 - box.x0) / width,
        "height": 100 * (box.y1 - box.y0) / height,
        "rotation": 0.0,
    }


# --- reading a value --------------------------------------------------------------------------


def _number(key: str, found: object, low: float, high: float) -> float:
    if isinstance(found, bool) or not isinstance(found, int | float):
        raise CodecError(f"{key} is {found!r:.60}, expected a number")
    if not low <= found <= high:  # also true of NaN
        raise CodecError(f"{key} is {found!r:.60}, expected {low:g} to {high:g}")
    return float(found)


def _place(key: str, found: object) -> float:
    return _number(key, found, -SLACK, 100 + SLACK)


def _point(value: Value, shape_HW: Shape) -> FloatArray:
    """(x, y) in pixels."""
    percent = [_place(key, value.get(key)) for key in ("x", "y")]
    return np.array(percent) * _pixels_per_percent(shape_HW)


def _sizes(value: Value, shape_HW: Shape, *keys: str) -> FloatArray:
    """Lengths along a shape's own x and y axes, in pixels.

    Upright, a shape is at most as long as the picture's side. Turned, it lies along another side,
    which may be many times as long: the diagonal is all that bounds it.
    """
    scales = _pixels_per_percent(shape_HW)
    _, sine = _direction(value)
    sizes = []
    for key, scale in zip(keys, scales, strict=False):  # a disc has only one
        side = math.hypot(*shape_HW) / scale if sine else 100.0
        sizes.append(scale * _number(key, value.get(key), 0, side * (1 + SLACK / 100)))
    return np.array(sizes)


def _direction(value: Value) -> tuple[float, float]:
    """Cosine and sine of the rotation; y grows downwards, so clockwise is the positive sense."""
    angle = math.radians(_number("rotation", value.get("rotation", 0), -360, 360))
    return math.cos(angle), math.sin(angle)


def _pixels_per_percent(shape_HW: Shape) -> FloatArray:
    """(x, y)"""
    return np.array([shape_HW[1], shape_HW[0]]) / 100


def _around_point(
    value: Value, reach: float, shape_HW: Shape
) -> tuple[Patch, FloatArray, FloatArray]:
    """An empty patch about (x, y), and how far right and below of it its pixel centres lie."""
    point = _point(value, shape_HW)
    patch = Patch.around(point - reach - 1, point + reach + 1, shape_HW)
    rows, columns = patch.window
    right = np.arange(columns.start, columns.stop)[None, :] + 0.5 - point[0]
    below = np.arange(rows.start, rows.stop)[:, None] + 0.5 - point[1]
    return patch, right, below


def _rectangle_corners(value: Value, shape_HW: Shape) -> FloatArray:
    """The four corners in pixels, 4×2 (x, y)."""
    corner = _point(value, shape_HW)
    width, height = _sizes(value, shape_HW, "width", "height")
    cosine, sine = _direction(value)
    right, down = width * np.array([cosine, sine]), height * np.array([-sine, cosine])
    return np.array([corner, corner + right, corner + right + down, corner + down])


# --- filling ----------------------------------------------------------------------------------


def _fill(corners: FloatArray, shape_HW: Shape) -> Patch:
    """Pixels whose centre has a winding number other than 0 with respect to the outline.

    Args:
        corners: N×2 (x, y) in pixels.
        shape_HW: rows and columns of the picture.

    Each edge that passes a row of centres adds its direction, +1 down or -1 up, to the first
    centre on its right; summed up along the row these are the winding numbers.
    """
    patch = Patch.around(corners.min(axis=0), corners.max(axis=0), shape_HW)
    height, width = patch.mask_HW.shape
    turns = np.zeros((height, width + 1), dtype=np.int32)
    following = np.roll(corners, -1, axis=0)
    edges_at_once = CROSSINGS_AT_ONCE // (height + 1) + 1
    for part in range(0, len(corners), edges_at_once):
        edges = slice(part, part + edges_at_once)
        rows, columns, directions = _crossings(corners[edges], following[edges], patch)
        np.add.at(turns, (rows, columns), directions)
    patch.mask_HW[...] = np.cumsum(turns, axis=1)[:, :width] != 0
    return patch


def _crossings(
    begins: FloatArray, ends: FloatArray, patch: Patch
) -> tuple[IntArray, IntArray, IntArray]:
    """Row and column in the patch of the first centre behind each crossing, and its direction.

    Every edge is followed downwards and in the picture's coordinates, so that two shapes which
    share it find the same crossings to the last bit.
    """
    height, width = patch.mask_HW.shape
    is_down = begins[:, 1] <= ends[:, 1]
    upper = np.where(is_down[:, None], begins, ends)
    lower = np.where(is_down[:, None], ends, begins)
    first, last = (
        np.clip(np.ceil(y - 0.5), patch.top, patch.top + height).astype(np.int64)
        for y in (upper[:, 1], lower[:, 1])
    )
    counts = last - first
    edge = np.repeat(np.arange(len(begins)), counts)
    behind = np.cumsum(counts)
    rows = np.arange(len(edge)) + np.repeat(first - behind + counts, counts)
    (x, y), (run, drop) = upper[edge].T, (lower - upper)[edge].T
    crossing = x + (rows + 0.5 - y) * run / drop
    columns = np.clip(np.ceil(crossing - 0.5), patch.left, patch.left + width).astype(np.int64)
    return rows - patch.top, columns - patch.left, np.where(is_down, 1, -1)[edge]
