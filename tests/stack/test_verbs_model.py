"""`predict` on a person's own files: it answers what it can and overwrites nothing of theirs."""

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest

from imaging.io.picture import write_picture
from imaging.model.bundle import Bundle
from stack.bootstrap import init_nas
from stack.cli import main
from stack.home import Home
from tests.phantoms import TASK


@pytest.fixture
def home(tmp_path: Path, mask_bundle: Bundle) -> Home:
    home = Home(tmp_path / "home")
    nas = init_nas(home.nas_folder)
    nas.task(TASK).root.mkdir()
    shutil.copytree(mask_bundle.folder, nas.model(TASK).version("model-1"))
    return home


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name in ("a.png", "b.png"):
        write_picture(folder / name, np.arange(40 * 36, dtype=np.uint8).reshape(40, 36))
    return folder


def predict(home: Home, output: Path, *files: Path) -> int:
    words = ["predict", TASK, *map(str, files), "-o", str(output), "--version", "model-1"]
    return main([*words, "--home", str(home.root)])


def answered(output: Path) -> list[str]:
    with (output / "predictions.csv").open(newline="", encoding="utf-8") as stream:
        return [Path(row["file"]).name for row in csv.DictReader(stream)]


def test_masks_never_replace_the_pictures_they_were_made_from(
    home: Home, pictures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (pictures / "a.png").read_bytes()
    assert predict(home, pictures, pictures / "b.png", pictures / "a.png") == 3
    assert "a.png" in capsys.readouterr().err
    assert (pictures / "a.png").read_bytes() == before
    assert not (pictures / "predictions.csv").exists()


def test_a_file_that_predict_did_not_make_is_kept(
    home: Home, pictures: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    output.mkdir()
    for name in ("a.png", "predictions.csv"):
        (output / name).write_text("mine")
        assert predict(home, output, pictures / "a.png") == 3
        assert [path.name for path in output.iterdir()] == [name]
        assert (output / name).read_text() == "mine"
        (output / name).unlink()


def test_predict_may_be_run_again_into_its_own_output(
    home: Home, pictures: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    for _ in range(2):
        assert predict(home, output, pictures / "a.png", pictures / "b.png") == 0
    assert answered(output) == ["a.png", "b.png"]
    assert predict(home, output, output / "a.png") == 3  # its mask, but now it is the input


def test_what_cannot_be_read_is_told_and_the_rest_is_answered(
    home: Home, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (pictures / "letter.png").write_text("Dear colleague")
    strangers = (pictures / "nope.png", pictures, pictures / "letter.png")
    assert predict(home, tmp_path / "out", *strangers, pictures / "a.png") == 1
    assert answered(tmp_path / "out") == ["a.png"]
    words = capsys.readouterr().err
    assert all(str(one) in words for one in strangers)
    assert "No such file" in words and "PNG, JPEG or TIFF" in words
    assert "rawdata" not in words and "Error" not in words


@pytest.mark.parametrize("output", ["/proc/nowhere", "{file}"])
def test_an_output_folder_that_cannot_be_is_wrong_usage(
    home: Home, pictures: Path, output: str, capsys: pytest.CaptureFixture[str]
) -> None:
    output = output.replace("{file}", str(pictures / "b.png"))
    assert predict(home, Path(output), pictures / "a.png") == 2
    assert output in capsys.readouterr().err


def test_an_evaluation_never_replaces_a_sheet_of_patients(home: Home, tmp_path: Path) -> None:
    sheet = tmp_path / "cases.csv"
    sheet.write_text("file,patient")
    words = ["evaluate", TASK, "--version", "model-1", "-o", str(tmp_path)]
    assert main([*words, "--home", str(home.root)]) == 3
    assert sheet.read_text() == "file,patient"
