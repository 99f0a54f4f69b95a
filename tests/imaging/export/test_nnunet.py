"""nnU-Net v2: what is read back from the dataset is what was frozen."""

import json
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest

from imaging.dataset.snapshot import freeze_snapshot
from imaging.errors import ExportError
from imaging.export.folder import export_snapshot
from imaging.export.nnunet import fill_nnunet
from imaging.io.picture import read_label_map, read_picture
from imaging.labels import label_scheme
from tests.imaging.dataset.lab import SEGMENTATION, SHAPE_HW, label_cases, make_task
from tests.imaging.export.lab import make_lab


def test_a_dataset_of_volumes_reads_back_equal(tmp_path: Path) -> None:
    lab = make_lab(tmp_path / "nas", ("T1", "T2"))
    target = tmp_path / "out" / "Dataset002_organs"
    export_snapshot(target, lab.snapshot, "nnunet", fill_nnunet)

    for case in lab.snapshot.cases:
        side = "Ts" if case.split == "test" else "Tr"
        paths = [target / f"images{side}/{case.case}_{n:04d}.nii.gz" for n in range(2)]
        frozen = [case.image, *(one.path for one in case.more_images)]
        pairs = [*zip(paths, frozen, strict=True)]
        pairs.append((target / f"labels{side}/{case.case}.nii.gz", case.labels))  # type: ignore[arg-type]
        for written, source in pairs:
            found, expected = nibabel.load(written), nibabel.load(source)
            assert np.array_equal(found.affine, expected.affine)
            assert np.array_equal(np.asarray(found.dataobj), np.asarray(expected.dataobj))


def test_the_dataset_says_channels_labels_and_count_as_nnunet_wants_them(tmp_path: Path) -> None:
    lab = make_lab(tmp_path / "nas", ("T1", "T2"))
    export_snapshot(tmp_path / "out", lab.snapshot, "nnunet", fill_nnunet)
    record = json.loads((tmp_path / "out" / "dataset.json").read_text())

    assert record["channel_names"] == {"0": "T1", "1": "T2"}
    assert record["labels"] == {"background": 0, "liver": 1, "left kidney": 2}
    assert record["file_ending"] == ".nii.gz"
    assert record["numTraining"] == len(list((tmp_path / "out" / "labelsTr").iterdir())) == 3


def test_a_channel_without_a_name_goes_by_its_modality(tmp_path: Path) -> None:
    """nnU-Net normalises by that name: CT is not treated like MR."""
    export_snapshot(tmp_path / "out", make_lab(tmp_path / "nas").snapshot, "nnunet", fill_nnunet)
    record = json.loads((tmp_path / "out" / "dataset.json").read_text())
    assert record["channel_names"] == {"0": "CT"}


def test_the_first_split_is_ours_and_no_test_case_is_in_any(tmp_path: Path) -> None:
    lab = make_lab(tmp_path / "nas")
    export_snapshot(tmp_path / "out", lab.snapshot, "nnunet", fill_nnunet)
    splits = json.loads((tmp_path / "out" / "splits_final.json").read_text())

    assert splits[0]["train"] == [case.case for case in lab.snapshot.of("train")]
    assert splits[0]["val"] == [case.case for case in lab.snapshot.of("validation")]
    named = {name for split in splits for name in (*split["train"], *split["val"])}
    assert not named & {case.case for case in lab.snapshot.of("test")}


def test_pictures_become_a_dataset_of_png(tmp_path: Path) -> None:
    task = make_task(tmp_path)
    label_cases(task, range(6))
    frozen = freeze_snapshot(task, SEGMENTATION)
    export_snapshot(tmp_path / "out", frozen, "nnunet", fill_nnunet)

    for case in frozen.cases:
        side = "Ts" if case.split == "test" else "Tr"
        image = tmp_path / f"out/images{side}/{case.case}_0000.png"
        labels = tmp_path / f"out/labels{side}/{case.case}.png"
        assert case.labels is not None
        assert np.array_equal(read_picture(image), read_picture(case.image))
        expected_HW = read_label_map(case.labels, SHAPE_HW)
        assert np.array_equal(read_label_map(labels, SHAPE_HW), expected_HW)


def test_a_label_called_background_is_refused(tmp_path: Path) -> None:
    lab = make_lab(tmp_path / "nas")
    scheme = label_scheme(["background", "liver"])
    with pytest.raises(ExportError, match="background"):
        export_snapshot(
            tmp_path / "out", replace(lab.snapshot, scheme=scheme), "nnunet", fill_nnunet
        )
    assert not (tmp_path / "out").exists()
