import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from imaging.errors import CodecError, GridMismatchError, UnsafeNameError
from imaging.labels import label_scheme
from imaging.labelstudio import stack as stack_module
from imaging.labelstudio.bitmask import encode_bitmask
from imaging.labelstudio.plane import AXES, Plane, plane_of
from imaging.labelstudio.results import brush_result
from imaging.labelstudio.stack import (
    items_of,
    label_volume_from_results,
    results_from_label_volume,
    slice_url,
)
from imaging.volume import to_ras
from tests.imaging.labelstudio.test_plane import SIDES, all_grids, oblique_grid, stored_grid

SCHEME = label_scheme(["kidney", "tumour", "cyst"])
CASE = "case-7c1e9a0b12cd34ef"
# Small on screen too, so that places are easily said: 4 × 5 voxels, 205 × 256 pixels.
PLANE = plane_of(stored_grid((5, 4, 6), (1.0, 1.0, 3.0)))


def region(kind: str, item: Any, label: str = "kidney", **value: Any) -> dict[str, Any]:
    """A region on one slice, as Label Studio stores it."""
    height, width = PLANE.shape_HW
    return {
        "id": "Tu5xyz",
        "type": f"{kind}labels",
        "from_name": kind,
        "to_name": "image",
        "original_width": width,
        "original_height": height,
        "image_rotation": 0,
        "item_index": item,
        "value": {f"{kind}labels": [label], **value},
    }


def rectangle(item: Any, label: str = "kidney", **place: float) -> dict[str, Any]:
    whole = {"x": 0, "y": 0, "width": 100, "height": 100, "rotation": 0}
    return region("rectangle", item, label, **(whole | place))


def decoded(*results: dict[str, Any], items: tuple[int, ...] = (0, 2, 5)) -> NDArray[np.uint8]:
    return label_volume_from_results(results, SCHEME, PLANE, items)


def goes_round(labels_XYZ: NDArray[np.uint8], plane: Plane) -> bool:
    """Whether a label map passes through Label Studio, as JSON, bit by bit."""
    items = range(plane.count)
    results = json.loads(json.dumps(results_from_label_volume(labels_XYZ, SCHEME, plane, items)))
    back_XYZ = label_volume_from_results(results, SCHEME, plane, items)
    return back_XYZ.dtype == np.uint8 and np.array_equal(back_XYZ, labels_XYZ)


def test_a_label_map_goes_through_label_studio_bit_by_bit_however_its_file_stores_it() -> None:
    random = np.random.default_rng(0)
    stored = (random.integers(0, 12, SIDES) % 4 * (random.random(SIDES) < 0.1)).astype(np.uint8)
    stored[2:5, 1:3, 4:9] = 2  # no symmetry
    for place, grid in enumerate(all_grids()):
        assert goes_round(to_ras(stored, grid), plane_of(grid, AXES[place % 3]))


@settings(max_examples=40)
@given(seed=st.integers(0, 2**32 - 1))
def test_a_label_map_goes_through_label_studio_bit_by_bit_on_any_oblique_grid(seed: int) -> None:
    random = np.random.default_rng(seed)
    sides = tuple(random.integers(1, 9, 3).tolist())
    grid = oblique_grid(random, sides)
    labels_XYZ = (random.integers(0, 4, grid.shape_XYZ) * (random.random() < 0.9)).astype(np.uint8)
    assert goes_round(labels_XYZ, plane_of(grid, random.choice([*AXES, "auto"])))


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=40)
def test_where_regions_overlap_the_higher_label_wins_in_whatever_order_they_come(seed: int) -> None:
    random = np.random.default_rng(seed)
    grid = oblique_grid(random, tuple(random.integers(2, 7, 3).tolist()))
    plane = plane_of(grid)
    masks = random.random((3, *grid.shape_XYZ)) < 0.4
    results = [
        brush_result(label, plane.screen(masks[label.index - 1], index), index)
        for label in SCHEME.labels
        for index in range(plane.count)
    ]
    random.shuffle(results)
    expected = np.zeros(grid.shape_XYZ, dtype=np.uint8)
    for label in SCHEME.labels:
        expected[masks[label.index - 1]] = label.index
    found = label_volume_from_results(results, SCHEME, plane, range(plane.count))
    assert np.array_equal(found, expected)


def test_a_region_lies_on_the_slice_that_its_picture_shows() -> None:
    labels_XYZ = decoded(rectangle(1), rectangle(2, "cyst"))
    assert [labels_XYZ[..., index].max() for index in range(6)] == [0, 0, 1, 0, 0, 3]
    assert labels_XYZ[..., 2].all() and labels_XYZ[..., 5].all()


def test_slices_that_are_not_shown_are_left_out_of_what_label_studio_gets() -> None:
    labels_XYZ = np.full((5, 4, 6), 2, dtype=np.uint8)
    results = results_from_label_volume(labels_XYZ, SCHEME, PLANE, (5, 1))
    assert [result["item_index"] for result in results] == [0, 1]
    assert results[0]["value"] == results[1]["value"] and results[0]["id"] != results[1]["id"]
    back_XYZ = label_volume_from_results(results, SCHEME, PLANE, (5, 1))
    assert np.flatnonzero(back_XYZ.any((0, 1))).tolist() == [1, 5]


def test_regions_of_every_kind_cover_the_voxels_of_which_they_fill_half() -> None:
    mask_HW = PLANE.screen(np.arange(120).reshape(5, 4, 6) == 6 * (3 * 4 + 1), 0)  # voxel 3, 1
    height, width = PLANE.shape_HW
    y, x = (100 * (place.mean() + 0.5) for place in np.nonzero(mask_HW))
    y, x = y / height, x / width  # the voxel's centre, in percent
    points = [[x - 9, y - 9], [x + 9, y - 9], [x + 9, y + 9], [x - 9, y + 9]]
    regions = (
        brush_result(SCHEME.labels[0], mask_HW, 0),
        region("bitmask", 0, imageDataURL=encode_bitmask(mask_HW)),
        region("polygon", 0, points=points, closed=True),
        region("ellipse", 0, x=x, y=y, radiusX=9, radiusY=9, rotation=0),
        rectangle(0, x=x - 9, y=y - 9, width=18, height=18),
        region("keypoint", 0, x=x, y=y, width=9),
    )
    for one in regions:
        found = decoded(one)
        assert np.argwhere(found).tolist() == [[3, 1, 0]], one["type"]
    corner = decoded(region("keypoint", 0, x=0.5, y=0.5, width=0.5))  # patient's right, in front
    assert not corner.any()


def test_a_stroke_between_two_rows_of_voxels_is_not_lost() -> None:
    height, width = PLANE.shape_HW
    mask_HW = np.zeros((height, width), dtype=bool)
    edge, half = height // 4, height // 8  # rows of pixels up to the second row of four voxels
    mask_HW[edge - half : edge + half] = True
    found = decoded(brush_result(SCHEME.labels[0], mask_HW, 0))
    assert found[:, 2:, 0].all() and not found[:, :2].any()


@pytest.mark.parametrize("item", [3, -1, 1.0, "1", True, None, [0]])
def test_a_region_on_no_slice_of_the_task_is_refused_and_named(item: Any) -> None:
    with pytest.raises(CodecError, match=r"^region 2 \(rectanglelabels\): item_index is"):
        decoded(rectangle(0), rectangle(item))


def test_a_region_without_a_slice_is_refused_unless_there_is_only_one() -> None:
    result = rectangle(0)
    del result["item_index"]
    with pytest.raises(CodecError, match="item_index is None, expected 0 to 2"):
        decoded(result)
    assert decoded(result, items=(3,))[..., 3].all()


def test_a_region_drawn_on_slices_of_another_size_does_not_fit() -> None:
    with pytest.raises(GridMismatchError):
        decoded(rectangle(0) | {"original_width": 100})


def test_entries_without_a_region_are_passed_over() -> None:
    assert not decoded({"type": "choices", "value": {"choices": ["good"]}}).any()


def test_regions_that_cover_the_slices_more_often_than_anybody_draws_are_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(stack_module, "MAX_COVERED", 0)
    most = stack_module.MAX_WHOLE_PICTURES
    spread = [rectangle(place % 3) for place in range(most)]
    assert decoded(*spread).any()
    with pytest.raises(CodecError, match="more often than anybody draws"):
        decoded(*spread, rectangle(2))


def test_a_task_that_shows_slices_of_another_volume_is_refused() -> None:
    with pytest.raises(CodecError, match="shows slice 6, expected 0 to 5"):
        decoded(items=(0, 6))
    with pytest.raises(CodecError, match="shows slice 6"):
        results_from_label_volume(np.zeros((5, 4, 6), dtype=np.uint8), SCHEME, PLANE, (6,))


def test_what_is_no_label_map_of_the_volume_is_refused() -> None:
    with pytest.raises(CodecError, match="uint8"):
        results_from_label_volume(np.zeros((5, 4, 6)), SCHEME, PLANE, (0,))  # type: ignore[arg-type]
    with pytest.raises(CodecError, match="holds 4, the task has 3"):
        results_from_label_volume(np.full((5, 4, 6), 4, np.uint8), SCHEME, PLANE, (0,))
    with pytest.raises(GridMismatchError):
        results_from_label_volume(np.zeros((5, 4, 7), np.uint8), SCHEME, PLANE, (0,))


def test_the_slices_of_a_task_are_read_from_its_addresses() -> None:
    urls = [slice_url("Task001_heart", CASE, index) for index in (0, 12, 1234)]
    folder = f"dataset/Task001_heart/cases/{CASE}/slices"
    assert urls[0] == f"/data/local-files/?d={folder}/0000.png"
    assert items_of({"slices": urls, "case": CASE}) == (0, 12, 1234)
    assert items_of({"slices": [urls[1].replace("/", "%2F")]}) == (12,)
    with pytest.raises(UnsafeNameError):
        slice_url("Task001_heart", "../../models", 1)


@pytest.mark.parametrize(
    "slices",
    [None, [], "0001.png", [7], ["/x/0001.png"], ["/slices/1.png"], ["/slices/0001.png"] * 2],
)
def test_data_that_lists_no_slices_is_refused(slices: object) -> None:
    with pytest.raises(CodecError, match="slice"):
        items_of({"slices": slices})
