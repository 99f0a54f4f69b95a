"""The verb `predict`: a model's answers on any files."""

from __future__ import annotations

import argparse
import csv
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from stack import console
from stack.errors import RefusedError, UsageError
from stack.home import Home
from stack.verbs_data import Parsers, task_folder, version_folder

if TYPE_CHECKING:
    from imaging.model.predict import Prediction, Predictor

ANSWERS = "predictions.csv"
ELSEWHERE = "Choose an empty folder for --output, or one that the same verb has written to."
ANSWER_COLUMNS = ("file", "version", "score")  # then one per label
MASK = "mask"  # of volumes, before the labels: the file that was written


def register(verbs: Parsers[argparse.ArgumentParser]) -> None:
    """Add this module's verb to the command line."""
    predict = verbs.add_parser("predict", help="the champion's answers on pictures or volumes")
    predict.add_argument("task")
    predict.add_argument(
        "files", metavar="FILE", nargs="+", type=Path,
        help="PNG, JPEG, TIFF; of volumes NIfTI, NRRD, or a folder of DICOM",
    )  # fmt: skip
    predict.add_argument("-o", "--output", metavar="DIR", type=Path, required=True)
    predict.add_argument("--version", metavar="VERSION", help="another version than the champion")
    predict.set_defaults(act=predict_files)


def chosen_model(home: Home, task: str, version: str | None) -> Path:
    """The bundle folder of a version, or of the champion.

    Raises:
        UsageError: there is no such version, or no champion yet.
    """
    from imaging.registry import champion

    task_folder(home, task)
    if version is None:
        current = champion(home.nas, task)
        if current is None:
            raise UsageError(f"{task} has no champion yet", hint="`labloop train TASK --now`")
        version = current.version
    return version_folder(home, task, version)


def predict_files(args: argparse.Namespace, home: Home) -> int:
    """Write one label map per picture, or one line per picture, and predictions.csv for all."""
    from imaging.errors import PictureError
    from imaging.io.picture import read_picture, write_label_map
    from imaging.model.predict import Predictor, load_predictor

    predictor = load_predictor(chosen_model(home, args.task, args.version))
    if not isinstance(predictor, Predictor):
        from stack.predict_volumes import predict_volumes

        return predict_volumes(predictor, args.files, args.output)
    names = [file.stem for file in args.files]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated and predictor.kind == "segmentation":
        raise UsageError(f"found several files called {', '.join(repeated)}: masks would collide")
    masks = {mask_name(file) for file in args.files} if predictor.kind == "segmentation" else set()
    check_nothing_is_lost(args.output, {ANSWERS, *masks}, args.files)
    make_folder(args.output)
    progress = console.Progress(f"predicting with {predictor.version}")
    answered = refused = 0
    with (args.output / ANSWERS).open("w", newline="", encoding="utf-8") as stream:
        sheet = csv.writer(stream)
        sheet.writerow((*ANSWER_COLUMNS, *predictor.scheme.names))
        for number, file in enumerate(args.files, start=1):
            try:
                prediction = predictor.predict([read_picture(file)])[0]
            except (PictureError, OSError) as error:
                console.complain(
                    f"{file}: {_reason(error)}", "Expected PNG, JPEG or TIFF pictures."
                )
                refused += 1
                continue
            # The row first: a mask that no row names would not be known as ours the next time.
            sheet.writerow(_row(file, predictor, prediction))
            stream.flush()
            if prediction.labels_HW is not None:
                write_label_map(args.output / mask_name(file), prediction.labels_HW)
            answered += 1
            progress.tell(f"{number} of {len(args.files)}")
    progress.finish(f"{answered} of {len(args.files)} answered, see {args.output}")
    return 1 if refused else 0


def _reason(error: Exception) -> str:
    return (isinstance(error, OSError) and error.strerror) or str(error)


def make_folder(folder: Path) -> None:
    """Make the folder that answers go to.

    Raises:
        UsageError: it is a file, or cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"--output is {folder}: {error.strerror}, expected a folder") from error


def mask_name(file: Path) -> str:
    return f"{file.stem}.png"


def check_nothing_is_lost(output: Path, names: set[str], inputs: Sequence[Path]) -> None:
    """Make sure that writing these names replaces nothing but what `predict` wrote before.

    Raises:
        RefusedError: a target is an input, or a file that no earlier predictions.csv names.
    """
    pictures = {file.resolve() for file in inputs}
    ours = _written_before(output)
    for name in sorted(names):
        target = output / name
        if target.resolve() in pictures:
            raise RefusedError(
                f"{target} is one of the pictures and would be overwritten", hint=ELSEWHERE
            )
        if target.exists() and name not in ours:
            raise RefusedError(f"{target} exists and is not from `predict`", hint=ELSEWHERE)


def _written_before(output: Path) -> set[str]:
    """The files that an earlier `predict` wrote here, as its predictions.csv tells."""
    try:
        with (output / ANSWERS).open(newline="", encoding="utf-8") as stream:
            header, *rows = csv.reader(stream)
    except (OSError, ValueError, csv.Error):  # none, not text, or empty
        return set()
    if tuple(header[: len(ANSWER_COLUMNS)]) != ANSWER_COLUMNS:
        return set()
    column = len(ANSWER_COLUMNS)
    if header[column : column + 1] == [MASK]:
        return {ANSWERS, *(row[column] for row in rows if len(row) > column)}
    return {ANSWERS, *(mask_name(Path(row[0])) for row in rows if row)}


def _row(file: Path, predictor: Predictor, prediction: Prediction) -> list[object]:
    """Score, then per label the probability of the class, or the pixels of the mask."""
    if prediction.labels_HW is not None:
        labels_HW = prediction.labels_HW
        values: list[object] = [
            int((labels_HW == one.index).sum()) for one in predictor.scheme.labels
        ]
    else:
        probabilities = prediction.probabilities or {}
        values = [f"{probabilities.get(name, 0.0):.4f}" for name in predictor.scheme.names]
    return [str(file), predictor.version, f"{prediction.score:.4f}", *values]
