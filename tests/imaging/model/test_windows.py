from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.inferers import SlidingWindowInferer
from numpy.typing import NDArray

from imaging.model.windows import answer_in_slabs, window_starts

PATCHES = [(8, 8, 8), (16, 8, 12), (32, 32, 32)]


@pytest.mark.parametrize("patch_XYZ", PATCHES)
@pytest.mark.parametrize("overlap", [0.25, 0.5])
def test_blending_is_monais(patch_XYZ: tuple[int, int, int], overlap: float) -> None:
    torch.manual_seed(0)
    network = torch.nn.Conv3d(2, 3, 5, padding=2).requires_grad_(False)
    image = np.random.default_rng(0).random((2, 19, 23, 14)).astype(np.float32)
    inferer = SlidingWindowInferer(patch_XYZ, 1, overlap, mode="gaussian")
    theirs = inferer(torch.from_numpy(image)[None], network)[0].numpy()
    forward = lambda patches: network(torch.from_numpy(patches)).numpy()  # noqa: E731
    slabs = list(answer_in_slabs(image, patch_XYZ, overlap, forward))
    assert np.abs(np.concatenate(slabs, axis=1) - theirs).max() < 1e-5


def test_only_a_row_of_windows_is_held_at_a_time() -> None:
    image = np.zeros((1, 100, 8, 8), dtype=np.float32)
    slabs = list(answer_in_slabs(image, (8, 8, 8), 0.5, lambda patches: patches))
    assert max(slab.shape[1] for slab in slabs) <= 8
    assert sum(slab.shape[1] for slab in slabs) == 100


@settings(max_examples=30, deadline=None)
@given(
    sides=st.tuples(*[st.integers(1, 20)] * 3),
    overlap=st.floats(0, 0.8),
    value=st.floats(0, 1, width=32),
)
def test_a_constant_probability_stays_constant(
    sides: tuple[int, int, int], overlap: float, value: float
) -> None:
    def forward(patches: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.full_like(patches, value)

    image = np.zeros((1, *sides), dtype=np.float32)
    found = np.concatenate(list(answer_in_slabs(image, (8, 6, 7), overlap, forward)), axis=1)
    assert found.shape == (1, *sides)
    assert np.allclose(found, value, atol=1e-5)


@pytest.mark.parametrize(("length", "side"), [(5, 8), (8, 8), (9, 8), (100, 8)])
def test_windows_cover_an_axis_to_its_end(length: int, side: int) -> None:
    starts = window_starts(length, side, 0.5)
    assert starts[0] == 0
    assert max(starts) + side >= length
    assert all(later - earlier <= side for earlier, later in pairwise(starts))
