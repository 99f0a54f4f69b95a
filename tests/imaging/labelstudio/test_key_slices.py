import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from imaging.labelstudio.key_slices import key_slices, unsure_slices


@given(count=st.integers(1, 2000), most=st.integers(2, 300))
def test_key_slices_are_evenly_spread_from_the_first_to_the_last(count: int, most: int) -> None:
    chosen = key_slices(count, most)
    assert len(chosen) == min(count, most)
    assert (chosen[0], chosen[-1]) == (0, count - 1)
    if len(chosen) > 1:
        steps = set(np.diff(chosen).tolist())
        assert min(steps) > 0 and max(steps) - min(steps) <= 1


def test_a_volume_without_slices_or_a_task_of_one_makes_no_sense() -> None:
    for count, most in ((0, 5), (5, 1)):
        with pytest.raises(ValueError, match="expected at least"):
            key_slices(count, most)


def test_the_least_sure_slices_come_first_and_no_two_neighbours() -> None:
    sureness = np.array([0.1, 0.9, 0.2, 0.21, 0.22, 0.9, np.nan, 0.3, 0.0])
    assert unsure_slices(sureness, shown=(0, 8), most=2) == (2, 4)
    assert unsure_slices(sureness, shown=(0, 8), most=9) == (2, 4, 7)
    assert unsure_slices(sureness, shown=range(9), most=3) == ()
