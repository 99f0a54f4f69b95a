"""What is true about one case, by the answers that people gave: a label map, or classes.

About a volume, people answer on the slices that they were shown: a slice without regions says that
nothing is there. The other slices are those of the label map that came with the volume; where none
did, they are filled from the shown ones as task.yaml says (`interpolate`), and named. Of several
people's answers each is completed on its own before they are put together.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from imaging.dataset.annotations import AnnotationRecord
from imaging.dataset.cases import CaseRecord, VolumeFacts
from imaging.dataset.consensus import majority_classes, majority_label_map
from imaging.dataset.interpolate import fill_slices
from imaging.errors import CodecError, GridMismatchError, ImagingError
from imaging.labels import indices_in
from imaging.labelstudio.plane import slice_of
from imaging.labelstudio.results import classes_from_results, label_map_from_results
from imaging.labelstudio.stack import label_volume_from_results
from imaging.task import TaskConfig

LabelArray = NDArray[np.uint8]
Base = LabelArray | None  # labels_XYZ of what came with a volume


@dataclass(frozen=True, slots=True)
class Truth:
    """The answers to one case as one; label map or classes are None by the task's kind."""

    labels_HW: LabelArray | None
    classes: tuple[str, ...] | None
    present: tuple[str, ...]  # labels that the case shows
    labels_XYZ: LabelArray | None = None  # of a volume, on its grid
    interpolated: tuple[int, ...] = ()  # of a volume: slices that were filled for all who answered


def truth_of(
    answers: Sequence[AnnotationRecord],
    case: CaseRecord,
    config: TaskConfig,
    base: Base = None,
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
            return _volume_truth(answers, case.volume, config, base)
        return _consensus(answers, case, config)
    except (ImagingError, MemoryError, ImportError):
        raise  # none of them is the answers' fault
    except Exception as error:
        # Anybody may submit anything, and what the decoders did not think of must not stop the
        # rest of the task. No file is read here, so the error speaks about the answers.
        found = f"{type(error).__name__}: {str(error)[:200]}"
        raise CodecError(f"the answers cannot be decoded ({found})") from error


def _volume_truth(
    answers: Sequence[AnnotationRecord], volume: VolumeFacts, config: TaskConfig, base: Base
) -> Truth:
    maps, inferred = [], []
    for answer in answers:
        if answer.label_map is not None:
            if base is None:
                raise CodecError(f"annotation {answer.key} is a label map that was not read")
            maps.append(base)
            inferred.append(frozenset[int]())
        else:
            labels_XYZ, filled = _whole_volume(answer, volume, config, base)
            maps.append(labels_XYZ)
            inferred.append(frozenset(filled))
    labels_XYZ = majority_label_map(maps)
    interpolated = tuple(sorted(frozenset.intersection(*inferred)))
    return Truth(None, None, _present(labels_XYZ, config), labels_XYZ, interpolated)


def _whole_volume(
    answer: AnnotationRecord, volume: VolumeFacts, config: TaskConfig, base: Base
) -> tuple[LabelArray, tuple[int, ...]]:
    """What one person said about a volume, and the slices that were inferred from others."""
    plane = volume.plane
    items = _shown(answer, volume)
    labels_XYZ = label_volume_from_results(answer.results, config.scheme, plane, items)
    if base is None:
        fill, spacing_mm = config.annotation.fill, volume.grid.spacing_mm
        return fill_slices(labels_XYZ, plane.axis, items, fill, spacing_mm=spacing_mm)
    if base.shape != labels_XYZ.shape:
        raise GridMismatchError(labels_XYZ.shape, base.shape)
    for index in set(range(plane.count)) - set(items):
        slice_of(labels_XYZ, plane.axis, index)[...] = slice_of(base, plane.axis, index)
    return labels_XYZ, ()


def _shown(answer: AnnotationRecord, volume: VolumeFacts) -> Sequence[int]:
    """The slices that an answer is about, by the place of their picture in the task."""
    if answer.items is not None:
        return answer.items
    if answer.origin == "import":
        return range(volume.plane.count)
    raise CodecError(
        f"annotation {answer.key} does not say which slices its task showed, expected items",
        hint="Edit and submit it again in Label Studio: it then lands with its slices.",
    )


def _present(labels: LabelArray, config: TaskConfig) -> tuple[str, ...]:
    """The labels that a label map shows."""
    return tuple(config.scheme.labels[index - 1].name for index in indices_in(labels) if index)


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
    return Truth(labels_HW, None, _present(labels_HW, config))
