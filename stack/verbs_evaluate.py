"""The verbs about how good models are: `evaluate` one version, `leaderboard` of all."""

from __future__ import annotations

import argparse
import csv
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stack import console
from stack.errors import RefusedError, UsageError
from stack.home import Home
from stack.verbs_data import Parsers, task_folder
from stack.verbs_model import ELSEWHERE, chosen_model, make_folder

if TYPE_CHECKING:
    from imaging.dataset.manifest import Snapshot
    from imaging.leaderboard import Standing
    from imaging.model.evaluate import Evaluation
    from imaging.model.predict import AnyPredictor
    from imaging.model.report import Measured

EVALUATION, CASES, PAGE = "evaluation.json", "cases.csv", "evaluation.md"
DICE, CONFUSION, EXAMPLES = "dice.png", "confusion.png", "cases.png"
FILES = (EVALUATION, CASES, PAGE, DICE, CONFUSION, EXAMPLES)
SPLITS = {"test": "held-out", "validation": "validation"}


def register(verbs: Parsers[argparse.ArgumentParser]) -> None:
    """Add this module's verbs to the command line."""
    evaluate = verbs.add_parser("evaluate", help="score a version on the held-out cases")
    evaluate.add_argument("task")
    evaluate.add_argument("--version", metavar="VERSION", help="another version than the champion")
    evaluate.add_argument("--split", choices=tuple(SPLITS), default="test")
    evaluate.add_argument(
        "-o", "--output", metavar="DIR", type=Path, help="also write a page, plots, CSV and JSON"
    )
    evaluate.set_defaults(act=evaluate_version)
    board = verbs.add_parser("leaderboard", help="all versions on the same held-out cases")
    board.add_argument("task")
    board.add_argument("--json", action="store_true", help="for programs")
    board.set_defaults(act=show_leaderboard)


def evaluate_version(args: argparse.Namespace, home: Home) -> int:
    """Print the figures of a version on one split of the newest snapshot."""
    from imaging.dataset.snapshot import newest_snapshot
    from imaging.model.evaluate import evaluate
    from imaging.model.predict import load_predictor

    predictor = load_predictor(chosen_model(home, args.task, args.version))
    if args.output:
        check_evaluation_fits(args.output)
    snapshot = newest_snapshot(task_folder(home, args.task))
    cases = snapshot.of(args.split) if snapshot else ()
    what = SPLITS[args.split]
    if snapshot is None or not cases:
        raise UsageError(f"{args.task} has no {what} cases yet", hint="Label more patients.")
    progress = console.Progress(f"scoring {predictor.version} on {len(cases)} {what} cases")
    evaluation = evaluate(predictor, snapshot, cases, lambda share: progress.tell(f"{share:.0%}"))
    progress.finish()
    measured = _measured(predictor, snapshot, args.split)
    _say_figures(measured, evaluation)
    if args.output:
        _write_evaluation(args.output, measured, evaluation)
        _draw(args.output, predictor, snapshot, measured, evaluation)
        console.say(f"every case is in {args.output}")
    return 0


def check_evaluation_fits(folder: Path) -> None:
    """Make sure that no other `cases.csv` is replaced: in rawdata/ it says who the patients are.

    Raises:
        RefusedError: there is one, or a page or picture, that no evaluation has written.
        UsageError: there is a file in the folder's place.
    """
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"--output is {folder}: found a file, expected a folder", hint=ELSEWHERE)
    strangers = [name for name in FILES if (folder / name).exists()]
    if strangers and EVALUATION not in strangers:
        found = folder / strangers[0]
        raise RefusedError(f"{found} exists and is not from `evaluate`", hint=ELSEWHERE)


def _measured(predictor: AnyPredictor, snapshot: Snapshot, split: Any) -> Measured:
    from imaging.model.report import Measured

    cases = snapshot.of(split)
    bundle = predictor.bundle
    # A version was chosen on validation cases by design; on held-out ones that must not be.
    known = bundle.known_cases if split == "test" else frozenset(bundle.cases["train"])
    return Measured(
        task=snapshot.task,
        version=predictor.version,
        snapshot=snapshot.id,
        split=split,
        cases=len(cases),
        patients=len({case.patient for case in cases}),
        known=tuple(case.case for case in cases if case.case in known),
    )


def _say_figures(measured: Measured, evaluation: Evaluation) -> None:
    from imaging.model.report import mask_report, shown

    if "accuracy" in evaluation.details["overall"]:
        rows = [(name, shown(value, 4)) for name, value in evaluation.summary.items()]
        console.table((f"on {measured.snapshot}", "value"), rows)
    else:
        report = mask_report(evaluation.details)
        figures = ("dice", report.hd95, "sensitivity", "specificity")
        every = [(one.label, one.means, str(len(one.dice))) for one in report.labels]
        lines = [
            [name, *(shown(means.get(figure), 4) for figure in figures), count]
            for name, means, count in [("mean Dice", report.overall, ""), *every]
        ]
        headers = ("Dice", report.distance, "sensitivity", "specificity", "cases")
        console.table((f"on {measured.snapshot}", *headers), lines)
    if measured.known:
        console.warn(
            f"{len(measured.known)} of these cases were known to {measured.version} when it was "
            "trained or chosen; the figures flatter it"
        )


def _write_evaluation(folder: Path, measured: Measured, evaluation: Evaluation) -> None:
    from dataclasses import asdict

    from imaging.model.report import case_table

    make_folder(folder)
    record = {"measured": asdict(measured), "summary": evaluation.summary, **evaluation.details}
    (folder / EVALUATION).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    with (folder / CASES).open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows(case_table(evaluation.details, evaluation.scores))


def _draw(
    folder: Path,
    predictor: AnyPredictor,
    snapshot: Snapshot,
    measured: Measured,
    evaluation: Evaluation,
) -> None:
    """The plots, and the page that shows them."""
    from imaging.model.examples import examples
    from imaging.model.plots import plot_confusion, plot_dice, plot_examples
    from imaging.model.report import evaluation_page, mask_report

    title = f"{measured.version} on {measured.cases} {SPLITS[measured.split]} cases"
    overall, pictures = evaluation.details["overall"], {}
    if "accuracy" not in overall:
        rows = mask_report(evaluation.details).labels
        plot_dice(folder / DICE, rows, snapshot.scheme, title)
        shown = examples(predictor, snapshot, evaluation.scores)
        plot_examples(folder / EXAMPLES, shown, snapshot.scheme, f"{title}, worst first")
        pictures = {DICE: "Dice of every case", EXAMPLES: "The worst and the best cases"}
    elif overall["confusion"] is not None:
        names = snapshot.scheme.names
        plot_confusion(folder / CONFUSION, overall["confusion"], names, title)
        pictures = {CONFUSION: "What was taken for what"}
    page = evaluation_page(measured, evaluation.details, evaluation.scores, pictures)
    (folder / PAGE).write_text(page, encoding="utf-8")


def show_leaderboard(args: argparse.Namespace, home: Home) -> int:
    """Every version's place, by figures that its run measured."""
    from imaging.leaderboard import leaderboard

    task_folder(home, args.task)
    board = leaderboard(home.nas, args.task)
    if args.json:
        console.say(json.dumps(board.to_json(), indent=2, ensure_ascii=False))
        return 0
    if board.snapshot is None and not board.standings:
        console.say(f"{args.task} has no version yet; `labloop train {args.task} --now` makes one")
        return 0
    console.table(
        ("", "rank", "version", board.measure or "figure", "cases", "also"),
        [_place(one, board.measure) for one in board.standings],
    )
    where = f"on the held-out cases of {board.snapshot}" if board.snapshot else "nothing measured"
    console.say(f"{where}; * is the champion")
    return 0


def _place(one: Standing, measure: str) -> list[str]:
    figures = dict(one.measured.figures) if one.measured else {}
    main = figures.pop(measure, None)
    also = [f"{name} {value:.3f}" for name, value in figures.items() if value is not None]
    return [
        "*" if one.is_champion else "",
        "–" if one.rank is None else str(one.rank),
        one.version,
        "–" if main is None else f"{main:.4f}",
        str(one.measured.cases) if one.measured and one.measured.cases else "–",
        "; ".join(part for part in (one.note, ", ".join(also)) if part),
    ]
