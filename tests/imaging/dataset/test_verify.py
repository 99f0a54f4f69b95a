import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from imaging.dataset.snapshot import freeze_snapshot, read_snapshot
from imaging.dataset.verify import problems_of, require_sound
from imaging.errors import SnapshotError
from imaging.io.picture import write_label_map
from tests.imaging.dataset.lab import (
    CLASSIFICATION,
    SEGMENTATION,
    SHAPE_HW,
    drawn,
    label_cases,
    make_task,
)

Damage = Callable[[dict[str, Any], dict[str, Any]], None]


def put_patient_on_two_sides(manifest: dict[str, Any], folds: dict[str, Any]) -> None:
    train = next(case for case in manifest["cases"] if case["split"] == "train")
    test = next(case for case in manifest["cases"] if case["split"] == "test")
    train["patient"] = test["patient"]


def train_on_the_held_out(manifest: dict[str, Any], folds: dict[str, Any]) -> None:
    test = next(case for case in manifest["cases"] if case["split"] == "test")
    folds["folds"][1]["train"].append(test["case"])


def validate_on_the_training_patient(manifest: dict[str, Any], folds: dict[str, Any]) -> None:
    folds["folds"][1]["validation"].append(folds["folds"][1]["train"][0])


def change_sides(manifest: dict[str, Any], folds: dict[str, Any]) -> None:
    for case in manifest["cases"]:
        case["split"] = "test" if case["split"] == "validation" else case["split"]


def forget_patients(manifest: dict[str, Any], folds: dict[str, Any]) -> None:
    del folds["patients"]


def invent_a_class(manifest: dict[str, Any], folds: dict[str, Any]) -> None:
    manifest["cases"][0]["classes"] = ["zebra"]


def choose_none(manifest: dict[str, Any], folds: dict[str, Any]) -> None:
    manifest["cases"][0]["classes"] = []


def list_twice(manifest: dict[str, Any], folds: dict[str, Any]) -> None:
    manifest["cases"].append(manifest["cases"][0])


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (put_patient_on_two_sides, "is in test and train"),
        (train_on_the_held_out, "fold 1 holds cases that are held out"),
        (validate_on_the_training_patient, "fold 1 has patients on both sides"),
        (change_sides, "fold 0 is not the split"),
        (forget_patients, "expected the split of each patient"),
        (invent_a_class, "zebra"),
        (choose_none, "has 0 classes"),
        (list_twice, "listed twice"),
    ],
)
def test_each_fault_of_a_snapshot_is_named(tmp_path: Path, damage: Damage, words: str) -> None:
    task = make_task(tmp_path)
    label_cases(task, range(20), kind="classification")
    frozen = freeze_snapshot(task, CLASSIFICATION)
    require_sound(frozen)
    paths = [frozen.folder / name for name in ("manifest.json", "folds.json")]
    records = [json.loads(path.read_text()) for path in paths]
    damage(*records)
    for path, record in zip(paths, records, strict=True):
        path.chmod(0o644)
        path.write_text(json.dumps(record))
    with pytest.raises(SnapshotError, match=words):
        require_sound(read_snapshot(frozen.folder))


def test_all_faults_of_label_maps_and_images_are_named_at_once(tmp_path: Path) -> None:
    task = make_task(tmp_path)
    label_cases(task, range(6))
    frozen = freeze_snapshot(task, SEGMENTATION)
    too_high, too_small, gone, other_image, *_ = frozen.cases
    for case in (too_high, too_small, gone):
        assert case.labels is not None
        case.labels.chmod(0o644)
    write_label_map(too_high.labels, drawn(4, index=3))  # type: ignore[arg-type]
    write_label_map(too_small.labels, drawn(12)[:, :8])  # type: ignore[arg-type]
    gone.labels.unlink()  # type: ignore[union-attr]
    other_image.image.write_bytes(b"x")
    problems = "\n".join(problems_of(frozen))
    assert f"{too_high.case}: label map holds 3" in problems
    assert f"{too_small.case}: label map has shape (12, 8), its image has {SHAPE_HW}" in problems
    assert f"labels/{gone.case}.png" in problems
    assert f"{other_image.case}: the image has changed" in problems
