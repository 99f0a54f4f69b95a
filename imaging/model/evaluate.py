"""How well a predictor does on frozen cases: what the gate compares and what people read.

Works with the predictor that serves, on the pictures' own grids. Labels are matched by name, so
that a champion trained under an older label scheme can be compared with its successor.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imaging.dataset.cases import load_case
from imaging.dataset.snapshot import Snapshot, SnapshotCase
from imaging.errors import SnapshotError
from imaging.gate import CaseScore
from imaging.io.picture import read_label_map, read_picture
from imaging.labels import LabelScheme
from imaging.model.guess import guess_classes, guess_masks
from imaging.model.metrics import (
    MaskScores,
    dice_by_label,
    quadratic_scores,
    score_classes,
    score_masks,
    summarise_masks,
)
from imaging.model.predict import BATCH, Prediction, Predictor
from imaging.model.transforms import LabelArray

Progress = Callable[[float], None]  # share done


@dataclass(frozen=True, slots=True)
class Evaluation:
    """One model on one set of cases."""

    scores: tuple[CaseScore, ...]  # what the gate compares
    summary: dict[str, float | None]  # a few figures for people
    details: dict[str, Any]  # every figure, for metrics.json


def evaluate(
    predictor: Predictor,
    snapshot: Snapshot,
    cases: Sequence[SnapshotCase],
    progress: Progress = lambda share: None,
) -> Evaluation:
    """Score a model on cases of a snapshot, by the snapshot's labels.

    Raises:
        PictureError: a picture or mask cannot be read.
        SnapshotError: a case lacks its truth.
    """
    if not cases:
        return Evaluation((), {}, {})
    if snapshot.kind == "segmentation":
        return _evaluate_masks(predictor, snapshot, cases, progress)
    return _evaluate_classes(predictor, snapshot, cases, progress)


def guess(snapshot: Snapshot, cases: Sequence[SnapshotCase]) -> tuple[CaseScore, ...]:
    """The scores of the best answer that ignores the picture, learned from the training cases."""
    if not cases:
        return ()
    if snapshot.kind == "classification":
        odds_NK = guess_classes(len(cases), snapshot.scheme, multi_label=snapshot.multi_label)
        return _class_scores(snapshot, cases, odds_NK)
    answer = guess_masks((_truth(case) for case in snapshot.of("train")), snapshot.scheme)
    scores = []
    for case in cases:
        truth_HW = _truth(case)
        pred_HW = answer.at((truth_HW.shape[0], truth_HW.shape[1]))
        by_label = dice_by_label(score_masks(truth_HW, pred_HW, snapshot.scheme))
        scores.append(CaseScore(case.case, case.patient, by_label))
    return tuple(scores)


def _evaluate_masks(
    predictor: Predictor, snapshot: Snapshot, cases: Sequence[SnapshotCase], progress: Progress
) -> Evaluation:
    table = _index_table(predictor.scheme, snapshot.scheme)
    scores: list[CaseScore] = []
    found: list[dict[str, MaskScores | None]] = []
    rows: list[dict[str, Any]] = []
    for case, prediction in _predictions(predictor, cases, progress):
        if prediction.labels_HW is None:
            raise SnapshotError(f"{predictor.version} draws no masks, the task needs them")
        spacing_mm = load_case(case.image.parent).spacing_mm
        pred_HW = table[prediction.labels_HW]
        by_label = score_masks(_truth(case), pred_HW, snapshot.scheme, spacing_mm)
        found.append(by_label)
        scores.append(CaseScore(case.case, case.patient, dice_by_label(by_label)))
        figures = {name: None if one is None else asdict(one) for name, one in by_label.items()}
        row = {"case": case.case, "patient": case.patient, "confidence": prediction.score}
        rows.append(row | {"labels": figures})
    means = summarise_masks(found)
    summary = {"mean Dice": means.overall["dice"].value}
    summary |= {f"Dice of {name}": figures["dice"].value for name, figures in means.labels.items()}
    overall = {figure: asdict(mean) for figure, mean in means.overall.items()}
    return Evaluation(tuple(scores), summary, {"overall": overall, "cases": rows})


def _evaluate_classes(
    predictor: Predictor, snapshot: Snapshot, cases: Sequence[SnapshotCase], progress: Progress
) -> Evaluation:
    rows: list[dict[str, Any]] = []
    odds: list[list[float]] = []
    for case, prediction in _predictions(predictor, cases, progress):
        if prediction.probabilities is None:
            raise SnapshotError(f"{predictor.version} names no classes, the task needs them")
        by_name = {name: prediction.probabilities.get(name, 0.0) for name in snapshot.scheme.names}
        odds.append(list(by_name.values()))
        row = {"case": case.case, "patient": case.patient, "confidence": prediction.score}
        rows.append(row | {"truth": list(case.classes or ()), "probabilities": by_name})
    odds_NK = np.array(odds)
    report = score_classes(
        _classes(cases), odds_NK, snapshot.scheme, multi_label=snapshot.multi_label
    )
    summary = {
        "AUROC": report.auroc,
        "accuracy": report.accuracy,
        "balanced accuracy": report.balanced_accuracy,
        "F1": report.f1,
    }
    details = {"overall": asdict(report), "cases": rows}
    return Evaluation(_class_scores(snapshot, cases, odds_NK), summary, details)


def _predictions(
    predictor: Predictor, cases: Sequence[SnapshotCase], progress: Progress
) -> Iterator[tuple[SnapshotCase, Prediction]]:
    """Case by case, holding one batch of pictures in memory at a time."""
    left = iter(cases)
    done = 0
    while batch := list(islice(left, BATCH)):
        answers = predictor.predict([read_picture(case.image) for case in batch])
        yield from zip(batch, answers, strict=True)
        done += len(batch)
        progress(done / len(cases))


def _class_scores(
    snapshot: Snapshot, cases: Sequence[SnapshotCase], odds_NK: NDArray[np.float64]
) -> tuple[CaseScore, ...]:
    by_case = quadratic_scores(
        _classes(cases), odds_NK, snapshot.scheme, multi_label=snapshot.multi_label
    )
    return tuple(
        CaseScore(case.case, case.patient, scores)
        for case, scores in zip(cases, by_case, strict=True)
    )


def _classes(cases: Iterable[SnapshotCase]) -> list[tuple[str, ...]]:
    return [case.classes or () for case in cases]


def _truth(case: SnapshotCase) -> LabelArray:
    """The label map of a case; its grid was compared with the picture's when it was frozen."""
    if case.labels is None:
        raise SnapshotError(f"{case.case} has no label map, expected one for segmentation")
    height, width = load_case(case.image.parent).shape_HW
    return read_label_map(case.labels, (height, width))


def _index_table(known: LabelScheme, wanted: LabelScheme) -> NDArray[np.uint8]:
    """Index by the model's scheme → index by the snapshot's; labels gone since are background."""
    table = np.zeros(256, dtype=np.uint8)
    for label in known.labels:
        same = wanted.find(label.name)
        table[label.index] = 0 if same is None else same.index
    return table
