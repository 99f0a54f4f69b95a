import json
import sys
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from stack.cli import main
from tests.dicom_phantoms import small_scan, write_scan
from tests.imaging.io.hostile_volumes import hostile_volumes
from tests.real_data import data_folder


def inspect(tmp_path: Path, path: Path, *arguments: str) -> int:
    return main(["inspect", str(path), *arguments, "--home", str(tmp_path / "no-home")])


def as_json(tmp_path: Path, path: Path, capsys: pytest.CaptureFixture[str]) -> Any:
    code = inspect(tmp_path, path, "--json")
    record = json.loads(capsys.readouterr().out)
    assert code == (3 if record["refused"] else 0)
    return record


def save_nifti(path: Path, array: Any, spacing_mm: float = 1.0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(array, np.diag([-spacing_mm, 2.0, 3.0, 1.0])), path)


def test_a_series_is_told_by_shape_place_and_modality_never_by_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_scan(tmp_path / "drop", small_scan(patient="Muster^Erika"))
    assert inspect(tmp_path, tmp_path / "drop") == 0
    said = capsys.readouterr().out
    assert "CT, 7 × 6 × 5 voxels, int16, values -1024 to -815" in said
    assert "0.7 × 0.8 × 2.5 mm (XYZ), stored as LPS" in said
    assert "Muster" not in said and "1.2.826" not in said


def test_json_holds_the_affine_and_says_the_same(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_scan(tmp_path / "drop", small_scan(patient="Muster^Erika"))
    (tmp_path / "drop" / "notes.txt").write_text("Muster^Erika")
    record = as_json(tmp_path, tmp_path / "drop", capsys)
    (case,) = record["cases"]
    assert (case["kind"], case["modality"], case["orientation"]) == ("DICOM", "CT", "LPS")
    assert case["shape"] == [7, 6, 5] and np.allclose(case["spacing_mm"], [0.7, 0.8, 2.5])
    assert np.linalg.det(np.array(case["affine"])[:3, :3]) > 0
    assert case["stored"]["shape"] == [7, 6, 5]
    assert record["refused_by_reason"] == {"not-a-volume": 1}
    assert "Muster" not in json.dumps(record)


def test_channels_are_one_case_and_label_maps_find_theirs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = np.arange(120, dtype=np.int16).reshape(4, 5, 6)
    for channel in (0, 1):
        save_nifti(tmp_path / "drop" / "imagesTr" / f"a_000{channel}.nii.gz", image)
    save_nifti(tmp_path / "drop" / "labelsTr" / "a.nii.gz", (image % 3).astype(np.uint8))
    save_nifti(tmp_path / "drop" / "labelsTr" / "b.nii.gz", (image % 2).astype(np.uint8))
    (tmp_path / "drop" / "dataset.json").write_text("{}")
    record = as_json(tmp_path, tmp_path / "drop", capsys)
    (case,) = record["cases"]
    assert case["channels"] == 2 and len(case["files"]) == 2
    found = {one["file"]: (one["case"], one["values"]) for one in record["labels"]}
    assert found == {"labelsTr/a.nii.gz": (0, [1, 2]), "labelsTr/b.nii.gz": (None, [1])}
    assert record["passed_over"] == ["dataset.json"]


def test_a_channel_on_another_grid_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for channel, spacing_mm in enumerate((1.0, 1.1)):
        image = np.zeros((4, 5, 6), np.int16)
        save_nifti(tmp_path / "drop" / f"a_000{channel}.nii", image, spacing_mm)
    record = as_json(tmp_path, tmp_path / "drop", capsys)
    assert record["refused_by_reason"] == {"channel-grid": 1}


def test_volumes_that_a_challenge_numbers_are_cases_and_no_channels(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = np.zeros((4, 5, 6), np.int16)
    for number, spacing_mm in enumerate((1.0, 1.1, 1.1), start=1):
        save_nifti(tmp_path / "drop" / "imagesTr" / f"amos_000{number}.nii.gz", image, spacing_mm)
        labels = image.astype(np.uint8)
        save_nifti(tmp_path / "drop" / "labelsTr" / f"amos_000{number}.nii.gz", labels, spacing_mm)
    for number in range(6):
        save_nifti(tmp_path / "drop" / "more" / f"case_000{number}.nii.gz", image)
    record = as_json(tmp_path, tmp_path / "drop", capsys)
    assert len(record["cases"]) == 9 and not record["refused"]
    assert {case["channels"] for case in record["cases"]} == {1}
    assert [one["case"] for one in record["labels"]] == [0, 1, 2]


def test_every_hostile_volume_is_told_with_its_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "drop").mkdir()
    expected = hostile_volumes(tmp_path / "drop")
    record = as_json(tmp_path, tmp_path / "drop", capsys)
    told = {file.split("/")[0]: one["reason"] for one in record["refused"] for file in one["files"]}
    assert told.items() >= dict(expected).items()


def test_a_file_that_is_not_there_is_wrong_usage(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert inspect(tmp_path, tmp_path / "nothing") == 2
    assert "is not there" in capsys.readouterr().err


def test_where_the_readers_are_not_installed_it_says_what_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.startswith(("imaging.io", "nrrd"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "nrrd", None)
    assert inspect(tmp_path, tmp_path) == 1
    said = capsys.readouterr().err
    assert "nrrd is not installed here" in said and "make setup" in said


def test_pictures_segmentations_and_refusals_of_real_sets_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record = as_json(tmp_path, data_folder("dicom_seg_rt_sr/dcmqi_ct3"), capsys)
    assert [case["shape"] for case in record["cases"]] == [[512, 512, 3]] * 8
    segs = [one for one in record["labels"] if one["kind"] == "SEG"]
    assert segs[1]["names"] == ["GREEN", "ORANGE", "PURPLE", "LIGHT_BLUE", "DARK_BLUE"]
    place = segs[0]["case"]
    assert record["cases"][place]["kind"] == "DICOM"


def test_a_picture_is_told_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from PIL import Image

    Image.fromarray(np.arange(800, dtype=np.uint16).reshape(20, 40)).save(tmp_path / "a.png")
    (case,) = as_json(tmp_path, tmp_path / "a.png", capsys)["cases"]
    assert (case["kind"], case["shape"], case["type"]) == ("PNG", [20, 40], "uint16")
