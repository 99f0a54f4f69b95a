import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from imaging.dataset.interpolate import fill_slices
from imaging.task import Fill

SHAPE = (24, 20, 17)


def ball(centre: tuple[float, ...], radius: float, index: int = 1) -> NDArray[np.uint8]:
    places = np.stack(np.indices(SHAPE), axis=-1) - np.array(centre)
    return ((places**2).sum(-1) < radius**2).astype(np.uint8) * np.uint8(index)


def overlap(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    return float(2 * (one & other).sum() / (one.sum() + other.sum()))


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("every", [2, 3, 4])
def test_a_ball_of_which_only_some_slices_were_drawn_becomes_round_again(
    axis: int, every: int
) -> None:
    whole = ball((12, 10, 8), 7.6)
    drawn = range(0, SHAPE[axis], every)
    part = np.zeros_like(whole)
    window = [slice(None)] * 3
    window[axis] = slice(0, None, every)
    part[tuple(window)] = whole[tuple(window)]
    filled, inferred = fill_slices(part, axis, drawn)
    nearest = np.take(whole, np.arange(SHAPE[axis]) // every * every, axis)
    assert overlap(filled == 1, whole == 1) > max(0.93, overlap(nearest == 1, whole == 1))
    expected = [k for k in range(max(drawn)) if k % every]
    assert list(inferred) == expected
    assert np.array_equal(filled.take(drawn, axis), whole.take(drawn, axis))


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    axis=st.integers(0, 2),
    policy=st.sampled_from(["unseen", "between"]),
)
def test_what_was_drawn_stays_and_nothing_is_added_beyond_it(
    seed: int, axis: int, policy: Fill
) -> None:
    random = np.random.default_rng(seed)
    shape = tuple(random.integers(1, 9, 3).tolist())
    labels = (random.integers(0, 4, shape) * (random.random(shape) < 0.5)).astype(np.uint8)
    before = labels.copy()
    count = int(random.integers(1, shape[axis] + 1))
    drawn = random.choice(shape[axis], count, replace=False).tolist()
    filled, inferred = fill_slices(labels, axis, drawn, policy)
    assert np.array_equal(labels, before) and filled.dtype == np.uint8
    for index in range(shape[axis]):
        new, old = filled.take(index, axis), labels.take(index, axis)
        if index in drawn:
            assert np.array_equal(new[old > 0], old[old > 0])
            assert index in inferred or np.array_equal(new, old)
        elif not min(drawn) < index < max(drawn):
            assert not new.any() and index not in inferred
        else:
            assert index in inferred
    if policy == "unseen":
        assert not set(inferred) & set(drawn)
    # Mirrored, the same comes out, but for voxels of which a blend is 0 up to rounding.
    turned, _ = fill_slices(
        np.flip(labels, axis), axis, [shape[axis] - 1 - index for index in drawn], policy
    )
    assert (np.flip(turned, axis) != filled).mean() < 0.02


def test_equal_outlines_give_the_same_outline_on_every_slice_between() -> None:
    labels = np.zeros(SHAPE, dtype=np.uint8)
    labels[3:9, 2:7, 0] = labels[3:9, 2:7, 6] = 2
    filled, inferred = fill_slices(labels, 2, (0, 6))
    assert inferred == (1, 2, 3, 4, 5)
    assert all(np.array_equal(filled[..., k], labels[..., 0]) for k in range(7))


def test_an_object_that_moves_on_is_moved_along_and_does_not_vanish() -> None:
    labels = np.zeros(SHAPE, dtype=np.uint8)
    labels[2:6, 2:6, 0] = labels[14:18, 10:14, 4] = 1
    filled, _ = fill_slices(labels, 2, (0, 4))
    for k in range(5):
        assert np.argwhere(filled[..., k]).mean(0) == pytest.approx([3.5 + 3 * k, 3.5 + 2 * k])
        assert (filled[..., k] > 0).sum() == 16


def test_a_label_on_one_of_two_slices_shrinks_towards_its_middle() -> None:
    labels = ball((12, 10, 8), 7.6)
    labels[..., [k for k in range(17) if k != 8]] = 0
    filled, _ = fill_slices(labels, 2, (4, 8, 12))
    sizes = (filled > 0).sum((0, 1)).tolist()
    assert sizes[5:9] == sorted(sizes[5:9]) and sizes[8:12] == sorted(sizes[8:12], reverse=True)
    assert 0 < sizes[5] < sizes[8] / 8 and sizes[5:8] == sizes[9:12][::-1]
    assert sizes[4] == sizes[12] == 0 and filled[12, 10, 5] == 1


def test_where_two_labels_meet_the_higher_index_wins() -> None:
    labels = np.zeros(SHAPE, dtype=np.uint8)
    labels[4:12, 4:12, 0] = labels[4:12, 4:12, 4] = 1
    labels[6:9, 6:9, 0] = labels[6:9, 6:9, 4] = 3
    labels[10:16, 6:9, 4] = 2
    filled, _ = fill_slices(labels, 2, (0, 4))
    middle = filled[..., 2]
    assert (middle[6:9, 6:9] == 3).all() and (middle[4:10, 4:6] == 1).all()
    assert (middle == 2).any() and not (middle[6:9, 6:9] == 2).any()


def test_between_fills_slices_that_were_left_empty_among_those_that_show_the_label() -> None:
    labels = np.zeros(SHAPE, dtype=np.uint8)
    for k in (3, 6):
        labels[4:12, 4:12, k] = 1
    labels[6:8, 6:14, 4] = 2  # somebody drew another label there
    shown = range(SHAPE[2])
    assert fill_slices(labels, 2, shown) == (pytest.approx(labels), ())
    filled, inferred = fill_slices(labels, 2, shown, "between")
    assert inferred == (4, 5)
    assert np.array_equal(filled[..., 5], labels[..., 3])
    assert (filled[6:8, 6:14, 4] == 2).all() and (filled[..., 4] == 1).sum() == 64 - 12
    assert not filled[..., :3].any() and not filled[..., 7:].any()


def test_distances_are_in_mm() -> None:
    labels = np.zeros(SHAPE, dtype=np.uint8)
    labels[5:16, 5:16, 0] = 1
    tall, _ = fill_slices(labels, 2, (0, 2), spacing_mm=(1.0, 10.0, 1.0))
    assert np.ptp(np.argwhere(tall[..., 1])[:, 0]) < np.ptp(np.argwhere(tall[..., 1])[:, 1])


def test_a_single_slice_or_none_fills_nothing() -> None:
    labels = ball((12, 10, 8), 5)
    filled, inferred = fill_slices(labels, 2, (8,))
    assert inferred == () and np.flatnonzero(filled.any((0, 1))).tolist() == [8]
    assert not fill_slices(labels, 2, ())[0].any()
