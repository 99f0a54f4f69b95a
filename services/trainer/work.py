"""`python -m services.trainer.work TASK RUN CLAIM`: one attempt at one run, in its own process.

Snapshot, plan, training, bundle, verdict. Every step looks first whether it is done already, so
that an attempt goes on where a killed one stopped, and never makes a second bundle or verdict.
"""

import argparse
import contextlib
import logging
import math
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch

from imaging.dataset.snapshot import Snapshot, load_snapshot
from imaging.dataset.volumes import read_case_labels, read_case_volume
from imaging.errors import (
    ImagingError,
    NasGoneError,
    RegistryError,
    TaskConfigError,
    os_error_beneath,
)
from imaging.ids import new_id
from imaging.layout import Nas
from imaging.model.bundle import WEIGHTS, Bundle, describe_model, load_bundle, write_bundle
from imaging.model.cleaning import Cleanings
from imaging.model.data import Prepared, prepare
from imaging.model.evaluate import Evaluation, evaluate
from imaging.model.pieces import choose_cleanings
from imaging.model.predict import AnyPredictor
from imaging.model.predict_volume import VolumePredictor
from imaging.model.volume_data import PreparedVolumes, Store, prepare_volumes
from imaging.publish import MANIFEST
from imaging.recipes.facts import spread
from imaging.recipes.recipe import PictureRecipe, Recipe, VolumeRecipe
from imaging.resample import LabelArray
from imaging.runs import RunState, Stage, load_request, load_state, save_state
from imaging.task import TaskConfig, load_task
from services.trainer.board import TensorBoard
from services.trainer.claims import Lease
from services.trainer.errors import (
    HopelessRunError,
    InterruptedRunError,
    LeaseLostError,
    is_full,
)
from services.trainer.exits import CRASHED, DONE, GIVEN_BACK, HOPELESS, PAUSED
from services.trainer.judging import judge_run
from services.trainer.loop import Surroundings, Trained, TrainingData, train
from services.trainer.plan import TrainingPlan, settle_plan
from services.trainer.settings import TrainerSettings
from stack.runtime.log import start_logging

log = logging.getLogger("services.trainer.work")

TRAINING_SHARE = 0.9  # of a run's progress; the rest is export, evaluation and verdict
STATE_EVERY_S = 2.0
CLEANED = 20  # validation volumes that postprocessing is chosen on


class Attempt:
    """One attempt at one run: its folders, its state, and when to stop."""

    def __init__(self, nas: Nas, lease: Lease, settings: TrainerSettings) -> None:
        self.nas, self.lease, self.settings = nas, lease, settings
        self.run = lease.run
        self.state = load_state(self.run)
        self.told = 0.0
        self.is_stopping = threading.Event()
        self.device = choose_device(settings.device)

    def tell(self, stage: Stage, progress: float, message: str, *, at_once: bool = False) -> None:
        """Write state.json, every two seconds at most, and stop here when asked to.

        Raises:
            InterruptedRunError: the trainer is shutting down.
        """
        if self.is_stopping.is_set():
            raise InterruptedRunError(f"run {self.run.run_id} was interrupted")
        if at_once or time.monotonic() - self.told >= STATE_EVERY_S:
            self.told = time.monotonic()
            self.save(replace(self.state, state=stage, progress=progress, message=message))

    def save(self, state: RunState) -> None:
        self.state = state
        save_state(self.run, state)

    def fail(self, reason: str) -> int:
        """Write that the run has failed for good, and why."""
        log.error("run %s failed: %s", self.run.run_id, reason)
        self.save(replace(self.state, state="failed", message=reason))
        return HOPELESS

    def note(self, trouble: str) -> int:
        """Write what stopped this attempt; the next one may go better."""
        # The same share may be what the trouble is about; the log has it in any case.
        with contextlib.suppress(OSError):
            self.save(replace(self.state, message=trouble))
        return CRASHED

    def perform(self) -> None:
        """All steps, those skipped that are done."""
        request = load_request(self.run)
        folder = self.nas.task(request.task)
        config = load_task(folder.config)
        self.tell("training", self.state.progress, "reading the snapshot", at_once=True)
        snapshot = load_snapshot(folder.snapshot(request.snapshot))
        bundle, evaluation = self._bundle(config, snapshot)
        self.tell("evaluating", 0.95, "comparing with the champion", at_once=True)
        self.lease.check()
        verdict = judge_run(self.nas, self.run, bundle, snapshot, config.gate, evaluation)
        word = "promoted" if verdict.promote else "not promoted"
        message = f"{word}: {verdict.reason}"
        self.save(replace(self.state, state="judged", progress=1.0, message=message))
        log.info("run %s: candidate %s %s", self.run.run_id, bundle.version, message)

    def _bundle(self, config: TaskConfig, snapshot: Snapshot) -> tuple[Bundle, Evaluation | None]:
        """The run's bundle: the one published already, or a new one with its evaluation."""
        models = self.nas.model(snapshot.task)
        version = self.state.version
        if version is not None and (models.version(version) / MANIFEST).is_file():
            log.info("run %s: went on with published %s", self.run.run_id, version)
            return load_bundle(models.version(version)), None
        plan = settle_plan(
            self.nas, self.run, config, snapshot, accelerated=self.device.type == "cuda"
        )
        trained, seconds_of_data = self._train(plan, snapshot)
        if version is None:
            # Written down before anything is published: whoever goes on uses the same name.
            version = new_id("model")
            self.save(replace(self.state, version=version))
        self.tell("evaluating", TRAINING_SHARE, "exporting the model", at_once=True)
        record = describe_model(
            models.version(version),
            self.run.run_id,
            plan.recipe,
            snapshot,
            {
                "start_from": plan.start_from,
                "iterations": trained.iterations,
                "epochs": round(trained.epochs, 1),
                "seconds": round(trained.elapsed_s, 1),
                "seconds_of_data": round(seconds_of_data, 1),
                "validation_score": trained.validation,
                "device": self.device.type,
            },
        )
        found: list[Evaluation] = []

        def measure(predictor: AnyPredictor) -> dict[str, float | None]:
            found.append(
                evaluate(
                    predictor,
                    snapshot,
                    snapshot.of("test"),
                    lambda share: self.tell("evaluating", 0.91 + 0.04 * share, "measuring"),
                )
            )
            self.lease.check()
            return found[0].summary

        def choose(predictor: VolumePredictor) -> Cleanings:
            self.tell("evaluating", 0.905, "choosing the postprocessing")
            return postprocessing_for(predictor, snapshot)

        return write_bundle(record, trained.weights, measure, choose), found[0]

    def _train(self, plan: TrainingPlan, snapshot: Snapshot) -> tuple[Trained, float]:
        recipe, scheme = plan.recipe, snapshot.scheme
        began = time.monotonic()
        data = prepare_data(snapshot, recipe)
        seconds = time.monotonic() - began
        check_trainable(data.train, scheme.names)
        start = None
        if plan.start_from is not None:
            start = torch.load(
                self.nas.model(snapshot.task).version(plan.start_from) / WEIGHTS,
                map_location="cpu",
                weights_only=True,
            )
        log.info(
            "run %s: training began: %d cases, %d for validation, %.0f s, on %s",
            *(self.run.run_id, len(data.train), len(data.validation), recipe.budget_s),
            self.device.type,
        )
        with TensorBoard(self.run.root, scheme) as board:
            around = Surroundings(
                checkpoint=self.run.checkpoints / "last.pt",
                board=board,
                report=lambda share, text: self.tell("training", TRAINING_SHARE * share, text),
                device=self.device,
                is_stopping=self.is_stopping.is_set,
            )
            return train(recipe, data, around, start), seconds


def prepare_data(snapshot: Snapshot, recipe: Recipe) -> TrainingData:
    """The training and validation cases as arrays.

    Raises:
        PictureError, GridMismatchError, SnapshotError: cases cannot be read.
        OSError: volumes that do not fit into memory do not fit onto the local disk either.
    """
    train, validation = snapshot.of("train"), snapshot.of("validation")
    if isinstance(recipe, VolumeRecipe):
        store = Store()
        return TrainingData(
            prepare_volumes(train, recipe, store), prepare_volumes(validation, recipe, store)
        )
    if isinstance(recipe, PictureRecipe):
        scheme = snapshot.scheme
        return TrainingData(prepare(train, scheme, recipe), prepare(validation, scheme, recipe))
    raise HopelessRunError(f"nothing is known about how recipe {recipe.name} prepares cases")


def postprocessing_for(predictor: VolumePredictor, snapshot: Snapshot) -> Cleanings:
    """What makes the answers on validation cases better once it is done to them."""
    cases = spread(snapshot.of("validation"), CLEANED)

    def answers() -> Iterator[tuple[LabelArray, LabelArray, float]]:
        for case in cases:
            volume = read_case_volume(case)
            truth_XYZ = read_case_labels(case, volume.grid)
            yield truth_XYZ, predictor.uncleaned(volume), math.prod(volume.grid.spacing_mm)

    return choose_cleanings(answers(), snapshot.scheme)


def check_trainable(data: Prepared | PreparedVolumes, names: tuple[str, ...]) -> None:
    """Make sure that the training cases can teach anything.

    Raises:
        HopelessRunError: no label is drawn in them, or they are all of one class.
    """
    if not shows_a_label(data):
        raise HopelessRunError(
            f"none of the {len(data)} training cases shows a label, expected {', '.join(names)}"
        )
    if isinstance(data, Prepared) and data.classes_NK is not None:
        shares_K = data.classes_NK.mean(0)
        if not ((shares_K > 0) & (shares_K < 1)).any():
            held = [name for name, share in zip(names, shares_K, strict=True) if share > 0]
            raise HopelessRunError(
                f"all {len(data)} training cases are {' and '.join(held) or 'without a class'}; "
                "expected at least two different answers"
            )


def shows_a_label(data: Prepared | PreparedVolumes) -> bool:
    """Whether any label is drawn anywhere; always true of classes."""
    if isinstance(data, PreparedVolumes):
        return any(volume.places for volume in data.volumes)
    return data.labels_NHW is None or bool(data.labels_NHW.any())


def choose_device(wanted: str) -> torch.device:
    """Where to train: on a GPU when there is one, unless the settings say otherwise."""
    if wanted == "auto":
        wanted = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(wanted)


def perform(attempt: Attempt) -> int:
    """Run one attempt; the exit code tells the parent what came of it."""
    try:
        attempt.perform()
    except (InterruptedRunError, LeaseLostError) as error:
        log.info("%s", error)
        return GIVEN_BACK
    except Exception as error:
        return _what_follows(attempt, error)
    return DONE


def _what_follows(attempt: Attempt, error: Exception) -> int:
    """Pause, try again or give up: by what an attempt was ended by, and by what lies beneath."""
    run_id = attempt.run.run_id
    # A share that went away looks like missing files of every kind: ask for it first.
    if is_full(error) or not _is_mounted(attempt.nas):
        log.warning("run %s: the share is gone or full: %s", run_id, error)
        return PAUSED
    if may_pass(error):
        log.warning("run %s: met trouble that may pass", run_id, exc_info=error)
        return attempt.note(str(error))
    if isinstance(error, HopelessRunError):
        return attempt.fail(str(error))
    if isinstance(error, ImagingError):
        # Bad recipes, snapshots and pictures are as bad the next time.
        return attempt.fail(f"{error}. {error.hint}")
    log.error("run %s: an attempt crashed", run_id, exc_info=error)
    name = type(error).__name__
    return attempt.note(f"the training crashed ({name}); the trainer's log tells where")


def may_pass(error: Exception) -> bool:
    """Whether the same step may go well in a moment.

    True of whatever the share did not let us read or write, of a champion that changed meanwhile,
    and of a task.yaml that somebody is just saving.
    """
    passing = isinstance(error, RegistryError | TaskConfigError)
    return passing or os_error_beneath(error) is not None


def _is_mounted(nas: Nas) -> bool:
    try:
        nas.require_marker()
    except (NasGoneError, OSError):
        return False
    return True


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="services.trainer.work", description=__doc__)
    parser.add_argument("task")
    parser.add_argument("run")
    parser.add_argument("claim", type=int, help="number of the lease that the parent holds")
    parsed = parser.parse_args(arguments)
    settings = TrainerSettings.from_env(os.environ)
    start_logging(settings.log_level)
    os.nice(settings.nice)
    if settings.threads:
        torch.set_num_threads(settings.threads)
    nas = Nas(settings.nas_root)
    attempt = Attempt(nas, Lease(nas.run(parsed.task, parsed.run), parsed.claim), settings)
    signal.signal(signal.SIGTERM, lambda *_: attempt.is_stopping.set())
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent, which sends SIGTERM
    threading.Thread(target=_die_with_parent, daemon=True).start()
    return perform(attempt)


def _die_with_parent() -> None:
    """End at once when the parent does: its lease is no longer kept alive.

    The parent holds the other end of our standard input; the kernel closes it however it dies.
    """
    os.read(sys.stdin.fileno(), 1)
    os._exit(GIVEN_BACK)


if __name__ == "__main__":
    sys.exit(main())
