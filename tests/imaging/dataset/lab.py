"""A small lab on disk for tests: cases of invented patients, and what people said about them."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imaging.dataset.annotations import AnnotationRecord, land
from imaging.dataset.cases import CASE_RECORD, CaseRecord, CaseSource, load_case
from imaging.ids import utc_now
from imaging.io.picture import write_picture
from imaging.labels import label_scheme
from imaging.labelstudio.results import results_from_classes, results_from_label_map
from imaging.layout import MARKER, Nas, TaskFolder
from imaging.publish import MANIFEST, manifest_files, write_json
from imaging.task import TaskConfig

SEGMENTATION = TaskConfig(kind="segmentation", scheme=label_scheme(["lv", "scar"]))
CLASSIFICATION = TaskConfig(kind="classification", scheme=label_scheme(["normal", "pneumonia"]))
TASK = "Task001_heart"
SHAPE_HW = (12, 16)


def make_nas(root: Path) -> Nas:
    (root / MARKER).touch()
    return Nas(root)


def make_task(root: Path) -> TaskFolder:
    return make_nas(root).task(TASK)


def make_case(task: TaskFolder, number: int, patient: str | None = None) -> str:
    """A picture unlike all others; its case."""
    image_HW = np.full(SHAPE_HW, number % 251, dtype=np.uint8)
    image_HW[0, : number % 7] = 255
    case = f"case-{hashlib.sha256(str(number).encode()).hexdigest()[:16]}"
    folder = task.case(case)
    folder.mkdir(parents=True)
    write_picture(folder / "image.png", image_HW)
    record = CaseRecord(
        case=case,
        task=task.name,
        patient=patient or f"p-{number:04d}",
        image="image.png",
        preview="image.png",
        shape_HW=SHAPE_HW,
        channels=1,
        bits=8,
        source=CaseSource(f"{number}.png", "00", 1),
        created_at=utc_now(),
    )
    write_json(folder / CASE_RECORD, record.to_json())
    write_json(folder / MANIFEST, {"format": 1, "files": manifest_files(folder)})
    return case


def regroup(task: TaskFolder, case: str, patient: str) -> None:
    """Somebody finds out that a case is of another patient."""
    folder = task.case(case)
    record = replace(load_case(folder), patient=patient)
    write_json(folder / CASE_RECORD, record.to_json())
    write_json(folder / MANIFEST, {"format": 1, "files": manifest_files(folder)})


def drawn(rows: int, index: int = 1) -> NDArray[np.uint8]:
    """A label map whose first rows show one label."""
    labels_HW = np.zeros(SHAPE_HW, dtype=np.uint8)
    labels_HW[:rows] = index
    return labels_HW


def mask_results(labels_HW: NDArray[np.uint8]) -> list[dict[str, Any]]:
    return results_from_label_map(labels_HW, SEGMENTATION.scheme)


def answer(
    task: TaskFolder,
    case: str,
    results: Sequence[Mapping[str, Any]] | NDArray[np.uint8] | str,
    key: str = "1-1",
    **fields: Any,
) -> Path:
    """Land what somebody said: a label map, a class name, or results as they are."""
    if isinstance(results, np.ndarray):
        results = mask_results(results)
    elif isinstance(results, str):
        results = results_from_classes([results])
    record = AnnotationRecord(
        **{
            "case": case,
            "key": key,
            "origin": "label_studio",
            "annotator": "3",
            "updated_at": utc_now(),
            "results": tuple(results),
            "landed_at": utc_now(),
        }
        | fields
    )
    return land(task, record)


def label_cases(task: TaskFolder, numbers: range, kind: str = "segmentation") -> list[str]:
    """Cases of as many patients, each labelled once."""
    cases = []
    for number in numbers:
        case = make_case(task, number)
        said = (
            drawn(1 + number % 10)
            if kind == "segmentation"
            else ["normal", "pneumonia"][number % 2]
        )
        answer(task, case, said, key=f"{number + 1}-{number + 1}")
        cases.append(case)
    return cases
