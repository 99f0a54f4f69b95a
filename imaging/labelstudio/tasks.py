"""Tasks and predictions as Label Studio imports them."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import quote

from imaging.dataset.annotations import AnnotationRecord
from imaging.dataset.cases import CaseRecord
from imaging.errors import CodecError
from imaging.ids import checked_name, checked_task_name
from imaging.labelstudio.stack import SLICES, slice_url

Results = Sequence[Mapping[str, Any]]


def task_payload(
    task_name: str,
    case: CaseRecord,
    annotations: Sequence[AnnotationRecord] = (),
    *,
    results_of: Callable[[AnnotationRecord], Results] | None = None,
) -> dict[str, Any]:
    """The task of a case for Label Studio's import, with the labels that came with the image.

    Args:
        task_name: the task folder, `TaskNNN_what`.
        case: its preview is what annotators will see, read from the shared folder; of a volume the
            key slices, in their order.
        annotations: answers to import with the task; deleted ones are left out.
        results_of: what Label Studio gets for an answer that is a label map, see
            `imaging.dataset.label_maps.shown_results`.

    Raises:
        UnsafeNameError: a name cannot be part of a path.
        CodecError: an answer is a label map, and nothing says how to show it.
    """
    return {
        "data": _data(task_name, case),
        "annotations": [
            _annotation(record, _results(record, results_of))
            for record in annotations
            if not record.deleted
        ],
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


def _data(task_name: str, case: CaseRecord) -> dict[str, Any]:
    if case.volume is not None:
        urls = [slice_url(task_name, case.case, index) for index in case.volume.key_slices]
        return {SLICES: urls, "case": case.case}
    folder = f"dataset/{checked_task_name(task_name)}/cases/{checked_name(case.case)}"
    path = quote(f"{folder}/{checked_name(case.preview)}")
    return {"image": f"/data/local-files/?d={path}", "case": case.case}


def _results(
    record: AnnotationRecord, results_of: Callable[[AnnotationRecord], Results] | None
) -> Results:
    if results_of is not None:
        return results_of(record)
    if record.label_map is not None:
        raise CodecError(
            f"annotation {record.key} is a label map, expected a way to show it as results"
        )
    return record.results


def _annotation(record: AnnotationRecord, results: Results) -> dict[str, Any]:
    return {
        "result": list(results),
        "was_cancelled": record.skipped,
        "ground_truth": False,
        "lead_time": record.lead_time_s,
    }
