import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from skimage.draw import polygon as skimage_polygon

from imaging.errors import CodecError
from imaging.labelstudio import shapes
from imaging.labelstudio.shapes import (
    Box,
    Patch,
    box_value,
    ellipse_patch,
    keypoint_patch,
    polygon_patch,
    rectangle_box,
    rectangle_patch,
)

SHAPE = (30, 50)  # rows, columns: never square, so that mixed-up axes show
Mask = npt.NDArray[np.bool_]
percent = st.floats(0, 100, allow_nan=False)


def spread(patch: Patch, shape_HW: tuple[int, int] = SHAPE) -> Mask:
    mask_HW = np.zeros(shape_HW, dtype=bool)
    mask_HW[patch.window] = patch.mask_HW
    return mask_HW


def pixels(points: list[tuple[float, float]]) -> dict[str, Any]:
    """A polygon given in pixels, as Label Studio would store it."""
    height, width = SHAPE
    return {"points": [[100 * x / width, 100 * y / height] for x, y in points]}


def winding_number(points: list[list[float]], x: float, y: float) -> int:
    """Sunday's algorithm, in plain Python and pixels."""
    turns = 0
    for (x0, y0), (x1, y1) in zip(points, points[1:] + points[:1], strict=True):
        side = (x1 - x0) * (y - y0) - (x - x0) * (y1 - y0)
        if y0 <= y < y1 and side > 0:
            turns += 1
        elif y1 <= y < y0 and side < 0:
            turns -= 1
    return turns


@given(st.lists(st.tuples(percent, percent), min_size=3, max_size=9))
@settings(max_examples=60)
def test_polygons_cover_the_centres_that_their_outline_winds_around(
    points: list[tuple[float, float]],
) -> None:
    height, width = SHAPE
    scaled = [[x * width / 100, y * height / 100] for x, y in points]
    expected = np.array(
        [
            [winding_number(scaled, column + 0.5, row + 0.5) != 0 for column in range(width)]
            for row in range(height)
        ]
    )
    # Centres within rounding of an outline may fall on either side.
    assert (spread(polygon_patch({"points": points}, SHAPE)) != expected).sum() <= len(points)


def test_a_smooth_outline_gives_what_scikit_image_gives() -> None:
    angles = np.linspace(0, 2 * math.pi, 97)[:-1]
    reach = 10 + 3 * np.sin(5 * angles)
    x, y = 24.3 + reach * np.cos(angles), 15.2 + reach * np.sin(angles)
    rows, columns = skimage_polygon(y - 0.5, x - 0.5, SHAPE)
    expected = np.zeros(SHAPE, dtype=bool)
    expected[rows, columns] = True
    patch = polygon_patch(pixels(list(zip(x, y, strict=True))), SHAPE)
    assert np.array_equal(spread(patch), expected)


def test_a_polygon_covers_exactly_the_pixels_whose_centre_is_inside() -> None:
    # A triangle with the right angle at (2, 1), 6 wide and 4 high.
    mask_HW = spread(polygon_patch(pixels([(2, 1), (8, 1), (2, 5)]), SHAPE))
    assert mask_HW[:6, :9].astype(int).tolist() == [
        [0, 0, 0, 0, 0, 0, 0, 0, 0],
        [0, 0, 1, 1, 1, 1, 1, 0, 0],
        [0, 0, 1, 1, 1, 1, 0, 0, 0],
        [0, 0, 1, 1, 0, 0, 0, 0, 0],
        [0, 0, 1, 0, 0, 0, 0, 0, 0],
        [0, 0, 0, 0, 0, 0, 0, 0, 0],
    ]
    assert mask_HW.sum() == 12  # half of 6 × 4


@given(st.tuples(percent, percent), percent, percent)
def test_polygons_that_share_an_edge_neither_overlap_nor_leave_a_gap(
    inner: tuple[float, float], top: float, bottom: float
) -> None:
    fan = [[(0, 0), (top, 0), inner], [(top, 0), (100, 0), inner]]
    fan += [[(100, 0), (100, 100), inner], [(100, 100), (bottom, 100), inner]]
    fan += [[(bottom, 100), (0, 100), inner], [(0, 100), (0, 0), inner]]
    covered = sum(spread(polygon_patch({"points": part}, SHAPE)).astype(int) for part in fan)
    assert (covered == 1).all()


def test_a_star_that_crosses_itself_has_no_hole() -> None:
    corners = [
        (25 + 14 * math.sin(4 * math.pi * k / 5), 15 - 14 * math.cos(4 * math.pi * k / 5))
        for k in range(5)
    ]
    assert spread(polygon_patch(pixels(corners), SHAPE))[15, 25]


def test_a_long_outline_is_filled_piece_by_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    angles = np.linspace(0, 2 * math.pi, 500)
    value = {"points": np.stack([50 + 40 * np.cos(angles), 50 + 30 * np.sin(angles)], 1).tolist()}
    at_once = spread(polygon_patch(value, SHAPE))
    monkeypatch.setattr(shapes, "CROSSINGS_AT_ONCE", 64)
    assert np.array_equal(spread(polygon_patch(value, SHAPE)), at_once)


def test_what_lies_outside_the_picture_is_cut_off() -> None:
    value = {"points": [[-0.9, -0.9], [100.9, -0.9], [100.9, 100.9], [-0.9, 100.9]]}
    assert spread(polygon_patch(value, SHAPE)).all()
    outside = {"x": 100.5, "y": 100.5, "width": 0.3, "height": 0.3}
    assert not spread(rectangle_patch(outside, SHAPE)).any()


def test_a_rectangle_covers_whole_pixels() -> None:
    value = {"x": 20, "y": 10, "width": 40, "height": 50, "rotation": 0}
    expected = np.zeros(SHAPE, dtype=bool)
    expected[3:18, 10:30] = True
    assert np.array_equal(spread(rectangle_patch(value, SHAPE)), expected)


def test_a_rectangle_turns_clockwise_about_its_upper_left_corner() -> None:
    # 20 × 6 pixels from (25, 3), turned by 90°: 6 wide to the left, 20 high.
    value = {"x": 50, "y": 10, "width": 40, "height": 20, "rotation": 90}
    expected = np.zeros(SHAPE, dtype=bool)
    expected[3:23, 19:25] = True
    assert np.array_equal(spread(rectangle_patch(value, SHAPE)), expected)


@given(percent, percent, st.floats(1, 40), st.floats(1, 40), st.floats(-360, 360))
@settings(max_examples=60)
def test_an_ellipse_covers_the_centres_that_its_equation_holds_for(
    x: float, y: float, radius_x: float, radius_y: float, rotation: float
) -> None:
    height, width = SHAPE
    value = {"x": x, "y": y, "radiusX": radius_x, "radiusY": radius_y, "rotation": rotation}
    mask_HW = spread(ellipse_patch(value, SHAPE))
    turn = complex(math.cos(math.radians(-rotation)), math.sin(math.radians(-rotation)))
    for row, column in np.random.default_rng(0).integers(0, SHAPE, (80, 2)):
        offset = complex(column + 0.5 - x * width / 100, row + 0.5 - y * height / 100) * turn
        reach = math.hypot(
            offset.real / (radius_x * width / 100), offset.imag / (radius_y * height / 100)
        )
        assume(abs(reach - 1) > 1e-9)
        assert mask_HW[row, column] == (reach < 1)


def test_an_ellipse_has_the_area_of_one() -> None:
    value = {"x": 50, "y": 50, "radiusX": 30, "radiusY": 40, "rotation": 30}
    shape_HW = (300, 500)
    area = ellipse_patch(value, shape_HW).mask_HW.sum()
    assert area == pytest.approx(math.pi * 150 * 120, rel=0.002)


def test_an_ellipse_without_extent_covers_nothing() -> None:
    value = {"x": 51, "y": 50, "radiusX": 0, "radiusY": 40}
    assert not ellipse_patch(value, SHAPE).mask_HW.any()


def test_a_keypoint_is_the_disc_that_annotators_see() -> None:
    patch = keypoint_patch({"x": 50, "y": 50, "width": 8}, SHAPE)  # radius 4 pixels
    mask_HW = spread(patch)
    assert mask_HW[15, 25] and mask_HW[15, 28] and not mask_HW[15, 30]
    assert mask_HW.sum() == pytest.approx(math.pi * 16, rel=0.1)


@pytest.mark.parametrize(("x", "y"), [(0, 0), (100, 100), (37.1, 62.9), (51, 51.6)])
def test_the_smallest_keypoint_still_marks_its_pixel(x: float, y: float) -> None:
    mask_HW = spread(keypoint_patch({"x": x, "y": y, "width": 0}, SHAPE))
    row, column = min(int(y * 0.3), 29), min(int(x * 0.5), 49)
    assert mask_HW[row, column]
    assert mask_HW.sum() == 1


NAN = float("nan")
INFINITE = float("inf")
POINT = {"x": 10, "y": 10}
BAD = {
    "no points": (polygon_patch, {}),
    "points is a text": (polygon_patch, {"points": "0,0 1,1 2,2"}),
    "two points": (polygon_patch, {"points": [[0, 0], [1, 1]]}),
    "a million points": (polygon_patch, {"points": [[1, 1]] * 1_000_000}),
    "a point of one": (polygon_patch, {"points": [[0, 0], [1], [2, 2]]}),
    "a point of three": (polygon_patch, {"points": [[0, 0], [1, 1, 1], [2, 2]]}),
    "a point that is none": (polygon_patch, {"points": [[0, 0], 7, [2, 2]]}),
    "NaN": (polygon_patch, {"points": [[0, 0], [NAN, 1], [2, 2]]}),
    "infinite": (polygon_patch, {"points": [[0, 0], [INFINITE, 1], [2, 2]]}),
    "in pixels": (polygon_patch, {"points": [[0, 0], [250, 0], [250, 180]]}),
    "text for a number": (polygon_patch, {"points": [[0, 0], ["1", 1], [2, 2]]}),
    "true for a number": (polygon_patch, {"points": [[0, 0], [True, 1], [2, 2]]}),
    "left open": (polygon_patch, {"points": [[0, 0], [9, 0], [9, 9]], "closed": False}),
    "ellipse without radius": (ellipse_patch, POINT),
    "ellipse with a NaN radius": (ellipse_patch, POINT | {"radiusX": NAN, "radiusY": 1}),
    "ellipse inside out": (ellipse_patch, POINT | {"radiusX": -4, "radiusY": 4}),
    "ellipse turned by NaN": (ellipse_patch, POINT | {"radiusX": 4, "radiusY": 4, "rotation": NAN}),
    "huge ellipse": (ellipse_patch, POINT | {"radiusX": 1e300, "radiusY": 1e300}),
    "rectangle without size": (rectangle_patch, POINT),
    "rectangle inside out": (rectangle_patch, POINT | {"width": -5, "height": 5}),
    "rectangle turned often": (
        rectangle_patch,
        POINT | {"width": 5, "height": 5, "rotation": 1e9},
    ),
    "rectangle of a huge number": (rectangle_patch, POINT | {"width": 10**300, "height": 5}),
    "keypoint nowhere": (keypoint_patch, {"width": 1}),
    "keypoint far off": (keypoint_patch, {"x": -20, "y": 3, "width": 1}),
    "keypoint of no size": (keypoint_patch, POINT | {"width": None}),
}


@pytest.mark.parametrize("name", BAD)
def test_a_shape_that_cannot_be_meant_is_refused(name: str) -> None:
    patch_of, value = BAD[name]
    with pytest.raises(CodecError, match="expected"):
        patch_of(value, SHAPE)


@given(
    st.integers(0, 49), st.integers(0, 29), st.integers(1, 50), st.integers(1, 30), st.booleans()
)
def test_a_box_in_whole_pixels_comes_back_exactly(
    x0: int, y0: int, width: int, height: int, halves: bool
) -> None:
    shift = 0.5 if halves else 0.0
    box = Box("cyst", x0 + shift, y0, min(x0 + width, 50), min(y0 + height, 30))
    assume(box.x0 < box.x1 and box.y0 < box.y1)
    assert rectangle_box(box_value(box, SHAPE), "cyst", SHAPE) == box


def test_a_turned_rectangle_gives_the_box_around_it() -> None:
    value = {"x": 50, "y": 10, "width": 40, "height": 20, "rotation": 90}
    assert rectangle_box(value, "cyst", SHAPE) == Box("cyst", 19.0, 3.0, 25.0, 23.0)


@pytest.mark.parametrize("corners", [(-1, 0, 5, 5), (0, 0, 51, 5), (5, 5, 5, 9), (0, 9, 5, 2)])
def test_a_box_outside_the_picture_is_refused(corners: tuple[float, ...]) -> None:
    with pytest.raises(CodecError, match="not inside"):
        box_value(Box("cyst", *corners), SHAPE)


LONG = (100, 20)  # rows, columns: 1:5


def test_a_turned_rectangle_may_be_longer_than_the_side_its_width_is_measured_by() -> None:
    # Turned by 90° about its upper left corner (15, 5): 80 pixels down, 10 to the left.
    value = {"x": 75, "y": 5, "width": 400, "height": 10, "rotation": 90}
    expected = np.zeros(LONG, dtype=bool)
    expected[5:85, 5:15] = True
    assert np.array_equal(spread(rectangle_patch(value, LONG), LONG), expected)
    assert rectangle_box(value, "a", LONG) == Box("a", 5, 5, 15, 85)


def test_a_turned_ellipse_may_be_longer_than_the_side_its_radius_is_measured_by() -> None:
    turned = {"x": 50, "y": 50, "radiusX": 200, "radiusY": 5, "rotation": 90}
    upright = {"x": 50, "y": 50, "radiusX": 25, "radiusY": 40}  # the same: 5 by 40 pixels
    found = spread(ellipse_patch(turned, LONG), LONG)
    assert np.array_equal(found, spread(ellipse_patch(upright, LONG), LONG))
    assert found.sum() == pytest.approx(math.pi * 5 * 40, rel=0.02)


@pytest.mark.parametrize(("width", "rotation"), [(102, 0), (520, 90), (520, 30)])
def test_a_side_longer_than_the_picture_can_hold_was_not_drawn(width: int, rotation: int) -> None:
    value = {"x": 50, "y": 5, "width": width, "height": 5, "rotation": rotation}
    with pytest.raises(CodecError, match="width is"):
        rectangle_patch(value, LONG)
