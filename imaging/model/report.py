"""An evaluation for people: a table of every case, and a page that sums it up.

Works from the figures of `imaging.model.evaluate`, for masks and for classes alike.
"""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from imaging.gate import CaseScore

DASH = "–"
COUNTED = """\
- A label is scored on the cases where the truth or the answer holds it. Where neither does, the
  case does not count for that label: nobody gets a free 1.
- A label that the answer misses has Dice 0 on that case; one that is drawn though the truth lacks
  it has Dice 0 too. Neither has a distance, so read HD95 beside the number of cases missed.
- The mean is over the labels, each first averaged over its cases, so that a rare label weighs as
  much as a common one. Background is never scored.
- HD95 is the larger of the two 95th percentiles of distances from outline to outline, in mm where
  the spacing is known, else in pixels. Sensitivity is the share of the truth that was found,
  specificity the share of everything else that was left alone."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What was measured, in names."""

    task: str
    version: str
    snapshot: str
    split: str
    cases: int
    patients: int
    known: tuple[str, ...] = ()  # cases among them that the version was trained or chosen on


@dataclass(frozen=True, slots=True)
class LabelRow:
    """One label over its cases."""

    label: str
    dice: tuple[float, ...]  # of every case that counts for the label, in the cases' order
    missed: int  # cases whose truth holds the label and whose answer does not
    invented: int  # the other way round
    means: Mapping[str, float | None]  # figure → mean over the cases where it is defined


@dataclass(frozen=True, slots=True)
class MaskReport:
    """Masks of many cases, as the page shows them."""

    labels: tuple[LabelRow, ...]
    overall: Mapping[str, float | None]  # figure → mean over the labels
    distance: str  # "HD95 (mm)" or "HD95 (px)"

    @property
    def hd95(self) -> str:
        return "hd95_mm" if "mm" in self.distance else "hd95_px"


def mask_report(details: Mapping[str, Any]) -> MaskReport:
    """The figures of an evaluation of masks, label by label."""
    cases = details["cases"]
    names = list(dict.fromkeys(name for case in cases for name in case["labels"]))
    overall = {figure: mean["value"] for figure, mean in details["overall"].items()}
    in_mm = overall.get("hd95_mm") is not None
    rows = []
    for name in names:
        found = [one for case in cases if (one := case["labels"].get(name)) is not None]
        means = {figure: _mean([one.get(figure) for one in found]) for figure in overall}
        rows.append(
            LabelRow(
                label=name,
                dice=tuple(one["dice"] for one in found),
                missed=sum(_size(one, "pred") == 0 for one in found),
                invented=sum(_size(one, "truth") == 0 for one in found),
                means=means,
            )
        )
    return MaskReport(tuple(rows), overall, "HD95 (mm)" if in_mm else "HD95 (px)")


def ranked(scores: Sequence[CaseScore]) -> list[tuple[CaseScore, float]]:
    """Cases with the mean of their scores, worst first; those without a score are left out."""
    found = [
        (one, mean) for one in scores if (mean := _mean(list(one.scores.values()))) is not None
    ]
    return sorted(found, key=lambda pair: (pair[1], pair[0].case))


def case_table(details: Mapping[str, Any], scores: Sequence[CaseScore]) -> list[list[str]]:
    """Every case and label as rows of text, a header first: `score` is what the gate compares."""
    figures = _figures(details)
    by_case = {row["case"]: row.get("labels", {}) for row in details.get("cases", ())}
    table = [["case", "patient", "label", "score", *figures]]
    for one in scores:
        for label, score in one.scores.items():
            found = by_case.get(one.case, {}).get(label) or {}
            values = [_plain(found.get(figure)) for figure in figures]
            table.append([one.case, one.patient, label, _plain(score), *values])
    return table


def evaluation_page(
    measured: Measured,
    details: Mapping[str, Any],
    scores: Sequence[CaseScore],
    pictures: Mapping[str, str],
) -> str:
    """The page in Markdown.

    Args:
        measured: names and counts.
        details: the evaluation's figures.
        scores: the evaluation's score of each case.
        pictures: file name → what it shows, of pictures that lie beside the page.
    """
    is_masks = "accuracy" not in details["overall"]
    parts = [
        f"# {measured.version} on {measured.cases} cases",
        _names(measured),
        *_warning(measured),
        "## Label by label" if is_masks else "## Class by class",
        _mask_table(mask_report(details)) if is_masks else _class_table(details["overall"]),
        *(f"![{text}]({name})" for name, text in pictures.items()),
        "## Best and worst",
        _extremes(scores),
    ]
    if is_masks:
        parts += ["## How it is counted", COUNTED]
    return "\n\n".join(parts) + "\n"


def shown(value: float | None, digits: int = 3) -> str:
    return DASH if value is None else f"{value:.{digits}f}"


def _names(measured: Measured) -> str:
    return (
        f"Task `{measured.task}`, snapshot `{measured.snapshot}`, split `{measured.split}`:"
        f" {measured.cases} cases of {measured.patients} patients."
    )


def _warning(measured: Measured) -> list[str]:
    if not measured.known:
        return []
    named = ", ".join(measured.known[:5]) + (" …" if len(measured.known) > 5 else "")
    return [
        f"**{len(measured.known)} of these cases were known to this version when it was trained or"
        f" chosen ({named}). The figures flatter it.**"
    ]


def _mask_table(report: MaskReport) -> str:
    lines = [
        f"| Label | Dice | median | worst | {report.distance} | Sensitivity | Specificity"
        " | Cases | Missed | Invented |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    figures = ("sensitivity", "specificity")
    for row in report.labels:
        spread = f" ± {statistics.stdev(row.dice):.3f}" if len(row.dice) > 1 else ""
        middle = shown(statistics.median(row.dice) if row.dice else None)
        lines.append(
            f"| {_cell(row.label)} | {shown(row.means.get('dice'))}{spread} | {middle}"
            f" | {shown(min(row.dice, default=None))} | {shown(row.means.get(report.hd95), 2)} | "
            + " | ".join(shown(row.means.get(figure)) for figure in figures)
            + f" | {len(row.dice)} | {row.missed} | {row.invented} |"
        )
    lines.append(
        f"| **mean without background** | **{shown(report.overall.get('dice'))}** | | |"
        f" {shown(report.overall.get(report.hd95), 2)} | "
        + " | ".join(shown(report.overall.get(figure)) for figure in figures)
        + " | | | |"
    )
    return "\n".join(lines)


def _class_table(overall: Mapping[str, Any]) -> str:
    lines = [
        "| Class | AUROC | F1 | Sensitivity | Specificity | Cases |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for name, one in overall["classes"].items():
        if one is None:
            lines.append(f"| {_cell(name)} | {DASH} | {DASH} | {DASH} | {DASH} | 0 |")
            continue
        figures = (one["auroc"], one["f1"], one["sensitivity"], one["specificity"])
        values = " | ".join(shown(value) for value in figures)
        lines.append(f"| {_cell(name)} | {values} | {one['cases']} |")
    means = [shown(overall["auroc"]), shown(overall["f1"])]
    lines.append(f"| **mean** | {' | '.join(means)} | | | |")
    accuracy, balanced = shown(overall["accuracy"]), shown(overall["balanced_accuracy"])
    return "\n".join(lines) + f"\n\nAccuracy {accuracy}, balanced accuracy {balanced}."


def _extremes(scores: Sequence[CaseScore], count: int = 3) -> str:
    cases = ranked(scores)
    if not cases:
        return "No case shows anything to score."
    lines = ["| Case | Patient | Mean score |", "|---|---|---:|"]
    chosen = cases if len(cases) <= 2 * count else [*cases[:count], *cases[-count:]]
    lines += [f"| {one.case} | {one.patient} | {mean:.3f} |" for one, mean in chosen]
    return "\n".join(lines)


def _figures(details: Mapping[str, Any]) -> list[str]:
    """The figures that masks have, in order; none for classes."""
    for case in details.get("cases", ()):
        for one in case.get("labels", {}).values():
            if one is not None:
                return list(one)
    return []


def _size(figures: Mapping[str, Any], side: str) -> int:
    """How many pixels or voxels one side drew."""
    return int(next(value for key, value in figures.items() if key.startswith(f"{side}_")))


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _plain(value: float | int | None) -> str:
    return "" if value is None else f"{value:.4f}" if isinstance(value, float) else str(value)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
