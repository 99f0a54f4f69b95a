"""Tasks and predictions as Label Studio imports them."""

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

from imaging.dataset.annotations import AnnotationRecord
from imaging.dataset.cases import CaseRecord
from imaging.errors import CodecError
from imaging.ids import checked_name, checked_task_name


def task_payload(
    task_name: str, case: CaseRecord, annotations: Sequence[AnnotationRecord] = ()
) -> dict[str, Any]:
    """The task of a case for Label Studio's import, with the labels that came with the picture.

    Args:
        task_name: the task folder, `TaskNNN_what`.
        case: its preview is what annotators will see, read from the shared folder.
        annotations: answers to import with the task; deleted ones are left out.

    Raises:
        UnsafeNameError: a name cannot be part of a path.
    """
    folder = f"dataset/{checked_task_name(task_name)}/cases/{checked_name(case.case)}"
    path = quote(f"{folder}/{checked_name(case.preview)}")
    return {
        "data": {"image": f"/data/local-files/?d={path}", "case": case.case},
        "annotations": [_annotation(record) for record in annotations if not record.deleted],
    }


def prediction_payload(
    ls_task: int, version: str, score: float, results: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """A model's answer for Label Studio's import of predictions.

    Args:
        ls_task: number of the task in Label Studio.
        version: the model's version, as `champion.json` names it.
        score: confidence, 0 to 1; the lowest are asked first.
        results: regions or choices.

    Raises:
        CodecError: the score is not between 0 and 1.
    """
    if not 0 <= score <= 1:  # also refuses NaN, which is no JSON
        raise CodecError(f"score is {score}, expected 0 to 1")
    return {
        "task": ls_task,
        "model_version": version,
        "score": float(score),
        "result": list(results),
    }


def _annotation(record: AnnotationRecord) -> dict[str, Any]:
    return {
        "result": list(record.results),
        "was_cancelled": record.skipped,
        "ground_truth": False,
        "lead_time": record.lead_time_s,
    }
