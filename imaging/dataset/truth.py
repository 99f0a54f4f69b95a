"""What is true about one case, by the answers that people gave: a label map, or classes."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from imaging.dataset.annotations import AnnotationRecord
from imaging.dataset.cases import CaseRecord
from imaging.dataset.consensus import majority_classes, majority_label_map
from imaging.errors import CodecError, ImagingError
from imaging.labelstudio.results import classes_from_results, label_map_from_results
from imaging.task import TaskConfig


@dataclass(frozen=True, slots=True)
class Truth:
    """The answers to one case as one; label map or classes are None by the task's kind."""

    labels_HW: NDArray[np.uint8] | None
    classes: tuple[str, ...] | None
    present: tuple[str, ...]  # labels that the case shows
    labels_XYZ: NDArray[np.uint8] | None = None  # of a volume, on its grid
    interpolated: tuple[int, ...] = ()  # of a volume: slices nobody drew, filled from neighbours


def truth_of(
    answers: Sequence[AnnotationRecord],
    case: CaseRecord,
    config: TaskConfig,
    base: NDArray[np.uint8] | None = None,
) -> Truth:
    """The consensus of at least one answer.

    Args:
        answers: those that count, see `answers_among`.
        case: what they are about.
        config: the task.
        base: of a volume, the label map that came with it, `labels_XYZ`; None = none did.

    Raises:
        CodecError: an answer cannot be decoded, or does not fit the task.
        GridMismatchError: an answer was drawn on another grid than the case's.
    """
    for answer in answers:
        if not answer.readable:
            raise CodecError(f"annotation {answer.key} holds no result list")
    try:
        if case.volume is not None and config.kind == "segmentation":
            return _volume_truth(answers, config, base)
        return _consensus(answers, case, config)
    except (ImagingError, MemoryError):
        raise
    except Exception as error:
        # Anybody may submit anything, and what the decoders did not think of must not stop the
        # rest of the task. No file is read here, so the error speaks about the answers.
        found = f"{type(error).__name__}: {str(error)[:200]}"
        raise CodecError(f"the answers cannot be decoded ({found})") from error


def _volume_truth(
    answers: Sequence[AnnotationRecord], config: TaskConfig, base: NDArray[np.uint8] | None
) -> Truth:
    if base is None or any(answer.label_map is None for answer in answers):
        raise CodecError("answers drawn on the slices of a volume cannot be read yet")
    indices = [index for index in np.unique(base).tolist() if index > 0]
    present = tuple(config.scheme.labels[index - 1].name for index in indices)
    return Truth(None, None, present, base)


def _consensus(answers: Sequence[AnnotationRecord], case: CaseRecord, config: TaskConfig) -> Truth:
    if config.kind == "classification":
        chosen = [
            classes_from_results(answer.results, config.scheme, multi_label=config.multi_label)
            for answer in answers
        ]
        classes = majority_classes(chosen, config.scheme, multi_label=config.multi_label)
        return Truth(None, classes, classes)
    maps = [
        label_map_from_results(answer.results, config.scheme, case.shape_HW) for answer in answers
    ]
    labels_HW = majority_label_map(maps)
    indices = np.flatnonzero(np.bincount(labels_HW.ravel()))
    present = tuple(config.scheme.labels[index - 1].name for index in indices if index > 0)
    return Truth(labels_HW, None, present)
