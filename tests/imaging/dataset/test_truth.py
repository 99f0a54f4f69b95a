"""Volumes: what people said about some slices, as one label map. Pictures are in test_snapshot."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from imaging.dataset.annotations import AnnotationRecord
from imaging.dataset.truth import Truth, truth_of
from imaging.errors import CodecError, GridMismatchError
from imaging.labelstudio.results import results_from_classes
from imaging.labelstudio.stack import results_from_label_volume
from imaging.task import AnnotationPolicy
from tests.imaging.dataset.lab import CLASSIFICATION, SEGMENTATION
from tests.imaging.dataset.volume_lab import SIDES, drawn_volume, volume_record

CASE = volume_record()
EVERY = tuple(range(SIDES[2]))
BETWEEN = replace(SEGMENTATION, annotation=AnnotationPolicy(fill="between"))


def said(
    labels_XYZ: NDArray[np.uint8],
    items: Sequence[int] | None = EVERY,
    who: str = "3",
    **fields: Any,
) -> AnnotationRecord:
    """What somebody drew on the slices that they were shown."""
    assert CASE.volume is not None
    results: list[Mapping[str, Any]] = list(
        results_from_label_volume(
            labels_XYZ, SEGMENTATION.scheme, CASE.volume.plane, EVERY if items is None else items
        )
    )
    shown = None if items is None else tuple(items)
    when = "2026-03-14T09:15:02.123456Z"
    record = AnnotationRecord(CASE.case, f"1-{who}", "label_studio", who, when, tuple(results))
    return replace(record, items=shown, **fields)


def labels_of(truth: Truth) -> NDArray[np.uint8]:
    assert truth.labels_XYZ is not None and truth.labels_HW is None and truth.classes is None
    return truth.labels_XYZ


def test_where_every_slice_was_shown_the_truth_is_what_was_drawn() -> None:
    truth = truth_of([said(drawn_volume())], CASE, SEGMENTATION)
    assert np.array_equal(labels_of(truth), drawn_volume())
    assert truth.present == ("lv", "scar") and truth.interpolated == ()


def test_an_empty_answer_says_that_nothing_is_there() -> None:
    truth = truth_of([said(np.zeros(SIDES, dtype=np.uint8))], CASE, SEGMENTATION)
    assert not labels_of(truth).any() and truth.present == ()


def test_slices_that_were_not_shown_are_filled_from_their_neighbours_and_named() -> None:
    truth = truth_of([said(drawn_volume(), (11, 4, 7, 0))], CASE, SEGMENTATION)
    labels_XYZ = labels_of(truth)
    assert truth.interpolated == (1, 2, 3, 5, 6, 8, 9, 10)
    for index in (0, 4, 7, 11):
        assert np.array_equal(labels_XYZ[..., index], drawn_volume()[..., index])
    assert (labels_XYZ[1:3, 1:4, 5:7] > 0).all()


def test_slices_that_were_not_shown_are_those_of_the_label_map_that_came_with_the_volume() -> None:
    base_XYZ = drawn_volume(first=1, last=10)
    before = base_XYZ.copy()
    truth = truth_of([said(drawn_volume(), (0, 4, 7, 11))], CASE, BETWEEN, base_XYZ)
    labels_XYZ = labels_of(truth)
    assert truth.interpolated == () and np.array_equal(base_XYZ, before)
    for index in EVERY:
        expected = drawn_volume() if index in (0, 4, 7, 11) else base_XYZ
        assert np.array_equal(labels_XYZ[..., index], expected[..., index])


def test_an_imported_label_map_is_the_truth_as_it_is() -> None:
    record = AnnotationRecord(
        CASE.case, "import-0123456789ab", "import", "import", "2026-01-01T00:00:00Z", (),
        label_map="import-0123456789ab.nii.gz", label_map_sha256="ab",
    )  # fmt: skip
    truth = truth_of([record], CASE, BETWEEN, drawn_volume())
    assert np.array_equal(labels_of(truth), drawn_volume()) and truth.interpolated == ()
    with pytest.raises(CodecError, match="label map that was not read"):
        truth_of([record], CASE, BETWEEN)


def test_imported_results_are_about_all_slices_in_order() -> None:
    truth = truth_of([said(drawn_volume(), None, origin="import")], CASE, SEGMENTATION)
    assert np.array_equal(labels_of(truth), drawn_volume())


def test_the_task_may_have_slices_filled_that_were_left_empty() -> None:
    sparse = drawn_volume()
    sparse[..., 5] = 0
    filled = truth_of([said(sparse)], CASE, BETWEEN)
    assert filled.interpolated == (5,) and labels_of(filled)[..., 5].any()
    left = truth_of([said(sparse)], CASE, SEGMENTATION)
    assert left.interpolated == () and not labels_of(left)[..., 5].any()


def test_several_answers_are_completed_each_and_put_together_by_majority() -> None:
    one, two = drawn_volume(last=6), drawn_volume(last=8)
    answers = [said(one), said(two, who="4"), said(two, (0, 4, 7, 11), who="5")]
    truth = truth_of(answers, CASE, SEGMENTATION)
    assert truth.interpolated == ()  # others saw those slices
    assert np.array_equal(labels_of(truth)[..., 7], two[..., 7])
    alone = truth_of(answers[2:], CASE, SEGMENTATION)
    assert alone.interpolated != ()
    both = truth_of([answers[2], replace(answers[2], items=(0, 4, 7, 10))], CASE, SEGMENTATION)
    assert both.interpolated == (1, 2, 3, 5, 6, 8, 9)


def test_a_class_of_a_volume_is_chosen_for_all_of_it() -> None:
    results = tuple(results_from_classes(["normal"]))
    truth = truth_of([replace(said(drawn_volume()), results=results)], CASE, CLASSIFICATION)
    assert truth.classes == ("normal",) and truth.labels_XYZ is None


def test_an_answer_that_does_not_say_what_was_shown_or_shows_another_volume_is_refused() -> None:
    with pytest.raises(CodecError, match="does not say which slices"):
        truth_of([said(drawn_volume(), None)], CASE, SEGMENTATION)
    with pytest.raises(CodecError, match="shows slice 12, expected 0 to 11"):
        truth_of([replace(said(drawn_volume()), items=(*EVERY, 12))], CASE, SEGMENTATION)
    with pytest.raises(GridMismatchError):
        truth_of([said(drawn_volume(), (0, 4))], CASE, SEGMENTATION, drawn_volume()[1:])
