"""COCO: what a reader of COCO decodes is what was frozen."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from imaging.dataset.cases import load_case
from imaging.dataset.folds import SPLITS
from imaging.dataset.snapshot import freeze_snapshot
from imaging.errors import ExportError
from imaging.export.coco import encode_rle, fill_coco, parts_of
from imaging.export.folder import export_snapshot
from imaging.io.nifti import read_label_volume
from imaging.io.picture import read_label_map, read_picture
from imaging.publish import MANIFEST, read_json, write_json
from tests.imaging.dataset.lab import SEGMENTATION, SHAPE_HW, label_cases, make_task
from tests.imaging.export.lab import make_lab


def decoded(rle: dict[str, Any]) -> NDArray[np.bool_]:
    """As cocoapi's rleDecode reads it."""
    height, width = rle["size"]
    inside = np.arange(len(rle["counts"])) % 2 == 1
    return np.repeat(inside, rle["counts"]).reshape(width, height).T


def drawn(record: dict[str, Any], image: dict[str, Any]) -> NDArray[np.uint8]:
    """The label map that the annotations of an image make."""
    labels_HW = np.zeros((image["height"], image["width"]), dtype=np.uint8)
    for one in record["annotations"]:
        if one["image_id"] == image["id"]:
            mask_HW = decoded(one["segmentation"])
            labels_HW[mask_HW] = one["category_id"]
            left, top, width, height = one["bbox"]
            box_HW = mask_HW[top : top + height, left : left + width]
            assert one["area"] == mask_HW.sum() == box_HW.sum()
            assert box_HW.any(axis=0)[[0, -1]].all() and box_HW.any(axis=1)[[0, -1]].all()
    return labels_HW


@given(
    arrays(np.uint8, st.tuples(st.integers(1, 7), st.integers(1, 7)), elements=st.integers(0, 2))
)
def test_run_lengths_of_all_parts_decode_to_the_label_map(labels_HW: NDArray[np.uint8]) -> None:
    drawn_HW = np.zeros_like(labels_HW)
    for part in parts_of(labels_HW):
        mask_HW = decoded(encode_rle(part, labels_HW.shape))
        assert mask_HW.shape == labels_HW.shape and not drawn_HW[mask_HW].any()
        drawn_HW[mask_HW] = part.index
    assert np.array_equal(drawn_HW, labels_HW)


def test_parts_that_touch_at_a_corner_are_one() -> None:
    labels_HW = np.array([[1, 0, 2], [0, 1, 0], [2, 0, 0]], dtype=np.uint8)
    parts = [(part.index, int(part.mask_HW.sum())) for part in parts_of(labels_HW)]
    assert parts == [(1, 2), (2, 1), (2, 1)]


def test_run_lengths_go_down_the_columns_and_begin_with_zeros() -> None:
    (part,) = parts_of(np.array([[1, 0], [1, 0], [0, 0]], dtype=np.uint8))
    assert encode_rle(part, (3, 2)) == {"size": [3, 2], "counts": [0, 2, 4]}


def test_pictures_and_their_regions_read_back_equal(tmp_path: Path) -> None:
    task = make_task(tmp_path)
    label_cases(task, range(8))
    frozen = freeze_snapshot(task, SEGMENTATION)
    export_snapshot(tmp_path / "out", frozen, "coco", fill_coco)

    by_case = {case.case: case for case in frozen.cases}
    for split in SPLITS:
        path = tmp_path / "out" / "annotations" / f"instances_{split}.json"
        record = json.loads(path.read_text())
        assert [one["name"] for one in record["categories"]] == list(SEGMENTATION.scheme.names)
        assert len(record["images"]) == len(frozen.of(split))
        for image in record["images"]:
            case = by_case[image["case"]]
            assert case.labels is not None
            shown = read_picture(tmp_path / "out" / "images" / split / image["file_name"])
            assert shown.shape == (image["height"], image["width"])
            expected_HW = read_label_map(case.labels, SHAPE_HW)
            assert np.array_equal(drawn(record, image), expected_HW)


def test_slices_of_volumes_hold_the_voxels_of_their_slice(tmp_path: Path) -> None:
    lab = make_lab(tmp_path / "nas", metadata={"sex": "F"})
    export_snapshot(tmp_path / "out", lab.snapshot, "coco", fill_coco)
    record = json.loads((tmp_path / "out" / "annotations" / "instances_train.json").read_text())

    case = lab.snapshot.of("train")[1]
    volume = load_case(case.image.parent).volume
    assert case.labels is not None and volume is not None
    labels_XYZ = read_label_volume(case.labels, volume.grid)
    images = [image for image in record["images"] if image["case"] == case.case]
    assert [image["slice"] for image in images] == list(range(labels_XYZ.shape[2]))
    assert [image["slice"] for image in images if image["interpolated"]] == [2]
    for image in images:
        assert image["metadata"] == {"sex": "F"}
        back_AB = volume.plane.voxels(drawn(record, image))
        assert np.array_equal(back_AB, labels_XYZ.take(image["slice"], axis=2))


def test_a_slice_without_a_picture_is_named(tmp_path: Path) -> None:
    lab = make_lab(tmp_path / "nas")
    path = lab.snapshot.cases[0].image.parent / MANIFEST
    record = read_json(path)
    del record["files"]["slices/0003.png"]
    write_json(path, record)
    with pytest.raises(ExportError, match=r"slices/0003\.png"):
        export_snapshot(tmp_path / "out", lab.snapshot, "coco", fill_coco)
