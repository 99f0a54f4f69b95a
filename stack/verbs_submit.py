"""The verb `submit`: a challenge's test set answered, checked and packed, with a proof."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, cast

from stack import console
from stack.errors import RefusedError, UsageError
from stack.home import Home
from stack.verbs_data import Parsers, task_config, task_folder
from stack.verbs_model import chosen_model

if TYPE_CHECKING:
    from collections.abc import Sequence

    from imaging.export.challenge import ChallengeVolume
    from imaging.export.leak import Fingerprint, Proof
    from imaging.export.submission import VolumeModel
    from imaging.layout import Nas, TaskFolder
    from imaging.model.bundle import Bundle
    from imaging.task import TaskConfig


def register(verbs: Parsers[argparse.ArgumentParser]) -> None:
    """Add this module's verb to the command line."""
    submit = verbs.add_parser("submit", help="answer a challenge's test set: a checked, flat zip")
    submit.add_argument("task")
    submit.add_argument("--version", metavar="VERSION", help="another version than the champion")
    submit.add_argument("-o", "--output", metavar="FILE.zip", type=Path, help="the zip")
    alone = submit.add_mutually_exclusive_group()
    alone.add_argument("--dry-run", action="store_true", help="only check volumes and version")
    alone.add_argument("--check", metavar="FILE.zip", type=Path, help="only check this zip")
    submit.set_defaults(act=submit_task)


def submit_task(args: argparse.Namespace, home: Home) -> int:
    """Predict every volume of rawdata/imagesTs and write the zip; or only check."""
    task = task_folder(home, args.task)
    config = task_config(task)
    if not config.is_volume or config.kind != "segmentation":
        raise UsageError(
            f"{task.name} is no task of label maps on volumes",
            hint="`labloop predict` answers pictures.",
        )
    if args.check:
        return _check(args, home, task, config)
    return _submit(args, home, task, config)


def _check(args: argparse.Namespace, home: Home, task: TaskFolder, config: TaskConfig) -> int:
    from imaging.export.challenge import find_test_volumes, grid_of_file
    from imaging.export.submission import check_submission

    if not args.check.is_file():
        raise UsageError(f"{args.check} is not there, or no file", hint="--check takes a zip.")
    tests = find_test_volumes(task.rawdata, _channels(args, home, config))
    progress = console.Progress(f"checking {args.check}")
    check_submission(
        args.check,
        {test.answer: grid_of_file(test.files[0]) for test in tests},
        config.scheme,
        lambda name, done, of: progress.tell(f"{name}, {done} of {of}"),
    )
    progress.finish(f"{len(tests)} label maps, each on its image's grid, only known labels")
    return 0


def _channels(args: argparse.Namespace, home: Home, config: TaskConfig) -> int:
    """How many files a volume has: as the model says, or task.yaml where there is none."""
    from imaging.model.bundle import read_bundle

    try:
        return read_bundle(chosen_model(home, args.task, args.version)).recipe.channels
    except UsageError:
        if args.version is not None:
            raise
        return max(1, len(config.volume.channels))


def _submit(args: argparse.Namespace, home: Home, task: TaskFolder, config: TaskConfig) -> int:
    from imaging.export.challenge import find_test_volumes
    from imaging.export.submission import check_target, write_submission
    from imaging.model.bundle import load_bundle
    from imaging.model.predict import load_predictor

    bundle = load_bundle(chosen_model(home, args.task, args.version))
    if bundle.scheme.names != config.scheme.names:
        raise RefusedError(
            f"{bundle.version} draws {', '.join(bundle.scheme.names)}; task.yaml says "
            f"{', '.join(config.scheme.names)}",
            hint="Choose a version that was trained with these labels, in this order.",
        )
    target = args.output or Path.cwd() / f"{task.name}_{bundle.version}.zip"
    check_target(target)
    tests = find_test_volumes(task.rawdata, bundle.recipe.channels)
    prints, proof = _prove(home.nas, bundle, tests)
    if args.dry_run:
        console.say(f"nothing was written; {target} would hold {_named(tests)}")
        return 0
    predictor = load_predictor(bundle.folder)
    if not predictor.takes_volumes:
        raise RefusedError(
            f"{bundle.version} was trained on pictures", hint="Choose one trained on volumes."
        )
    progress = console.Progress(f"answering {len(tests)} volumes with {bundle.version}")
    write_submission(
        target,
        tests,
        cast("VolumeModel", predictor),
        lambda name, done, of: progress.tell(f"{name}, {done} of {of} done"),
    )
    progress.finish(f"{target} holds {_named(tests)}")
    beside = _write_proof(target, tests, prints, proof)
    console.say(f"{beside} proves that none of them trained {bundle.version}")
    return 0


def _prove(
    nas: Nas, bundle: Bundle, tests: Sequence[ChallengeVolume]
) -> tuple[list[Fingerprint], Proof]:
    """Make sure that neither the version nor what it began with saw a test volume.

    Raises:
        SubmissionError: it did; the volumes are named.
    """
    from imaging.errors import SubmissionError
    from imaging.export.challenge import read_channels
    from imaging.export.leak import fingerprint, prove

    progress = console.Progress(f"comparing {len(tests)} volumes with what trained the version")
    prints = []
    for done, test in enumerate(tests):
        progress.tell(f"{test.name}, {done} of {len(tests)}")
        prints.append(fingerprint(test.name, read_channels(test)))
    proof = prove(nas, bundle, prints, progress.tell)
    if proof.leaks:
        progress.finish("refused")
        raise SubmissionError(
            f"{bundle.version} has seen the test set",
            proof.leaks,
            hint="Remove their labels, train again, and submit that version.",
        )
    progress.finish(f"none was among its {len(proof.known_cases)} cases")
    for note in proof.notes:
        console.warn(note)
    return prints, proof


def _write_proof(
    target: Path, tests: Sequence[ChallengeVolume], prints: Sequence[Fingerprint], proof: Proof
) -> Path:
    """`<zip>.proof.json` beside the zip: challenges want nothing else inside it."""
    from imaging.ids import utc_now
    from imaging.publish import sha256_of, write_json

    volumes = {
        test.answer: one.to_json() | {"files": {path.name: sha256_of(path) for path in test.files}}
        for test, one in zip(tests, prints, strict=True)
    }
    path = target.with_name(f"{target.stem}.proof.json")
    record = {
        "format": 1,
        "task": proof.lineage[0].bundle.task,
        "made_at": utc_now(),
        "zip": target.name,
        "zip_sha256": sha256_of(target),
        "volumes": volumes,
    }
    write_json(path, record | proof.to_json())
    return path


def _named(tests: Sequence[ChallengeVolume]) -> str:
    shown = ", ".join(test.answer for test in tests[:3])
    return f"{len(tests)} label maps: {shown}{' …' if len(tests) > 3 else ''}"
