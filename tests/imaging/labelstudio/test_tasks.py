import json
from dataclasses import replace
from typing import Any

import pytest

from imaging.dataset.annotations import AnnotationRecord
from imaging.dataset.cases import CaseRecord, CaseSource
from imaging.errors import CodecError, UnsafeNameError
from imaging.labelstudio.results import results_from_classes
from imaging.labelstudio.stack import items_of
from imaging.labelstudio.tasks import prediction_payload, task_payload
from tests.imaging.dataset.volume_lab import volume_record

CASE = CaseRecord(
    case="case-7c1e9a0b12cd34ef",
    task="Task001_heart",
    patient="p-3f9a1b2c4d5e",
    image="image.png",
    preview="preview.png",
    shape_HW=(20, 30),
    channels=1,
    bits=16,
    source=CaseSource("Mustermann/scan.png", "ab", 1),
    created_at="2026-03-14T09:15:02.123456Z",
)
ANSWER = AnnotationRecord(
    case=CASE.case,
    key="import-0123456789ab",
    origin="import",
    annotator="import",
    updated_at="2026-03-14T09:15:02.123456Z",
    results=tuple(results_from_classes(["normal"])),
)


def test_a_task_shows_the_preview_and_names_its_case() -> None:
    data = task_payload("Task001_heart", CASE)["data"]
    assert set(data) == {"image", "case"}
    assert data["case"] == "case-7c1e9a0b12cd34ef"
    folder = "dataset/Task001_heart/cases/case-7c1e9a0b12cd34ef"
    assert data["image"] == f"/data/local-files/?d={folder}/preview.png"


def test_a_task_tells_label_studio_nothing_about_the_patient_or_the_file() -> None:
    text = json.dumps(task_payload("Task001_heart", CASE, [ANSWER]))
    assert "Mustermann" not in text and CASE.patient not in text


def test_labels_that_came_with_the_picture_are_imported_as_answers() -> None:
    assert task_payload("Task001_heart", CASE, [ANSWER])["annotations"] == [
        {
            "result": list(ANSWER.results),
            "was_cancelled": False,
            "ground_truth": False,
            "lead_time": None,
        }
    ]
    assert task_payload("Task001_heart", CASE)["annotations"] == []


def test_a_deleted_answer_is_not_imported_and_a_skipped_one_stays_skipped() -> None:
    answers = [replace(ANSWER, deleted=True), replace(ANSWER, skipped=True, lead_time_s=3.5)]
    (imported,) = task_payload("Task001_heart", CASE, answers)["annotations"]
    assert (imported["was_cancelled"], imported["lead_time"]) == (True, 3.5)


def test_the_task_of_a_volume_shows_its_key_slices_in_order_and_names_its_case() -> None:
    case = volume_record(most=4)
    data = task_payload("Task001_heart", case)["data"]
    assert set(data) == {"slices", "case"} and data["case"] == case.case
    assert items_of(data) == (0, 4, 7, 11)
    folder = f"dataset/Task001_heart/cases/{case.case}/slices"
    assert data["slices"][1] == f"/data/local-files/?d={folder}/0004.png"
    with pytest.raises(UnsafeNameError):
        task_payload("../Task001_heart", case)


@pytest.mark.parametrize(
    ("task", "changes"),
    [
        ("../Task001_heart", {}),
        ("heart", {}),
        ("Task001_heart", {"case": "../../models"}),
        ("Task001_heart", {"preview": "../../../.labloop"}),
    ],
)
def test_a_name_that_leaves_the_folder_is_refused(task: str, changes: dict[str, Any]) -> None:
    with pytest.raises(UnsafeNameError):
        task_payload(task, replace(CASE, **changes))


def test_a_prediction_names_its_task_its_version_and_its_confidence() -> None:
    results = results_from_classes(["normal"], {"normal": 0.8})
    assert prediction_payload(12, "model-20260314T093102Z-41ac", 0.8, results) == {
        "task": 12,
        "model_version": "model-20260314T093102Z-41ac",
        "score": 0.8,
        "result": results,
    }


@pytest.mark.parametrize("score", [float("nan"), float("inf"), -0.1, 1.01])
def test_a_score_that_is_no_confidence_is_refused(score: float) -> None:
    with pytest.raises(CodecError, match="expected 0 to 1"):
        prediction_payload(12, "model-1", score, [])
