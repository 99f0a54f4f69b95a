"""How well predictions agree with the truth: masks and classes, per case and summed up.

Only numpy and scipy are needed, so that results can be computed and read where torch is not
installed. Background is never scored; a label that neither truth nor prediction holds is
skipped (None), never counted as a free 1.0; index 2 never matches index 1.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from imaging.errors import GridMismatchError, ScoreError
from imaging.labels import LabelScheme

Mask = NDArray[np.bool_]
LabelMap = NDArray[np.integer]
Spacing = tuple[float, float] | tuple[float, float, float]

BLOCK = 1 << 22  # pixels compared at a time
ROUNDING = 1e-3  # a softmax in half precision may end a little above 1


@dataclass(frozen=True, slots=True)
class MaskScores:
    """One label on one picture or volume. None where a figure is not defined, never made up."""

    dice: float
    iou: float
    sensitivity: float | None  # None: the truth does not hold the label
    specificity: float | None  # None: the truth covers the whole picture
    hd95_px: float | None  # None: spacing is known, or one of the two is empty
    hd95_mm: float | None  # None: spacing is unknown, or one of the two is empty
    truth_pixels: int
    pred_pixels: int


@dataclass(frozen=True, slots=True)
class Mean:
    """An average and over how many values it was taken; None over nothing."""

    value: float | None
    count: int


@dataclass(frozen=True, slots=True)
class MaskSummary:
    """Masks of many cases: per label over its cases, then over the labels."""

    labels: Mapping[str, Mapping[str, Mean]]  # label name → figure → mean over cases
    overall: Mapping[str, Mean]  # figure → mean over labels


@dataclass(frozen=True, slots=True)
class ClassScores:
    """One class against all others, over many cases."""

    cases: int  # in which the truth holds the class
    auroc: float | None  # None: every case holds the class, or none does
    f1: float
    sensitivity: float | None  # None: no case holds the class
    specificity: float | None  # None: every case holds the class
    true_positive: int
    false_positive: int
    false_negative: int
    true_negative: int


@dataclass(frozen=True, slots=True)
class ClassReport:
    """Classes of many cases.

    A class that no case holds and no answer names is None and outside all averages. One that only
    answers name has F1 0, and is outside the averages of what is not defined for it.
    """

    cases: int
    accuracy: float  # with several classes per case: all of them right
    balanced_accuracy: float | None
    auroc: float | None  # mean over the classes, each against the rest
    f1: float | None  # mean over the classes
    classes: Mapping[str, ClassScores | None]
    confusion: tuple[tuple[int, ...], ...] | None  # rows truth, columns answer; one class per case


def score_masks(
    truth_HW: LabelMap,
    pred_HW: LabelMap,
    scheme: LabelScheme,
    spacing_mm: Spacing | None = None,
) -> dict[str, MaskScores | None]:
    """Every label of one case.

    Args:
        truth_HW: reference label map, index per pixel, 0 = background; of a volume XYZ.
        pred_HW: predicted label map on the same grid.
        scheme: the labels; their indices are the only ones either map may hold.
        spacing_mm: rows, columns, or X, Y, Z; None when unknown: distances are then in pixels.

    Returns:
        Label name → scores; None when neither map holds the label.

    Raises:
        GridMismatchError: the two shapes differ.
        ScoreError: a map is not of whole numbers or holds an index outside the scheme.

    Source: Dice 1945, doi:10.2307/1932409; HD95 as in Taha & Hanbury 2015,
    doi:10.1186/s12880-015-0068-x, on the pixels of the outlines.
    """
    if truth_HW.shape != pred_HW.shape:
        raise GridMismatchError(truth_HW.shape, pred_HW.shape)
    pairs = _count_pairs(truth_HW, pred_HW, len(scheme.labels) + 1)
    scores: dict[str, MaskScores | None] = {}
    for label in scheme.labels:
        if pairs[label.index].sum() + pairs[:, label.index].sum() == 0:
            scores[label.name] = None
            continue
        distance = hd95(truth_HW == label.index, pred_HW == label.index, spacing_mm)
        scores[label.name] = _mask_scores(pairs, label.index, distance, spacing_mm is not None)
    return scores


def hd95(truth_HW: Mask, pred_HW: Mask, spacing_mm: Spacing | None = None) -> float | None:
    """The larger of the two 95th percentiles of outline-to-outline distances.

    In mm when spacing is given, in pixels otherwise; None when a mask is empty. The border of the
    picture counts as an outline where a mask touches it.
    """
    if not truth_HW.any() or not pred_HW.any():
        return None
    window = _bounding_box(truth_HW | pred_HW)
    truth, pred = _outline(truth_HW[window]), _outline(pred_HW[window])
    sampling = spacing_mm or (1.0,) * truth_HW.ndim
    to_truth = ndimage.distance_transform_edt(~truth, sampling=sampling)[pred]
    to_pred = ndimage.distance_transform_edt(~pred, sampling=sampling)[truth]
    return float(max(np.percentile(to_truth, 95), np.percentile(to_pred, 95)))


def summarise_masks(cases: Sequence[Mapping[str, MaskScores | None]]) -> MaskSummary:
    """Average scores: each label over the cases that hold it, then over the labels.

    A label counts once however many cases hold it, so that a rare structure weighs as much as
    a common one. A missed label has Dice 0 but no HD95: compare the counts.
    """
    names = list(dict.fromkeys(name for case in cases for name in case))
    figures = [field.name for field in fields(MaskScores) if "pixels" not in field.name]
    labels = {}
    for name in names:
        scored = [score for case in cases if (score := case.get(name)) is not None]
        labels[name] = {
            figure: _mean([getattr(score, figure) for score in scored]) for figure in figures
        }
    overall = {
        figure: _mean([means[figure].value for means in labels.values()]) for figure in figures
    }
    return MaskSummary(labels, overall)


def score_classes(
    truth: Sequence[tuple[str, ...]],
    probabilities_NK: NDArray[np.floating],
    scheme: LabelScheme,
    *,
    multi_label: bool = False,
) -> ClassReport:
    """Classes of all cases at once.

    Args:
        truth: per case the names of its classes; exactly one unless `multi_label`.
        probabilities_NK: per case and label of the scheme, in the scheme's order, within [0, 1].
        scheme: the classes.
        multi_label: several classes, or none, may hold at once. The answer is then every class
            with probability 0.5 or more, otherwise the most probable one.

    Raises:
        ScoreError: no cases, a name outside the scheme, or probabilities that are none.
    """
    truth_NK = _truth_matrix(truth, scheme, multi_label)
    answer_NK = _answers(probabilities_NK, truth_NK.shape, multi_label)
    classes = {
        label.name: _class_scores(truth_NK[:, k], answer_NK[:, k], probabilities_NK[:, k])
        for k, label in enumerate(scheme.labels)
    }
    present = [scores for scores in classes.values() if scores is not None]
    rates = [_balanced(scores) if multi_label else scores.sensitivity for scores in present]
    confusion = None if multi_label else truth_NK.T.astype(int) @ answer_NK.astype(int)
    return ClassReport(
        cases=len(truth_NK),
        accuracy=float((truth_NK == answer_NK).all(axis=1).mean()),
        balanced_accuracy=_mean(rates).value,
        auroc=_mean([scores.auroc for scores in present]).value,
        f1=_mean([scores.f1 for scores in present]).value,
        classes=classes,
        confusion=None if confusion is None else tuple(map(tuple, confusion.tolist())),
    )


def auroc(positive_N: Mask, score_N: NDArray[np.floating]) -> float | None:
    """The chance that a positive case scores above a negative one; ties count half.

    None when there are no positives or no negatives. Source: Mann & Whitney 1947 with midranks,
    doi:10.1214/aoms/1177730491.
    """
    positives = int(positive_N.sum())
    negatives = len(positive_N) - positives
    if not positives or not negatives:
        return None
    _, place_N, ties = np.unique(score_N, return_inverse=True, return_counts=True)
    midranks = np.cumsum(ties) - (ties - 1) / 2
    rank_sum = float(midranks[place_N][positive_N].sum())
    return (rank_sum - positives * (positives + 1) / 2) / (positives * negatives)


def dice_by_label(scores: Mapping[str, MaskScores | None]) -> dict[str, float | None]:
    """What the gate compares for one segmented case: Dice per label."""
    return {name: None if score is None else score.dice for name, score in scores.items()}


def quadratic_scores(
    truth: Sequence[tuple[str, ...]],
    probabilities_NK: NDArray[np.floating],
    scheme: LabelScheme,
    *,
    multi_label: bool = False,
) -> list[dict[str, float | None]]:
    """What the gate compares for classified cases: 1 = sure and right, 0 = sure and wrong.

    One class per case: the case's own class gets 1 − ½ Σ (p − y)² over all classes, the others
    None; the mean over a class is then its recall, graded by how sure the answers were.
    Several classes per case: each class counts as two, `x: present` and `x: absent`, with
    1 − (p − y)²; a rare finding is not drowned by the many cases without it.

    Source: the Brier score (1950), a proper score: only honest probabilities maximise it.
    """
    truth_NK = _truth_matrix(truth, scheme, multi_label)
    _answers(probabilities_NK, truth_NK.shape, multi_label)
    squares_NK = (np.clip(probabilities_NK.astype(np.float64), 0.0, 1.0) - truth_NK) ** 2
    if not multi_label:
        score_N = np.clip(1 - squares_NK.sum(axis=1) / 2, 0.0, 1.0)
        return [
            {
                name: float(score) if holds else None
                for name, holds in zip(scheme.names, row, strict=True)
            }
            for score, row in zip(score_N, truth_NK, strict=True)
        ]
    return [
        {
            f"{name}: {state}": float(1 - square) if holds == (state == "present") else None
            for name, holds, square in zip(scheme.names, row, squares, strict=True)
            for state in ("present", "absent")
        }
        for row, squares in zip(truth_NK, squares_NK, strict=True)
    ]


def _count_pairs(truth_HW: LabelMap, pred_HW: LabelMap, size: int) -> NDArray[np.int64]:
    """Pixels or voxels per (index in truth, index in prediction)."""
    for role, array in (("truth", truth_HW), ("prediction", pred_HW)):
        if array.dtype.kind not in "ui":
            raise ScoreError(f"the {role} is {array.dtype}, expected a label map of whole numbers")
        if array.size and not 0 <= int(array.min()) <= int(array.max()) < size:
            found = sorted({int(array.min()), int(array.max())})
            raise ScoreError(f"the {role} holds indices up to {found}, expected 0 to {size - 1}")
    counts = np.zeros(size * size, dtype=np.int64)
    rows = max(1, BLOCK * len(truth_HW) // max(1, truth_HW.size))
    for start in range(0, len(truth_HW), rows):  # the codes of a CT would take 700 MB
        block = slice(start, start + rows)
        codes = truth_HW[block].astype(np.intp) * size + pred_HW[block]
        counts += np.bincount(codes.ravel(), minlength=size * size)
    return counts.reshape(size, size)


def _mask_scores(
    pairs: NDArray[np.int64], index: int, distance: float | None, in_mm: bool
) -> MaskScores:
    both = int(pairs[index, index])
    truth, pred = int(pairs[index].sum()), int(pairs[:, index].sum())
    outside = int(pairs.sum()) - truth
    return MaskScores(
        dice=2 * both / (truth + pred),
        iou=both / (truth + pred - both),
        sensitivity=both / truth if truth else None,
        specificity=1 - (pred - both) / outside if outside else None,
        hd95_px=None if in_mm else distance,
        hd95_mm=distance if in_mm else None,
        truth_pixels=truth,
        pred_pixels=pred,
    )


def _bounding_box(mask_HW: Mask) -> tuple[slice, ...]:
    found = []
    for axis in range(mask_HW.ndim):
        others = tuple(other for other in range(mask_HW.ndim) if other != axis)
        held = np.flatnonzero(mask_HW.any(axis=others))
        found.append(slice(held[0], held[-1] + 1))
    return tuple(found)


def _outline(mask_HW: Mask) -> Mask:
    """Pixels of a mask with a side on something else; beyond the array is something else."""
    outline: Mask = mask_HW & ~ndimage.binary_erosion(mask_HW)
    return outline


def _mean(values: Sequence[float | None]) -> Mean:
    known = [value for value in values if value is not None]
    return Mean(sum(known) / len(known) if known else None, len(known))


def _truth_matrix(truth: Sequence[tuple[str, ...]], scheme: LabelScheme, multi_label: bool) -> Mask:
    if not truth:
        raise ScoreError("found no cases, expected at least one")
    column = {name: k for k, name in enumerate(scheme.names)}
    truth_NK = np.zeros((len(truth), len(column)), dtype=np.bool_)
    for row, names in enumerate(truth):
        unknown = sorted(set(names) - set(column))
        if unknown:
            raise ScoreError(f"case {row} is {unknown}, expected classes among {scheme.names}")
        if len(names) != 1 and not multi_label:
            raise ScoreError(f"case {row} has {len(names)} classes, expected exactly one")
        truth_NK[row, [column[name] for name in names]] = True
    return truth_NK


def _answers(
    probabilities_NK: NDArray[np.floating], shape: tuple[int, ...], multi_label: bool
) -> Mask:
    if probabilities_NK.shape != shape:
        raise ScoreError(f"probabilities have shape {probabilities_NK.shape}, expected {shape}")
    if not ((probabilities_NK >= -ROUNDING) & (probabilities_NK <= 1 + ROUNDING)).all():
        raise ScoreError("probabilities are not all numbers from 0 to 1: the model diverged?")
    if multi_label:
        chosen: Mask = probabilities_NK >= 0.5
        return chosen
    best_N = probabilities_NK.argmax(axis=1)
    most: Mask = np.arange(shape[1]) == best_N[:, None]
    return most


def _class_scores(
    truth_N: Mask, answer_N: Mask, score_N: NDArray[np.floating]
) -> ClassScores | None:
    holds, lacks = int(truth_N.sum()), int((~truth_N).sum())
    hits, alarms = int((truth_N & answer_N).sum()), int((~truth_N & answer_N).sum())
    if not holds and not alarms:
        return None
    return ClassScores(
        cases=holds,
        auroc=auroc(truth_N, score_N),
        f1=2 * hits / (holds + hits + alarms),
        sensitivity=hits / holds if holds else None,
        specificity=1 - alarms / lacks if lacks else None,
        true_positive=hits,
        false_positive=alarms,
        false_negative=holds - hits,
        true_negative=lacks - alarms,
    )


def _balanced(scores: ClassScores) -> float | None:
    """Mean of sensitivity and specificity; sensitivity alone when nobody lacks the class, and
    nothing when nobody holds it."""
    if scores.specificity is None or scores.sensitivity is None:
        return scores.sensitivity
    return (scores.sensitivity + scores.specificity) / 2
