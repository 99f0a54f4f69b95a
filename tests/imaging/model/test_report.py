"""The page about an evaluation: figures, how they were counted, and what was missed."""

from typing import Any

import numpy as np
import pytest

from imaging.gate import CaseScore
from imaging.labels import label_scheme
from imaging.model.metrics import dice_by_label, score_masks, summarise_masks
from imaging.model.report import (
    Measured,
    case_table,
    evaluation_page,
    mask_report,
    ranked,
)

SCHEME = label_scheme(["liver", "a|b"])
MEASURED = Measured("Task001_x", "model-1", "snap-1", "test", cases=3, patients=2)


def masks(spacing_mm: tuple[float, float] | None = None) -> tuple[dict[str, Any], list[CaseScore]]:
    """Three cases: all right; the second label missed; the second label invented."""
    from dataclasses import asdict

    truth = np.zeros((3, 6, 6), dtype=np.uint8)
    truth[:, :3] = 1
    truth[:2, 4:] = 2
    answer = truth.copy()
    answer[1, 4:] = 0
    answer[2, 5] = 2
    every = [
        score_masks(one, other, SCHEME, spacing_mm)
        for one, other in zip(truth, answer, strict=True)
    ]
    overall = {name: asdict(mean) for name, mean in summarise_masks(every).overall.items()}
    cases = [
        {
            "case": f"case-{number}",
            "patient": "p",
            "labels": {name: one and asdict(one) for name, one in found.items()},
        }
        for number, found in enumerate(every)
    ]
    scores = [
        CaseScore(f"case-{number}", "p", dice_by_label(found)) for number, found in enumerate(every)
    ]
    return {"overall": overall, "cases": cases}, scores


def test_missed_and_invented_labels_are_counted_and_pull_the_mean() -> None:
    details, _ = masks()
    liver, other = mask_report(details).labels
    assert (liver.dice, liver.missed, liver.invented) == ((1.0, 1.0, 1.0), 0, 0)
    assert (other.dice, other.missed, other.invented) == ((1.0, 0.0, 0.0), 1, 1)
    assert other.means["dice"] == pytest.approx(1 / 3)


def test_the_page_has_a_row_for_each_label_and_the_mean_without_background() -> None:
    details, scores = masks((1.0, 2.0))
    page = evaluation_page(MEASURED, details, scores, {"dice.png": "Dice"})
    assert "| liver | 1.000 ± 0.000 |" in page and "| a\\|b | 0.333" in page
    assert "**mean without background** | **0.667**" in page
    assert "HD95 (mm)" in page and "![Dice](dice.png)" in page
    assert "has Dice 0 on that case" in page and "nobody gets a free 1" in page


def test_without_a_spacing_distances_are_pixels() -> None:
    assert mask_report(masks()[0]).distance == "HD95 (px)"


def test_every_case_and_label_is_a_row_of_the_table() -> None:
    details, scores = masks()
    header, *rows = case_table(details, scores)
    assert header[:4] == ["case", "patient", "label", "score"] and "hd95_px" in header
    found = {(row[0], row[2]): dict(zip(header, row, strict=True)) for row in rows}
    assert len(found) == 6
    assert found["case-1", "a|b"]["dice"] == "0.0000" and found["case-1", "a|b"]["hd95_px"] == ""


def test_the_worst_case_comes_first_and_an_empty_one_not_at_all() -> None:
    scores = [
        CaseScore("case-b", "p", {"x": 0.9, "y": None}),
        CaseScore("case-a", "p", {"x": 0.2, "y": 0.4}),
        CaseScore("case-c", "p", {"x": None}),
    ]
    assert [(one.case, round(mean, 3)) for one, mean in ranked(scores)] == [
        ("case-a", 0.3),
        ("case-b", 0.9),
    ]


def test_cases_that_the_version_knows_are_told_in_bold() -> None:
    details, scores = masks()
    known = Measured("T", "model-1", "snap-1", "test", 3, 2, known=("case-1",))
    assert "**1 of these cases were known" in evaluation_page(known, details, scores, {})


def test_classes_have_a_page_too() -> None:
    from dataclasses import asdict

    from imaging.model.metrics import quadratic_scores, score_classes

    truth = [("liver",), ("a|b",), ("liver",)]
    odds_NK = np.array([[0.9, 0.1], [0.2, 0.8], [0.4, 0.6]])
    overall = asdict(score_classes(truth, odds_NK, SCHEME))
    found = quadratic_scores(truth, odds_NK, SCHEME)
    scores = [CaseScore(f"case-{n}", "p", one) for n, one in enumerate(found)]
    page = evaluation_page(MEASURED, {"overall": overall, "cases": []}, scores, {})
    assert "## Class by class" in page and "Accuracy 0.667" in page
    assert case_table({"overall": overall, "cases": []}, scores)[0] == [
        "case",
        "patient",
        "label",
        "score",
    ]
