import numpy as np
import pytest

from imaging.dataset.consensus import majority_classes, majority_label_map
from imaging.errors import GridMismatchError
from imaging.labels import label_scheme

SCHEME = label_scheme(["a", "b", "c"])


def row(*values: int) -> np.ndarray[tuple[int, int], np.dtype[np.uint8]]:
    return np.array([values], dtype=np.uint8)


def test_one_annotator_is_taken_as_is() -> None:
    only_HW = row(0, 3, 1)
    assert majority_label_map([only_HW]) is only_HW
    assert majority_classes([("c", "a")], SCHEME, multi_label=True) == ("c", "a")


def test_each_pixel_is_what_most_annotators_drew() -> None:
    maps = [row(0, 1, 2, 0), row(0, 1, 2, 3), row(1, 0, 3, 0)]
    assert majority_label_map(maps).tolist() == [[0, 1, 2, 0]]


def test_a_tie_between_pixels_goes_to_the_later_label() -> None:
    assert majority_label_map([row(0, 1, 2), row(1, 2, 1)]).tolist() == [[1, 2, 2]]


def test_maps_of_different_grids_have_no_majority() -> None:
    with pytest.raises(GridMismatchError):
        majority_label_map([row(0, 1), row(0, 1, 2)])


def test_the_class_with_most_votes_wins_and_a_tie_goes_to_the_later_one() -> None:
    assert majority_classes([("a",), ("a",), ("c",)], SCHEME, multi_label=False) == ("a",)
    assert majority_classes([("b",), ("a",)], SCHEME, multi_label=False) == ("b",)


def test_with_several_classes_each_needs_half_of_the_votes() -> None:
    answers = [("a", "b"), ("b", "c"), ("b",), ("a",)]
    assert majority_classes(answers, SCHEME, multi_label=True) == ("a", "b")
    assert majority_classes([(), (), ("a",)], SCHEME, multi_label=True) == ()
