import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from imaging.model.inverse import labels_from_slabs
from imaging.resample import Resampling, from_spacing, to_spacing
from imaging.volume import Grid, grid_of

GRIDS = {
    "anisotropic": grid_of((25, 31, 9), np.diag([0.7, 0.8, 2.5, 1.0])),
    "flipped": grid_of((25, 31, 9), np.diag([-0.7, 0.8, -2.5, 1.0])),
    "turned": grid_of((9, 25, 31), np.diag([2.5, 0.7, 0.8, 1.0])[:, [2, 0, 1, 3]]),
    "one slice": grid_of((25, 31, 1), np.diag([0.7, 0.8, 2.5, 1.0])),
}
PLANNED_MM = (1.5, 1.6, 2.5)


def naive(values_KXYZ: NDArray[np.float32], back: Resampling) -> NDArray[np.intp]:
    """All values on the target grid, then the first largest."""
    for axis in (1, 2, 0):
        taps = back.taps[axis]
        share = taps.share.reshape([-1 if one == axis else 1 for one in range(3)])
        low, high = (values_KXYZ.take(which, axis + 1) for which in (taps.low, taps.high))
        values_KXYZ = low * (1 - share) + high * share
    return values_KXYZ.argmax(0)


def values_on(grid: Grid, smoothness: float) -> NDArray[np.float32]:
    random = np.random.default_rng(3)
    values = random.random((5, *to_spacing(grid, PLANNED_MM).target_XYZ))
    return np.stack([ndimage.gaussian_filter(one, smoothness) for one in values]).astype(np.float32)


@pytest.mark.parametrize("smoothness", [0.0, 2.0])
@pytest.mark.parametrize("cuts", [[], [1], [2, 3, 7]])
@pytest.mark.parametrize("name", GRIDS)
def test_streaming_equals_computing_everything(
    name: str, cuts: list[int], smoothness: float
) -> None:
    grid = GRIDS[name]
    values = values_on(grid, smoothness)
    back = from_spacing(grid, PLANNED_MM)
    found = labels_from_slabs(np.split(values, cuts, axis=1), back)
    assert found.dtype == np.uint8
    assert found.shape == grid.shape_XYZ
    assert np.array_equal(found, naive(values, back))


def test_of_equal_values_the_first_label_wins() -> None:
    grid = GRIDS["anisotropic"]
    values = np.full((3, *to_spacing(grid, PLANNED_MM).target_XYZ), 1 / 3, dtype=np.float32)
    assert not labels_from_slabs([values], from_spacing(grid, PLANNED_MM)).any()


def test_a_label_sure_everywhere_is_everywhere() -> None:
    grid = GRIDS["turned"]
    values = np.zeros((3, *to_spacing(grid, PLANNED_MM).target_XYZ), dtype=np.float16)
    values[2] = 1
    assert (labels_from_slabs([values], from_spacing(grid, PLANNED_MM)) == 2).all()


def test_without_resampling_it_is_the_largest_of_each_voxel() -> None:
    grid = GRIDS["anisotropic"]
    values = np.random.default_rng(3).random((4, *grid.shape_XYZ)).astype(np.float32)
    found = labels_from_slabs(np.split(values, [5], axis=1), from_spacing(grid, grid.spacing_mm))
    assert np.array_equal(found, values.argmax(0))
