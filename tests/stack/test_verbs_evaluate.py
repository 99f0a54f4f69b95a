"""`labloop evaluate` and `leaderboard`: what people and programs get to see."""

import csv
import json
import shutil
from pathlib import Path

import pytest

from imaging.layout import Nas
from imaging.model.bundle import Bundle
from imaging.task import TaskConfig
from stack.cli import main
from stack.home import Home
from tests.imaging.model.models import untrained_bundle
from tests.phantoms import TASK, class_config, mask_config, phantom_nas, phantom_snapshot


def lab(tmp_path: Path, bundle: Bundle, config: TaskConfig) -> Home:
    home = Home(tmp_path / "home")
    nas: Nas = phantom_nas(home.nas_folder, config, 12)
    phantom_snapshot(nas, config)
    shutil.copytree(bundle.folder, nas.model(TASK).version("model-1"))
    return home


def evaluate(home: Home, *words: str | Path) -> int:
    given = ["evaluate", TASK, "--version", "model-1", *map(str, words)]
    return main([*given, "--home", str(home.root)])


def test_masks_are_scored_written_and_drawn(
    tmp_path: Path, mask_bundle: Bundle, capsys: pytest.CaptureFixture[str]
) -> None:
    home = lab(tmp_path, mask_bundle, mask_config())
    output = tmp_path / "out"
    for _ in range(2):  # into its own output again
        assert evaluate(home, "-o", output) == 0
    said = capsys.readouterr().out
    assert "mean Dice" in said and "HD95 (px)" in said
    names = {"evaluation.json", "evaluation.md", "cases.csv", "dice.png", "cases.png"}
    assert {path.name for path in output.iterdir()} == names
    with (output / "cases.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    record = json.loads((output / "evaluation.json").read_text())
    assert len(rows) == 2 * len(record["cases"]) and rows[0]["score"] == rows[0]["dice"]
    assert record["measured"]["split"] == "test" and "mean Dice" in record["summary"]
    assert "mean without background" in (output / "evaluation.md").read_text()


def test_validation_cases_can_be_scored_too(
    tmp_path: Path, mask_bundle: Bundle, capsys: pytest.CaptureFixture[str]
) -> None:
    home = lab(tmp_path, mask_bundle, mask_config())
    assert evaluate(home, "--split", "validation") == 0
    assert "validation cases" in capsys.readouterr().out


def test_classes_are_scored_and_what_was_confused_is_drawn(tmp_path: Path) -> None:
    bundle = untrained_bundle(tmp_path / "model-1", class_config())
    home = lab(tmp_path, bundle, class_config())
    assert evaluate(home, "-o", tmp_path / "out") == 0
    assert (tmp_path / "out" / "confusion.png").is_file()
    assert "Class by class" in (tmp_path / "out" / "evaluation.md").read_text()


def test_a_page_of_somebody_else_is_left_alone(tmp_path: Path, mask_bundle: Bundle) -> None:
    home = lab(tmp_path, mask_bundle, mask_config())
    (tmp_path / "dice.png").write_text("mine")
    assert evaluate(home, "-o", tmp_path) == 3
    assert (tmp_path / "dice.png").read_text() == "mine"


def test_a_file_in_the_folder_s_place_is_told_before_anything_is_scored(
    tmp_path: Path, mask_bundle: Bundle, capsys: pytest.CaptureFixture[str]
) -> None:
    home = lab(tmp_path, mask_bundle, mask_config())
    (tmp_path / "out").write_text("mine")
    assert evaluate(home, "-o", tmp_path / "out") == 2
    said = capsys.readouterr()
    assert "expected a folder" in said.err and "scoring" not in said.out


def test_the_leaderboard_is_a_table_or_json(
    tmp_path: Path, mask_bundle: Bundle, capsys: pytest.CaptureFixture[str]
) -> None:
    home = lab(tmp_path, mask_bundle, mask_config())
    words = ["leaderboard", TASK, "--home", str(home.root)]
    assert main(words) == 0
    said = capsys.readouterr().out
    assert "model-1" in said and "not measured on held-out cases" in said
    assert "None" not in said
    assert main([*words, "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert [one["version"] for one in record["standings"]] == ["model-1"]


def test_what_is_not_installed_is_named_with_a_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def missing(*_: object) -> int:
        raise ModuleNotFoundError("No module named 'openvino'", name="openvino")

    monkeypatch.setattr("stack.verbs_evaluate.evaluate_version", missing)
    assert main(["evaluate", TASK, "--home", str(tmp_path)]) == 1
    said = capsys.readouterr().err
    assert "openvino is not installed" in said and "make setup" in said
