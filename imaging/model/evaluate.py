"""How well a predictor does on frozen cases: what the gate compares and what people read.

Works with the predictor that serves, on the images' own grids. Labels are matched by name, so
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
from imaging.dataset.volumes import read_case_labels, read_case_volume
from imaging.errors import SnapshotError
from imaging.gate import CaseScore
from imaging.io.picture import read_label_map, read_picture
from imaging.labels import LabelScheme
from imaging.model.guess import guess_classes, guess_masks
from imaging.model.metrics import (
    MaskScores,
    Spacing,
    dice_by_label,
    quadratic_scores,
    score_classes,
    score_masks,
    summarise_masks,
)
from imaging.model.predict import BATCH, AnyPredictor, Prediction, Predictor
from imaging.model.predict_volume import VolumePredictor
from imaging.model.transforms import LabelArray

Progress = Callable[[float], None]  # share done


@dataclass(frozen=True, slots=True)
class Evaluation:
    """One model on one set of cases."""

    scores: tuple[CaseScore, ...]  # what the gate compares
    summary: dict[str, float | None]  # a few figures for people
    details: dict[str, Any]  # every figure, for metrics.json


def evaluate(
    predictor: AnyPredictor,
    snapshot: Snapshot,
    cases: Sequence[SnapshotCase],
    progress: Progress = lambda share: None,
) -> Evaluation:
    """Score a model on cases of a snapshot, by the snapshot's labels.

    Raises:
        PictureError: a picture or mask cannot be read.
        SnapshotError: a case lacks its truth, or the model is one for other images.
    """
    if not cases:
        return Evaluation((), {}, {})
    if snapshot.kind == "segmentation":
        return _evaluate_masks(predictor, snapshot, cases, progress)
    if isinstance(predictor, VolumePredictor):
        raise SnapshotError(f"{predictor.version} names no classes, the task needs them")
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
        pred_HW = answer.at(truth_HW.shape)
        by_label = dice_by_label(score_masks(truth_HW, pred_HW, snapshot.scheme))
        scores.append(CaseScore(case.case, case.patient, by_label))
    return tuple(scores)


def _evaluate_masks(
    predictor: AnyPredictor,
    snapshot: Snapshot,
    cases: Sequence[SnapshotCase],
    progress: Progress,
) -> Evaluation:
    table = _index_table(predictor.scheme, snapshot.scheme)
    scores: list[CaseScore] = []
    found: list[dict[str, MaskScores | None]] = []
    rows: list[dict[str, Any]] = []
    for case, answer in _label_maps(predictor, cases, progress):
        pred_HW = table[answer.labels_HW]
        by_label = score_masks(_truth(case), pred_HW, snapshot.scheme, answer.spacing_mm)
        found.append(by_label)
        scores.append(CaseScore(case.case, case.patient, dice_by_label(by_label)))
        figures = {name: None if one is None else asdict(one) for name, one in by_label.items()}
        row = {"case": case.case, "patient": case.patient, "confidence": answer.score}
        rows.append(row | {"labels": figures})
    means = summarise_masks(found)
    summary = {"mean Dice": means.overall["dice"].value}
    summary |= {f"Dice of {name}": figures["dice"].value for name, figures in means.labels.items()}
    overall = {figure: asdict(mean) for figure, mean in means.overall.items()}
    return Evaluation(tuple(scores), summary, {"overall": overall, "cases": rows})


@dataclass(frozen=True, slots=True, eq=False)
class _LabelMap:
    """A model's answer about one case: HW of a picture, XYZ of a volume."""

    labels_HW: LabelArray
    score: float
    spacing_mm: Spacing | None


def _label_maps(
    predictor: AnyPredictor, cases: Sequence[SnapshotCase], progress: Progress
) -> Iterator[tuple[SnapshotCase, _LabelMap]]:
    takes_volumes = isinstance(predictor, VolumePredictor)
    strange = [case.case for case in cases if case.is_volume != takes_volumes]
    if strange:
        made_for = "volumes" if takes_volumes else "pictures"
        raise SnapshotError(f"{predictor.version} is made for {made_for}, {strange[0]} is none")
    if isinstance(predictor, VolumePredictor):
        for done, case in enumerate(cases, start=1):
            volume = read_case_volume(case)
            answer = predictor.predict([volume])[0]
            yield case, _LabelMap(answer.labels_XYZ, answer.score, volume.grid.spacing_mm)
            progress(done / len(cases))
        return
    for case, prediction in _predictions(predictor, cases, progress):
        if prediction.labels_HW is None:
            raise SnapshotError(f"{predictor.version} draws no masks, the task needs them")
        spacing_mm = load_case(case.image.parent).spacing_mm
        yield case, _LabelMap(prediction.labels_HW, prediction.score, spacing_mm)


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
    """The label map of a case; its grid was compared with the image's when it was frozen."""
    if case.labels is None:
        raise SnapshotError(f"{case.case} has no label map, expected one for segmentation")
    record = load_case(case.image.parent)
    if record.volume is not None:
        return read_case_labels(case, record.volume.grid)
    height, width = record.shape_HW
    return read_label_map(case.labels, (height, width))


def _index_table(known: LabelScheme, wanted: LabelScheme) -> NDArray[np.uint8]:
    """Index by the model's scheme → index by the snapshot's; labels gone since are background."""
    table = np.zeros(256, dtype=np.uint8)
    for label in known.labels:
        same = wanted.find(label.name)
        table[label.index] = 0 if same is None else same.index
    return table
