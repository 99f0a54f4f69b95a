"""`labloop export`: the folder that appears, and what is refused."""

import json
from pathlib import Path

import pytest

from imaging.dataset.snapshot import freeze_snapshot
from imaging.publish import verify_folder
from stack.bootstrap import init_nas
from stack.cli import main
from stack.home import Home
from tests.imaging.dataset.lab import CLASSIFICATION, SEGMENTATION, TASK, label_cases


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path / "home")
    init_nas(home.nas_folder)
    return home


def frozen(home: Home, kind: str = "segmentation") -> str:
    task = home.nas.task(TASK)
    label_cases(task, range(5), kind)
    return freeze_snapshot(task, SEGMENTATION if kind == "segmentation" else CLASSIFICATION).id


def export(home: Home, *words: str | Path) -> int:
    return main(["export", TASK, *map(str, words), "--home", str(home.root)])


@pytest.mark.parametrize("what", ["nnunet", "monai", "coco", "png"])
def test_a_snapshot_becomes_a_checked_folder(home: Home, tmp_path: Path, what: str) -> None:
    snapshot = frozen(home)
    assert export(home, "--format", what, "-o", tmp_path / "Dataset001_heart") == 0
    assert verify_folder(tmp_path / "Dataset001_heart")["snapshot"] == snapshot


def test_nnunet_keeps_the_name_that_it_finds_datasets_by(home: Home, tmp_path: Path) -> None:
    frozen(home)
    assert export(home, "--format", "nnunet", "-o", tmp_path / "raw") == 0
    assert (tmp_path / "raw" / "Dataset001_heart" / "dataset.json").is_file()


def test_an_older_snapshot_can_be_named(home: Home, tmp_path: Path) -> None:
    first = frozen(home)
    label_cases(home.nas.task(TASK), range(5, 8))
    assert freeze_snapshot(home.nas.task(TASK), SEGMENTATION).id != first
    words = ("--format", "monai", "--snapshot", first)
    assert export(home, *words, "-o", tmp_path / "out") == 0
    record = json.loads((tmp_path / "out" / "datalist.json").read_text())
    assert len(record["training"]) + len(record["testing"]) == 5


@pytest.mark.parametrize("what", ["nnunet", "coco", "png", "dicom-seg"])
def test_a_format_of_masks_does_not_take_classes(
    home: Home, what: str, capsys: pytest.CaptureFixture[str]
) -> None:
    frozen(home, "classification")
    assert export(home, "--format", what) == 2
    assert "a task of classes" in capsys.readouterr().err


def test_pictures_have_no_dicom_to_refer_to(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    frozen(home)
    assert export(home, "--format", "dicom-seg") == 2
    assert "is of pictures" in capsys.readouterr().err


def test_a_task_without_a_snapshot_and_one_that_is_not_there_are_wrong_usage(
    home: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    home.nas.task(TASK).root.mkdir()
    assert export(home, "--format", "coco") == 2
    assert export(home, "--format", "coco", "--snapshot", "snap-1") == 2
    assert capsys.readouterr().err.count("labloop train TASK --now") == 2


def test_a_folder_that_holds_something_is_refused(home: Home, tmp_path: Path) -> None:
    frozen(home)
    (tmp_path / "thesis.doc").write_text("three years")
    assert export(home, "--format", "coco", "-o", tmp_path) == 3
    assert (tmp_path / "thesis.doc").read_text() == "three years"
