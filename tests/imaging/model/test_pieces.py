import json
import math

import numpy as np
import pytest
import torch
from monai.transforms import KeepLargestConnectedComponent

from imaging.errors import RecordError
from imaging.labels import label_scheme
from imaging.model.cleaning import Cleaning, parse_cleanings
from imaging.model.pieces import choose_cleanings, clean, cleaned

SCHEME = label_scheme(["a", "b"])


def two_balls(small: int = 2) -> np.ndarray:
    mask = np.zeros((20, 18, 16), dtype=bool)
    mask[2:10, 2:10, 2:10] = True
    mask[14 : 14 + small, 12 : 12 + small, 10 : 10 + small] = True
    return mask


def test_the_largest_piece_stays() -> None:
    found = cleaned(two_balls(), Cleaning(pieces=1), 1.0)
    assert found.sum() == 8**3
    assert cleaned(two_balls(), Cleaning(pieces=2), 1.0).sum() == 8**3 + 2**3


def test_pieces_are_those_of_monai() -> None:
    mask = np.random.default_rng(0).random((12, 12, 12)) > 0.85
    theirs = KeepLargestConnectedComponent()(torch.from_numpy(mask[None].astype(np.float32)))[0]
    ours = cleaned(mask, Cleaning(pieces=1), 1.0)
    assert np.array_equal(ours, theirs.numpy() > 0)


def test_small_pieces_go_by_their_volume_in_mm3() -> None:
    assert cleaned(two_balls(), Cleaning(min_size_mm3=10), 1.0).sum() == 8**3
    assert cleaned(two_balls(), Cleaning(min_size_mm3=10), 2.0).sum() == 8**3 + 2**3
    assert not cleaned(two_balls(), Cleaning(min_size_mm3=10_000), 1.0).any()


def test_holes_are_filled_but_never_with_what_is_another_label() -> None:
    labels_XYZ = np.zeros((12, 12, 12), dtype=np.uint8)
    labels_XYZ[2:10, 2:10, 2:10] = 1
    labels_XYZ[4, 4, 4], labels_XYZ[6, 6, 6] = 0, 2
    clean(labels_XYZ, {"a": Cleaning(fill_holes=True)}, SCHEME, 1.0)
    assert labels_XYZ[4, 4, 4] == 1
    assert labels_XYZ[6, 6, 6] == 2


def test_labels_without_a_cleaning_stay_as_they_are() -> None:
    labels_XYZ = two_balls().astype(np.uint8) * 2
    before = labels_XYZ.copy()
    clean(labels_XYZ, {"a": Cleaning(pieces=1)}, SCHEME, 1.0)
    assert np.array_equal(labels_XYZ, before)


def test_what_helps_on_validation_cases_is_chosen_and_nothing_else() -> None:
    truth = np.zeros((20, 18, 16), dtype=np.uint8)
    truth[2:10, 2:10, 2:10] = 1
    truth[12:18, 10:14, 10:14] = 2
    answer = truth.copy()
    answer[2:5, 14:17, 2:6] = 1  # a stray piece
    assert choose_cleanings([(truth, answer, 1.0)] * 2, SCHEME) == {"a": Cleaning(pieces=1)}
    assert choose_cleanings([(truth, truth, 1.0)] * 2, SCHEME) == {}


def test_a_step_that_harms_as_many_cases_as_it_helps_is_not_taken() -> None:
    whole = np.zeros((20, 18, 16), dtype=np.uint8)
    whole[2:10, 2:10, 2:10] = 1
    stray = whole.copy()
    stray[14:18, 12:16, 10:14] = 1
    both = [(whole, stray, 1.0), (stray, stray, 1.0)]
    assert choose_cleanings(both, SCHEME).get("a", Cleaning()).pieces != 1


def test_an_answer_about_what_is_not_there_counts() -> None:
    empty = np.zeros((8, 8, 8), dtype=np.uint8)
    ghost = empty.copy()
    ghost[2, 2, 2] = 1
    solid = empty.copy()
    solid[1:6, 1:6, 1:6] = 1
    found = choose_cleanings([(empty, ghost, 1.0), (solid, solid, 1.0)], SCHEME)
    assert found["a"].min_size_mm3 == pytest.approx(125 / 2)


def test_cleanings_come_back_from_json_and_say_what_they_do() -> None:
    chosen = {"a": Cleaning(3.5, 2, True)}
    record = json.loads(json.dumps({name: one.to_json() for name, one in chosen.items()}))
    assert parse_cleanings(record, where="labloop.json") == chosen
    assert str(chosen["a"]).endswith("the largest 2 piece(s) stay, holes are filled")
    with pytest.raises(RecordError, match="postprocessing"):
        parse_cleanings({"a": {"pieces": math.nan}}, where="labloop.json")
