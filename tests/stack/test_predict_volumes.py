"""`predict` on volumes: label maps on the volumes' own grids, and nothing is overwritten."""

import csv
from dataclasses import dataclass
from pathlib import Path

import nibabel
import nrrd
import numpy as np
import pytest

from imaging.io.nifti import read_label_volume, read_nifti, write_nifti
from imaging.io.volumes import read_volume
from imaging.volume import grid_of, to_stored
from stack.bootstrap import init_nas
from stack.cli import main
from stack.errors import RefusedError, UsageError
from stack.home import Home
from stack.predict_volumes import predict_volumes
from tests.dicom_phantoms import small_scan, write_scan
from tests.imaging.dataset.volume_lab import SIDES, make_grid
from tests.ml_backend.fakes import TASK, FakeVolumePredictor, block_voxels
from tests.ml_backend.test_load import untrained


@dataclass
class Model(FakeVolumePredictor):
    channels: int = 1


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a.nii.gz", "b.nii.gz"):
        write_nifti(tmp_path / name, block_voxels(), make_grid())
    return tmp_path


def rows(output: Path) -> list[dict[str, str]]:
    with (output / "predictions.csv").open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def test_every_volume_gets_a_label_map_on_its_own_grid(folder: Path) -> None:
    out = folder / "out"
    assert predict_volumes(Model("v1"), [folder / "a.nii.gz", folder / "b.nii.gz"], out) == 0
    grid = read_nifti(folder / "a.nii.gz").grid
    assert read_nifti(out / "a.nii.gz").grid == grid
    assert np.array_equal(read_label_volume(out / "a.nii.gz", grid), block_voxels() > 100)
    first = rows(out)[0]
    assert (first["version"], first["score"], first["mask"]) == ("v1", "0.6000", "a.nii.gz")
    assert (first["lv"], first["myo"]) == (str(3 * 4 * 8), "0")


def test_nrrd_and_dicom_are_read_too(folder: Path) -> None:
    header = {"space": "left-posterior-superior", "space directions": np.diag([1.0, 2.0, 3.0])}
    nrrd.write(str(folder / "n.nrrd"), block_voxels(), header | {"space origin": [1, 2, 3]})
    write_scan(folder / "scan", small_scan())
    out = folder / "out"
    assert predict_volumes(Model("v1"), [folder / "n.nrrd", folder / "scan"], out) == 0
    assert sorted(path.name for path in out.iterdir()) == [
        "n.nii.gz", "predictions.csv", "scan.nii.gz",
    ]  # fmt: skip
    assert read_nifti(out / "n.nii.gz").grid.is_same(read_volume(folder / "n.nrrd").grid)
    assert read_nifti(out / "scan.nii.gz").grid.stored_shape == (7, 6, 5)


def test_several_series_in_a_folder_are_several_volumes(folder: Path) -> None:
    for series in ("1", "2"):
        write_scan(folder / "scan", small_scan(series=series))
    out = folder / "out"
    assert predict_volumes(Model("v1"), [folder / "scan"], out) == 0
    assert {row["mask"] for row in rows(out)} == {"scan_1.nii.gz", "scan_2.nii.gz"}
    assert "series 1 of 2: 1-000.dcm" in rows(out)[0]["file"]


def test_series_in_folders_of_their_own_go_by_these(folder: Path) -> None:
    for number, kind in enumerate(("T1", "T2"), start=1):
        write_scan(folder / "brain" / kind, small_scan(series=str(number)))
    out = folder / "out"
    assert predict_volumes(Model("v1"), [folder / "brain"], out) == 0
    assert {row["mask"] for row in rows(out)} == {"brain_T1.nii.gz", "brain_T2.nii.gz"}
    assert {Path(row["file"]).name for row in rows(out)} == {"T1", "T2"}


def test_the_channels_of_a_volume_are_found_by_their_names(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = [folder / f"x_{number:04d}.nii.gz" for number in (1, 0)]
    for file in files:
        write_nifti(file, block_voxels() * (1 if "_0000" in file.name else 0), make_grid())
    model, out = Model("v1", channels=2), folder / "out"
    assert predict_volumes(model, [*files, folder / "a.nii.gz"], out) == 1
    assert "the model takes 2 channels" in capsys.readouterr().err
    assert model.seen == [(2, *SIDES)]
    grid = read_nifti(files[0]).grid
    assert np.array_equal(read_label_volume(out / "x.nii.gz", grid), block_voxels() > 100)


def test_a_file_that_holds_all_channels_is_a_volume(folder: Path) -> None:
    stored = to_stored(block_voxels(), make_grid())
    both = np.stack([stored, 0 * stored], axis=3)
    nibabel.save(
        nibabel.Nifti1Image(both, np.array(make_grid().stored_affine)), folder / "x.nii.gz"
    )
    model = Model("v1", channels=2)
    assert predict_volumes(model, [folder / "x.nii.gz"], folder / "out") == 0
    assert model.seen == [(2, *SIDES)]


def test_channels_that_are_missing_or_lie_elsewhere_are_told(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_nifti(folder / "x_0000.nii.gz", block_voxels(), make_grid())
    write_nifti(folder / "y_0000.nii.gz", block_voxels(), make_grid())
    write_nifti(folder / "y_0001.nii.gz", block_voxels(), grid_of(SIDES, np.eye(4)))
    files = [folder / f"{name}.nii.gz" for name in ("x_0000", "y_0000", "y_0001")]
    assert predict_volumes(Model("v1", channels=2), files, folder / "out") == 1
    words = capsys.readouterr().err
    assert "1 of the 2 channels" in words and "y_0001.nii.gz lies on another grid" in words


def test_a_first_channel_alone_is_a_volume_of_its_name(folder: Path) -> None:
    (folder / "a.nii.gz").rename(folder / "amos_0007_0000.nii.gz")
    out = folder / "out"
    assert predict_volumes(Model("v1"), [folder / "amos_0007_0000.nii.gz"], out) == 0
    assert rows(out)[0]["mask"] == "amos_0007.nii.gz"


def test_what_cannot_be_read_is_told_and_the_rest_is_answered(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "letter.nii.gz").write_text("Dear colleague")
    (folder / "empty").mkdir()
    strangers = [folder / "nope.nii.gz", folder / "letter.nii.gz", folder / "empty"]
    assert predict_volumes(Model("v1"), [*strangers, folder / "a.nii.gz"], folder / "out") == 1
    words = capsys.readouterr().err
    assert all(str(one) in words for one in strangers)
    assert "No such file" in words and "no DICOM series" in words and "rawdata" not in words
    assert [row["mask"] for row in rows(folder / "out")] == ["a.nii.gz"]


def test_label_maps_replace_nothing_but_what_predict_wrote(folder: Path) -> None:
    before = (folder / "a.nii.gz").read_bytes()
    with pytest.raises(RefusedError, match=r"a\.nii\.gz"):
        predict_volumes(Model("v1"), [folder / "a.nii.gz"], folder)
    assert (folder / "a.nii.gz").read_bytes() == before
    out = folder / "out"
    out.mkdir()
    (out / "a.nii.gz").write_text("mine")
    with pytest.raises(RefusedError, match="not from `predict`"):
        predict_volumes(Model("v1"), [folder / "a.nii.gz"], out)
    (out / "a.nii.gz").unlink()
    for _ in range(2):
        assert predict_volumes(Model("v1"), [folder / "a.nii.gz"], out) == 0


def test_two_volumes_of_one_name_collide(folder: Path) -> None:
    (folder / "other").mkdir()
    write_nifti(folder / "other" / "a.nii", block_voxels(), make_grid())
    with pytest.raises(UsageError, match="called a"):
        predict_volumes(Model("v1"), [folder / "a.nii.gz", folder / "other" / "a.nii"], folder)


@pytest.mark.slow
def test_the_verb_answers_about_volumes_with_a_model_for_volumes(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home = Home(folder / "home")
    nas = init_nas(home.nas_folder)
    nas.task(TASK).root.mkdir()
    untrained(nas.model(TASK).version("model-1"))
    out = folder / "out"
    files = [str(folder / "a.nii.gz"), str(folder / "b.nii.gz")]
    words = ["predict", TASK, *files, "-o", str(out), "--version", "model-1"]
    assert main([*words, "--home", str(home.root)]) == 0
    assert "2 of 2 answered" in capsys.readouterr().out
    for name in ("a.nii.gz", "b.nii.gz"):
        grid = read_nifti(folder / name).grid
        assert read_nifti(out / name).grid == grid
        assert read_label_volume(out / name, grid).max() <= 2
