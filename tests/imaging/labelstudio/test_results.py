import json
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from imaging.errors import CodecError, GridMismatchError
from imaging.labels import LabelScheme, label_scheme
from imaging.labelstudio import results as results_module
from imaging.labelstudio.bitmask import encode_bitmask
from imaging.labelstudio.brush import encode_rle
from imaging.labelstudio.results import (
    boxes_from_results,
    classes_from_results,
    label_map_from_results,
    results_from_boxes,
    results_from_classes,
    results_from_label_map,
)
from imaging.labelstudio.shapes import Box
from tests.imaging.labelstudio.rle_pack import browser_encode

SHAPE = (20, 30)  # rows, columns
SCHEME = label_scheme(["kidney", "tumour", "cyst"])


def region(kind: str, label: str = "kidney", **value: Any) -> dict[str, Any]:
    """A region as Label Studio stores it."""
    return {
        "id": "Tu5xyz",
        "type": f"{kind}labels",
        "from_name": kind,
        "to_name": "image",
        "original_width": SHAPE[1],
        "original_height": SHAPE[0],
        "image_rotation": 0,
        "origin": "manual",
        "value": {f"{kind}labels": [label], **value},
    }


def window(top: int, bottom: int, left: int, right: int) -> npt.NDArray[np.bool_]:
    mask_HW = np.zeros(SHAPE, dtype=bool)
    mask_HW[top:bottom, left:right] = True
    return mask_HW


def brush(mask_HW: npt.NDArray[np.bool_], label: str = "kidney") -> dict[str, Any]:
    return region("brush", label, format="rle", rle=encode_rle(mask_HW))


def rectangle(
    top: int, bottom: int, left: int, right: int, label: str = "kidney"
) -> dict[str, Any]:
    height, width = SHAPE
    return region(
        "rectangle",
        label,
        x=100 * left / width,
        y=100 * top / height,
        width=100 * (right - left) / width,
        height=100 * (bottom - top) / height,
        rotation=0,
    )


@given(
    arrays(np.uint8, array_shapes(min_dims=2, max_dims=2, max_side=24), elements=st.integers(0, 3))
)
def test_a_label_map_comes_back_as_it_was(labels_HW: npt.NDArray[np.uint8]) -> None:
    results = json.loads(json.dumps(results_from_label_map(labels_HW, SCHEME)))
    back_HW = label_map_from_results(results, SCHEME, labels_HW.shape)
    assert np.array_equal(back_HW, labels_HW)
    assert results_from_label_map(back_HW, SCHEME) == results


def test_a_label_map_gives_one_brush_region_for_each_label_it_holds() -> None:
    labels_HW = np.zeros(SHAPE, dtype=np.uint8)
    labels_HW[2:5, 3:9], labels_HW[8:10, 20:22] = 3, 1
    results = results_from_label_map(labels_HW, SCHEME)
    assert [result["value"]["brushlabels"] for result in results] == [["kidney"], ["cyst"]]
    for result in results:
        assert result["type"] == "brushlabels"
        assert (result["from_name"], result["to_name"]) == ("label", "image")
        assert (result["original_width"], result["original_height"]) == (30, 20)
        assert result["image_rotation"] == 0
    assert len({result["id"] for result in results}) == 2


def test_the_same_prediction_is_the_same_to_the_byte_and_another_is_not() -> None:
    labels_HW = window(3, 9, 4, 12).astype(np.uint8)
    first, second = (json.dumps(results_from_label_map(labels_HW, SCHEME)) for _ in range(2))
    assert first == second
    labels_HW[0, 0] = 1
    other = results_from_label_map(labels_HW, SCHEME)
    assert other[0]["id"] != json.loads(first)[0]["id"]


def test_nothing_predicted_is_no_region_and_reads_as_background() -> None:
    assert results_from_label_map(np.zeros(SHAPE, dtype=np.uint8), SCHEME) == []
    assert not label_map_from_results([], SCHEME, SHAPE).any()


@pytest.mark.parametrize(
    ("array", "reason"),
    [
        (np.zeros(SHAPE, dtype=np.int64), "int64"),
        (np.zeros((3, 4, 5), dtype=np.uint8), "expected a uint8 H×W map"),
        (np.zeros((0, 5), dtype=np.uint8), "expected a uint8 H×W map"),
        (np.full(SHAPE, 4, dtype=np.uint8), "holds 4, the task has 3"),
    ],
)
def test_what_is_no_label_map_of_the_task_is_not_written(
    array: npt.NDArray[np.uint8], reason: str
) -> None:
    with pytest.raises(CodecError, match=reason):
        results_from_label_map(array, SCHEME)


def test_regions_of_one_label_add_up() -> None:
    results = [brush(window(0, 5, 0, 5)), brush(window(3, 8, 3, 8))]
    expected = (window(0, 5, 0, 5) | window(3, 8, 3, 8)).astype(np.uint8)
    assert np.array_equal(label_map_from_results(results, SCHEME, SHAPE), expected)


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
def test_the_label_with_the_higher_index_wins_in_whatever_order_people_draw(
    order: tuple[int, ...],
) -> None:
    drawn = [
        brush(window(2, 12, 2, 20), "kidney"),
        rectangle(4, 10, 6, 14, "tumour"),
        brush(window(6, 16, 10, 24), "cyst"),
    ]
    expected = np.zeros(SHAPE, dtype=np.uint8)
    expected[2:12, 2:20], expected[4:10, 6:14], expected[6:16, 10:24] = 1, 2, 3
    results = [drawn[place] for place in order]
    assert np.array_equal(label_map_from_results(results, SCHEME, SHAPE), expected)


def test_every_kind_of_region_may_be_mixed_in_one_answer() -> None:
    results = [
        brush(window(0, 3, 0, 3)),
        region("bitmask", "tumour", imageDataURL=encode_bitmask(window(0, 3, 6, 9))),
        rectangle(0, 3, 12, 15, "cyst"),
        region("polygon", "kidney", points=[[60, 0], [70, 0], [70, 15], [60, 15]], closed=True),
        region("ellipse", "tumour", x=80, y=50, radiusX=10, radiusY=15, rotation=0),
        region("keypoint", "cyst", x=15, y=75, width=5),
    ]
    labels_HW = label_map_from_results(results, SCHEME, SHAPE)
    at = [(1, 1), (1, 7), (1, 13), (1, 19), (10, 24), (15, 4)]
    assert [int(labels_HW[row, column]) for row, column in at] == [1, 2, 3, 1, 2, 3]
    assert labels_HW[18, 29] == 0


def test_an_antialiased_stroke_keeps_only_what_is_mostly_covered() -> None:
    alpha_HW = np.zeros(SHAPE, dtype=np.uint8)
    alpha_HW[5, 4:9] = [40, 127, 128, 255, 90]
    rle = browser_encode(np.repeat(alpha_HW.ravel(), 4).tolist())
    labels_HW = label_map_from_results([region("brush", format="rle", rle=rle)], SCHEME, SHAPE)
    assert np.argwhere(labels_HW).tolist() == [[5, 6], [5, 7]]


def test_a_region_with_two_labels_takes_the_one_that_wins() -> None:
    result = brush(window(0, 3, 0, 3), "tumour")
    result["value"]["brushlabels"] = ["tumour", "kidney"]
    assert set(np.unique(label_map_from_results([result], SCHEME, SHAPE))) == {0, 2}


def test_comments_relations_and_other_entries_without_a_region_change_nothing() -> None:
    others: list[dict[str, Any]] = [
        {"type": "relation", "from_id": "a", "to_id": "b", "direction": "right"},
        {"type": "textarea", "from_name": "note", "value": {"text": ["blurred"]}},
        {"type": "choices", "from_name": "quality", "value": {"choices": ["good"]}},
    ]
    drawn = [brush(window(2, 5, 2, 5))]
    expected = label_map_from_results(drawn, SCHEME, SHAPE)
    assert np.array_equal(label_map_from_results(others + drawn, SCHEME, SHAPE), expected)


def test_many_small_regions_on_a_large_picture_take_no_grid_each() -> None:
    shape_HW = (3000, 4000)
    cells = []
    for number in range(2000):
        x, y = 1 + number % 50, 1 + number // 50
        cell = region("polygon", points=[[x, y], [x + 0.2, y], [x + 0.2, y + 0.2]])
        cells.append(cell | {"original_height": 3000, "original_width": 4000})
    labels_HW = label_map_from_results(cells, SCHEME, shape_HW)
    assert labels_HW.sum() == pytest.approx(2000 * 8 * 6 / 2, rel=0.2)


def changed(**changes: Any) -> dict[str, Any]:
    return brush(window(0, 3, 0, 3)) | changes


def changed_value(**changes: Any) -> dict[str, Any]:
    result = brush(window(0, 3, 0, 3))
    result["value"] |= changes
    return result


HOSTILE: dict[str, tuple[dict[str, Any], str]] = {
    "no type": ({}, "kind is unknown"),
    "another type": (changed(type="videorectangle"), "kind is unknown"),
    "a type that is a list": (changed(type=["brushlabels"]), "kind is unknown"),
    "a brush without labels": (changed(type="brush"), "kind is unknown"),
    "no value": (changed(value=None), "value is NoneType"),
    "a value that is a list": (changed(value=[1]), "value is list"),
    "no label": (changed_value(brushlabels=[]), "expected a list with a label"),
    "labels missing": (changed_value(brushlabels=None), "expected a list with a label"),
    "a label as text": (changed_value(brushlabels="kidney"), "expected a list with a label"),
    "an unknown label": (changed_value(brushlabels=["liver"]), "expected one of kidney, tumour"),
    "a label that is a number": (changed_value(brushlabels=[1]), "expected one of kidney"),
    "a label that is a list": (changed_value(brushlabels=[["kidney"]]), "expected one of kidney"),
    "no width": (changed(original_width=None), "original_width is None"),
    "width as text": (changed(original_width="30"), "original_width is '30'"),
    "width NaN": (changed(original_width=float("nan")), "original_width is nan"),
    "a turned picture": (changed(image_rotation=90), "turned by 90"),
    "another picture of the task": (changed(item_index=3), "item_index is 3"),
    "a click for a model": (changed(is_positive=True), "interactive model"),
    "another format": (changed_value(format="png"), "format is 'png'"),
    "no format": (changed_value(format=None), "format is None"),
    "RLE missing": (changed_value(rle=None), "expected a list"),
    "RLE of another picture": (
        changed_value(rle=encode_rle(np.ones((4, 4), bool))),
        "for 64 bytes",
    ),
    "a bitmask by address": (
        region("bitmask", imageDataURL="http://example.org/mask.png"),
        "imageDataURL",
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_broken_region_is_refused_and_named(name: str) -> None:
    result, reason = HOSTILE[name]
    with pytest.raises(CodecError, match=reason) as caught:
        label_map_from_results([brush(window(0, 2, 0, 2)), result], SCHEME, SHAPE)
    assert str(caught.value).startswith("region 2 (")


@pytest.mark.parametrize("shape", [(30, 20), (20, 31), (40, 60)])
def test_a_region_drawn_on_a_picture_of_another_size_does_not_fit(shape: tuple[int, int]) -> None:
    result = rectangle(0, 3, 0, 3) | {"original_height": shape[0], "original_width": shape[1]}
    with pytest.raises(GridMismatchError) as caught:
        label_map_from_results([result], SCHEME, SHAPE)
    assert (caught.value.expected, caught.value.found) == (SHAPE, shape)


def test_a_label_that_a_region_repeats_is_drawn_once() -> None:
    repeated = rectangle(2, 9, 3, 12)
    repeated["value"]["rectanglelabels"] = ["kidney", "tumour"] * 1000
    assert [box.label for box in boxes_from_results([repeated], SCHEME, SHAPE)] == [
        "kidney",
        "tumour",
    ]


def test_regions_that_cover_the_picture_more_often_than_anybody_draws_are_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(results_module, "MAX_COVERED", 0)
    whole = rectangle(0, SHAPE[0], 0, SHAPE[1])
    most = results_module.MAX_WHOLE_PICTURES
    assert label_map_from_results([whole] * most, SCHEME, SHAPE).all()
    with pytest.raises(CodecError, match=f"number {most + 1} cover pictures of 30"):
        label_map_from_results([whole] * (most + 9), SCHEME, SHAPE)


def test_a_thousand_small_regions_are_no_burden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results_module, "MAX_COVERED", 0)
    cells = [rectangle(row, row + 2, row, row + 2) for row in range(18)] * 60
    assert label_map_from_results(cells, SCHEME, SHAPE).any()


def test_an_answer_with_too_many_entries_is_refused() -> None:
    with pytest.raises(CodecError, match="30000 entries"):
        label_map_from_results([{"type": "relation"}] * 30_000, SCHEME, SHAPE)


# --- classes ----------------------------------------------------------------------------------


def choice(*names: Any, control: str = "label") -> dict[str, Any]:
    value = {"choices": list(names)}
    return {"type": "choices", "from_name": control, "to_name": "image", "value": value}


@given(st.sets(st.sampled_from(SCHEME.names)))
def test_classes_come_back_as_they_were(names: set[str]) -> None:
    expected = tuple(name for name in SCHEME.names if name in names)
    results = json.loads(json.dumps(results_from_classes(sorted(names))))
    assert classes_from_results(results, SCHEME) == expected


def test_choices_of_several_entries_are_joined_in_the_order_of_the_scheme() -> None:
    results = [choice("cyst"), choice("kidney", "cyst")]
    assert classes_from_results(results, SCHEME) == ("kidney", "cyst")


def test_choices_of_other_controls_do_not_count() -> None:
    results = [choice("good", control="quality"), choice("tumour")]
    assert classes_from_results(results, SCHEME) == ("tumour",)


@pytest.mark.parametrize(
    "result",
    [
        choice("liver"),
        choice(),
        choice(3),
        choice(["kidney", "cyst"]),
        {"type": "choices", "value": {"choices": "kidney"}},
        {"type": "choices", "from_name": "label"},
    ],
)
def test_an_unknown_or_malformed_choice_is_refused(result: dict[str, Any]) -> None:
    with pytest.raises(CodecError):
        classes_from_results([result], SCHEME)


@pytest.mark.parametrize(
    "results", [[], [choice("kidney", "cyst")], [choice("kidney"), choice("cyst")]]
)
def test_exactly_one_class_must_be_chosen_where_only_one_can_hold(
    results: list[dict[str, Any]],
) -> None:
    assert len(classes_from_results(results, SCHEME)) != 1
    with pytest.raises(CodecError, match="exactly one"):
        classes_from_results(results, SCHEME, multi_label=False)
    assert classes_from_results([choice("cyst")], SCHEME, multi_label=False) == ("cyst",)


def test_a_prediction_of_classes_carries_the_score_of_its_least_certain() -> None:
    scores = {"kidney": 0.9, "cyst": 0.6123456789, "tumour": 0.1}
    (result,) = results_from_classes(["kidney", "cyst"], scores)
    assert result["score"] == 0.612346
    assert "score" not in results_from_classes(["kidney"])[0]
    assert results_from_classes([], scores) == []
    assert results_from_classes(["kidney"], scores) == results_from_classes(["kidney"], scores)
    assert results_from_classes(["kidney"])[0]["id"] != results_from_classes(["cyst"])[0]["id"]


@pytest.mark.parametrize("scores", [{}, {"kidney": 1.5}, {"kidney": float("nan")}])
def test_a_chosen_class_needs_a_score_between_0_and_1(scores: dict[str, float]) -> None:
    with pytest.raises(CodecError, match="expected 0 to 1"):
        results_from_classes(["kidney"], scores)


# --- boxes ------------------------------------------------------------------------------------


def test_boxes_come_back_as_they_were() -> None:
    boxes = (Box("tumour", 3, 2, 17.5, 11), Box("cyst", 0, 0, 30, 20), Box("cyst", 0, 0, 30, 20))
    results = json.loads(json.dumps(results_from_boxes(boxes, SHAPE)))
    assert boxes_from_results(results, SCHEME, SHAPE) == boxes
    assert len({result["id"] for result in results}) == 3


def test_a_box_covers_the_same_pixels_as_a_mask_and_as_a_box() -> None:
    results = results_from_boxes([Box("tumour", 3, 2, 17, 11)], SHAPE)
    labels_HW = label_map_from_results(results, SCHEME, SHAPE)
    assert np.array_equal(labels_HW, window(2, 11, 3, 17) * 2)


def test_where_boxes_are_wanted_other_regions_are_refused() -> None:
    with pytest.raises(CodecError, match=r"region 1 \(brushlabels\).*only rectangles"):
        boxes_from_results([brush(window(0, 3, 0, 3))], SCHEME, SHAPE)


def test_the_scheme_decides_which_index_a_label_has(scheme: LabelScheme) -> None:
    turned = label_scheme(scheme.names[::-1])
    result = [brush(window(0, 3, 0, 3), "cyst")]
    assert label_map_from_results(result, scheme, SHAPE).max() == 3
    assert label_map_from_results(result, turned, SHAPE).max() == 1
