import itertools
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from imaging.errors import GridMismatchError, RecordError
from imaging.labelstudio import plane as plane_module
from imaging.labelstudio.plane import AXES, MAX_SIDE, MIN_SIDE, Plane, parse_plane, plane_of
from imaging.volume import Grid, grid_of, to_ras

SIDES = (7, 10, 13)
PERMUTATIONS = list(itertools.permutations(range(3)))
SIGNS = list(itertools.product((1, -1), repeat=3))


def stored_grid(
    sides: tuple[int, int, int],
    spacing: tuple[float, float, float],
    axes: tuple[int, ...] = (0, 1, 2),
    signs: tuple[int, ...] = (1, 1, 1),
) -> Grid:
    """A file whose stored axis k runs along world axis axes[k], forward or backward."""
    affine = np.eye(4)
    affine[:3, :3] = 0
    for stored, (axis, sign) in enumerate(zip(axes, signs, strict=True)):
        affine[axis, stored] = sign * spacing[stored]
    affine[:3, 3] = (-11.5, 23.25, 7.0)
    return grid_of(sides, affine)


def all_grids(spacing: tuple[float, float, float] = (0.8, 1.7, 3.1)) -> Iterator[Grid]:
    """The 48 ways to store one and the same box of voxels' axes."""
    for axes, signs in itertools.product(PERMUTATIONS, SIGNS):
        yield stored_grid(SIDES, spacing, axes, signs)


def oblique_grid(random: np.random.Generator, sides: tuple[int, int, int]) -> Grid:
    """Any rotation, reflected or not, any spacing."""
    turned, _ = np.linalg.qr(random.normal(size=(3, 3)))
    affine = np.eye(4)
    affine[:3, :3] = turned * random.uniform(0.3, 6.0, 3)
    affine[:3, 3] = random.normal(0, 100, 3)
    return grid_of(sides, affine)


def numbered(grid: Grid) -> NDArray[np.int32]:
    """Each voxel another value: nothing about it is symmetric."""
    return np.arange(np.prod(grid.shape_XYZ), dtype=np.int32).reshape(grid.shape_XYZ)


def world_mm(grid: Grid) -> NDArray[np.float64]:
    """World coordinates of every voxel, X × Y × Z × 3."""
    places = np.stack(np.indices(grid.shape_XYZ), axis=-1)
    found: NDArray[np.float64] = places @ grid.affine[:3, :3].T + grid.affine[:3, 3]
    return found


def shown_mm(plane: Plane, index: int) -> NDArray[np.float64]:
    """World coordinates of what each pixel of a slice shows, H × W × 3."""
    mm = world_mm(plane.grid)
    return np.stack([plane.screen(mm[..., axis], index) for axis in range(3)], axis=-1)


@pytest.mark.parametrize("axis", AXES)
def test_slices_come_back_voxel_by_voxel_however_the_file_stores_them(axis: str) -> None:
    for grid in all_grids():
        plane = plane_of(grid, axis)
        stored = np.arange(np.prod(SIDES), dtype=np.int32).reshape(SIDES)
        array_XYZ = to_ras(stored, grid)
        for index in range(plane.count):
            back = plane.voxels(plane.screen(array_XYZ, index))
            assert np.array_equal(back, array_XYZ.take(index, plane.axis))


@pytest.mark.parametrize("axis", AXES)
def test_slices_hang_as_radiologists_hang_them_in_world_coordinates(axis: str) -> None:
    to_the_right = {"axial": (-1, 0, 0), "coronal": (-1, 0, 0), "sagittal": (0, -1, 0)}[axis]
    downwards = {"axial": (0, -1, 0), "coronal": (0, 0, -1), "sagittal": (0, 0, -1)}[axis]
    paging = {"axial": (0, 0, 1), "coronal": (0, 1, 0), "sagittal": (1, 0, 0)}[axis]
    for grid in all_grids():
        plane = plane_of(grid, axis)
        mm = shown_mm(plane, 0)
        along, down = mm[0, -1] - mm[0, 0], mm[-1, 0] - mm[0, 0]
        forward = shown_mm(plane, plane.count - 1)[0, 0] - mm[0, 0]
        for step, expected in ((along, to_the_right), (down, downwards), (forward, paging)):
            assert np.allclose(step / np.linalg.norm(step), expected)


@given(seed=st.integers(0, 2**32 - 1), axis=st.sampled_from([*AXES, "auto"]))
def test_oblique_slices_come_back_and_hang_as_nearly_right_as_their_axes_allow(
    seed: int, axis: str
) -> None:
    random = np.random.default_rng(seed)
    sides = tuple(random.integers(1, 12, 3).tolist())
    grid = oblique_grid(random, sides)
    plane = plane_of(grid, axis)
    array_XYZ = numbered(grid)
    index = int(random.integers(plane.count))
    shown = plane.screen(array_XYZ, index)
    assert shown.shape == plane.shape_HW
    assert np.array_equal(plane.voxels(shown), array_XYZ.take(index, plane.axis))
    across, up = (place for place in range(3) if place != plane.axis)
    mm = shown_mm(plane, index)
    affine = grid.affine
    if grid.shape_XYZ[across] > 1:
        assert (mm[0, 0] - mm[0, -1]) @ affine[:3, across] > 0
    if grid.shape_XYZ[up] > 1:
        assert (mm[0, 0] - mm[-1, 0]) @ affine[:3, up] > 0


def test_a_pixel_is_as_high_as_it_is_wide_in_mm() -> None:
    for grid in all_grids():
        for axis in AXES:
            plane = plane_of(grid, axis)
            across, up = (place for place in range(3) if place != plane.axis)
            height, width = plane.shape_HW
            high_mm = grid.shape_XYZ[up] * grid.spacing_mm[up] / height
            wide_mm = grid.shape_XYZ[across] * grid.spacing_mm[across] / width
            assert high_mm / wide_mm == pytest.approx(1, abs=0.5 / min(height, width) + 0.01)
            assert height >= grid.shape_XYZ[up] and width >= grid.shape_XYZ[across]
            assert max(height, width) >= MIN_SIDE


def test_small_slices_are_enlarged_by_a_whole_factor_and_large_ones_left_as_they_are() -> None:
    assert plane_of(stored_grid((35, 51, 35), (1.0, 1.0, 1.0))).shape_HW == (306, 210)
    assert plane_of(stored_grid((512, 300, 9), (0.7, 0.7, 5.0))).shape_HW == (300, 512)
    assert plane_of(stored_grid((255, 200, 9), (1.0, 1.0, 5.0))).shape_HW == (400, 510)
    assert plane_of(stored_grid((300, 9, 60), (0.5, 3.0, 2.0)), "coronal").shape_HW == (240, 300)


def test_no_voxel_is_left_out_where_a_slice_is_too_long_to_be_drawn_to_scale() -> None:
    long_and_thin = plane_of(stored_grid((600, 20, 3), (0.1, 90.0, 0.1)), "axial")
    assert long_and_thin.shape_HW == (MAX_SIDE, 600)
    many = plane_of(stored_grid((5000, 3, 3), (1.0, 1.0, 1.0)), "axial")
    assert many.shape_HW == (3, 5000)


def test_every_voxel_is_shown_by_the_pixel_at_its_centre() -> None:
    for voxels in range(1, 40):
        for pixels in range(voxels, 130):
            shown = plane_module._shown_voxels(voxels, pixels)
            centres = plane_module._centre_pixels(voxels, pixels)
            assert np.array_equal(shown[centres], np.arange(voxels))
            assert shown.min() == 0 and shown.max() == voxels - 1


@pytest.mark.parametrize(
    ("spacing", "axes", "expected"),
    [
        ((0.7, 0.7, 5.0), (0, 1, 2), "axial"),  # a CT of thick slices
        ((5.0, 0.7, 0.7), (2, 0, 1), "axial"),  # the same, stored in another order
        ((0.9, 0.9, 0.5), (0, 1, 2), "axial"),  # thin overlapping slices
        ((1.2, 0.94, 0.94), (0, 1, 2), "sagittal"),  # square pixels decide
        ((0.43, 0.43, 2.0), (0, 2, 1), "coronal"),
        ((1.0, 1.0, 1.0), (0, 1, 2), "axial"),
        ((1.0, 1.0, 1.0), (1, 2, 0), "sagittal"),  # as it is stored: slices last
        ((1.0, 1.0, 1.003), (0, 2, 1), "coronal"),  # rounding
        ((0.8, 0.9, 1.0), (2, 0, 1), "coronal"),
        ((0.8, 0.9, 1.6), (0, 2, 1), "coronal"),
    ],
)
def test_auto_pages_along_the_axis_of_the_acquired_slices(
    spacing: tuple[float, float, float], axes: tuple[int, ...], expected: str
) -> None:
    for signs in SIGNS:
        plane = plane_of(stored_grid(SIDES, spacing, axes, signs))
        assert AXES[plane.axis] == expected


def test_an_array_or_a_picture_of_another_shape_is_refused() -> None:
    plane = plane_of(stored_grid((4, 5, 6), (1.0, 1.0, 1.0)))
    with pytest.raises(GridMismatchError):
        plane.screen(np.zeros((4, 5, 7)), 0)
    with pytest.raises(GridMismatchError):
        plane.voxels(np.zeros(plane.shape_HW[::-1]))
    for index in (-1, 6):
        with pytest.raises(IndexError, match="expected 0 to 5"):
            plane.screen(np.zeros((4, 5, 6)), index)
    with pytest.raises(RecordError, match="expected auto, sagittal"):
        plane_of(plane.grid, "transversal")


def test_a_plane_comes_back_from_its_record_and_a_wrong_record_does_not() -> None:
    plane = plane_of(stored_grid(SIDES, (0.8, 1.7, 3.1)), "coronal")
    assert parse_plane(plane.to_json(), plane.grid, where="here") == plane
    for wrong in ({}, {"axis": "up"}, {"shape_HW": [5]}, {"shape_HW": [2, 300]}):
        record = plane.to_json() | wrong if wrong else wrong
        with pytest.raises(RecordError, match="here"):
            parse_plane(record, plane.grid, where="here")
