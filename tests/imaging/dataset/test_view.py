import csv
from dataclasses import replace
from pathlib import Path

import pytest

from imaging.dataset.snapshot import freeze_snapshot
from imaging.dataset.view import folder_names, show_snapshot, shown_snapshot
from imaging.errors import SnapshotError
from imaging.labels import label_scheme
from tests.imaging.dataset.lab import CLASSIFICATION, SEGMENTATION, label_cases, make_task


def tree(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_a_classification_shows_class_folders_and_a_table_for_the_held_out(tmp_path: Path) -> None:
    task = make_task(tmp_path)
    label_cases(task, range(12), kind="classification")
    frozen = freeze_snapshot(task, CLASSIFICATION)
    show_snapshot(task, frozen)
    files = tree(task.data)
    for case in frozen.cases:
        sub = "" if case.split == "test" else f"{case.classes[0]}/"  # type: ignore[index]
        assert f"{case.split}/{sub}{case.case}.png" in files
    with (task.data / "labels.csv").open(newline="") as stream:
        rows = {row["case"]: row for row in csv.DictReader(stream)}
    held_out = frozen.of("test")[0]
    assert rows[held_out.case]["classes"] == held_out.classes[0]  # type: ignore[index]
    assert len(files) == 12 + 3 and shown_snapshot(task) == frozen.id


def test_a_segmentation_shows_images_and_masks_side_by_side(tmp_path: Path) -> None:
    task = make_task(tmp_path)
    label_cases(task, range(6))
    frozen = freeze_snapshot(task, SEGMENTATION)
    show_snapshot(task, frozen)
    for case in frozen.cases:
        image = task.data / case.split / "images" / f"{case.case}.png"
        mask = task.data / case.split / "masks" / f"{case.case}.png"
        assert image.read_bytes() == case.image.read_bytes()
        assert case.labels is not None and mask.read_bytes() == case.labels.read_bytes()
        assert image.stat().st_mode & 0o222 == 0


def test_the_view_follows_the_newest_snapshot_and_nothing_of_the_old_stays(tmp_path: Path) -> None:
    task = make_task(tmp_path)
    label_cases(task, range(5))
    show_snapshot(task, freeze_snapshot(task, SEGMENTATION))
    label_cases(task, range(5, 8))
    second = freeze_snapshot(task, SEGMENTATION)
    show_snapshot(task, second)
    assert shown_snapshot(task) == second.id
    assert len(tree(task.data)) == 2 * 8 + 3
    assert list((task.root / ".staging").iterdir()) == []


def test_a_folder_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    task = make_task(tmp_path)
    label_cases(task, range(5))
    frozen = freeze_snapshot(task, SEGMENTATION)
    task.data.mkdir()
    assert shown_snapshot(task) is None  # empty: nobody's
    (task.data / "thesis.doc").write_text("three years")
    with pytest.raises(SnapshotError, match="not written by Labloop"):
        show_snapshot(task, frozen)
    assert tree(task.data) == {"thesis.doc"}


def test_several_classes_at_once_have_no_class_folders(tmp_path: Path) -> None:
    task = make_task(tmp_path)
    label_cases(task, range(5), kind="classification")
    frozen = freeze_snapshot(task, replace(CLASSIFICATION, multi_label=True))
    show_snapshot(task, frozen)
    assert all((task.data / case.split / f"{case.case}.png").is_file() for case in frozen.cases)


def test_class_names_become_safe_and_different_folders() -> None:
    names = folder_names(label_scheme(["a/b", "a\\b", "..", "Größe 1", "größe 1"]))
    assert list(names.values()) == ["a_b", "a_b_2", "__", "Größe 1", "größe 1_5"]
