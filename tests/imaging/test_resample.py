import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.data import MetaTensor
from monai.transforms import Spacing
from scipy.spatial.transform import Rotation

from imaging.resample import from_spacing, resample, resample_labels, to_spacing
from imaging.volume import Grid, grid_of

SPACINGS = [(1.5, 1.5, 1.5), (0.7, 1.0, 3.0), (2.0, 0.8, 2.5)]


def oblique_grid(shape: tuple[int, int, int]) -> Grid:
    affine = np.eye(4)
    turn = Rotation.from_euler("xyz", [20, -15, 30], degrees=True).as_matrix()
    affine[:3, :3] = turn * [1.0, 1.3, 2.0]
    affine[:3, 3] = [10, -20, 30]
    return grid_of(shape, affine)


@pytest.mark.parametrize("spacing_mm", SPACINGS)
def test_values_are_those_of_monais_spacing(spacing_mm: tuple[float, float, float]) -> None:
    grid = oblique_grid((17, 22, 13))
    image = np.random.default_rng(1).random(grid.shape_XYZ).astype(np.float32)
    theirs = Spacing(spacing_mm, mode="bilinear")(
        MetaTensor(torch.from_numpy(image)[None], affine=torch.from_numpy(grid.affine))
    )
    ours = resample(image, to_spacing(grid, spacing_mm))
    assert ours.shape == theirs.shape[1:]
    assert np.abs(ours - theirs[0].numpy()).max() < 1e-5


def test_the_same_spacing_changes_nothing() -> None:
    grid = oblique_grid((7, 8, 9))
    image = np.random.default_rng(1).random(grid.shape_XYZ).astype(np.float32)
    there = to_spacing(grid, grid.spacing_mm)
    assert there.target_XYZ == grid.shape_XYZ
    assert np.array_equal(resample(image, there), image)


@settings(max_examples=25, deadline=None)
@given(
    shape=st.tuples(*[st.integers(1, 12)] * 3),
    spacing_mm=st.tuples(*[st.floats(0.4, 4.0)] * 3),
    value=st.floats(-1000, 1000, width=32),
)
def test_a_constant_volume_stays_constant_there_and_back(
    shape: tuple[int, int, int], spacing_mm: tuple[float, float, float], value: float
) -> None:
    grid = grid_of(shape, np.diag([1.0, 1.0, 2.0, 1.0]))
    there = resample(np.full(shape, value, np.float32), to_spacing(grid, spacing_mm))
    back = resample(there, from_spacing(grid, spacing_mm))
    assert back.shape == shape
    assert np.allclose(there, value)
    assert np.allclose(back, value)


@pytest.mark.parametrize("spacing_mm", SPACINGS)
def test_labels_take_what_covers_most_of_a_voxel(
    spacing_mm: tuple[float, float, float],
) -> None:
    grid = oblique_grid((17, 22, 13))
    labels_XYZ = np.zeros(grid.shape_XYZ, dtype=np.uint8)
    labels_XYZ[:8, 3:15, 2:10], labels_XYZ[8:, 5:22, 4:13] = 3, 1  # up to the borders
    there = to_spacing(grid, spacing_mm)
    shares = [resample((labels_XYZ == k).astype(np.float32), there) for k in range(4)]
    found = resample_labels(labels_XYZ, there, 4)
    certain = np.sort(shares, axis=0)[-1] - np.sort(shares, axis=0)[-2] > 1e-5
    assert np.array_equal(found[certain], np.argmax(shares, axis=0)[certain])
