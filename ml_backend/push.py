"""Keeps Label Studio's stored predictions in step with the champions.

A reconcile, not a script: each round looks at what Label Studio has and does what is missing, so
that it can be killed anywhere and started again. For each project with a champion, in this order:

1. every unlabelled task gets a prediction of the champion, in chunks; a volume's task that shows
   key slices gets those where the model is least sure, too, see `extend`;
2. the project shows that version to annotators;
3. predictions of other versions go, and a task's duplicates of this one.

The third step waits. An editor that is open names the prediction it started from when it submits,
and Label Studio refuses an answer whose prediction is gone (status 400): so what was replaced
stays for `keep_old_s`, and longer while somebody draws.
"""

import logging
import re
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from imaging.ids import SAFE_NAME, parse_utc
from imaging.labelstudio.tasks import prediction_payload
from imaging.layout import Nas
from ml_backend.answers import encoded, results_of, score_of, stack_results
from ml_backend.champion import Champions
from ml_backend.errors import BusyError
from ml_backend.extend import Guess, pushed_payload, with_unsure_slices
from ml_backend.lanes import Lanes, Rank, Work
from ml_backend.model import Predictor
from ml_backend.pictures import Loaded, Pictures, reason_of
from ml_backend.stored import OpenTask, StoredPredictions
from stack.runtime.label_studio import LabelStudio, LabelStudioDownError, LabelStudioError

log = logging.getLogger(__name__)

# Label Studio recounts the whole project after each import, so chunks are not small; a chunk is
# computed in seconds, so that a new champion takes over soon.
CHUNK = 50
# A volume takes up to minutes and its answer some megabytes, so that fewer are held at a time.
CHUNK_VOLUMES = 4
MAX_IMPORT_BYTES = 16 * 2**20  # of one call; an import that is larger is one prediction
RETRY_S = 600.0  # a picture or a project that failed
VERSION = re.compile(r"model-\d{8}T\d{6}Z-[0-9a-f]{4}")
WAIT_S = 0.5  # how often a wait looks whether the service stops


class VoidRoundError(Exception):
    """The service stops, or another version serves by now: this round's work is void."""


@dataclass(slots=True)
class ProjectState:
    """What a round remembers of a project for the next; nothing that must outlive the process."""

    version: str
    settled_at: datetime | None = None  # since when annotators are shown this version
    held_until: float = 0.0  # monotonic; Label Studio refused, so leave it alone for a while
    failed: dict[int, float] = field(default_factory=dict)  # task → when to try again


@dataclass(frozen=True, slots=True)
class Shelf:
    """Where a round finds models, pictures and lanes."""

    nas: Nas
    champions: Champions
    pictures: Pictures
    lanes: Lanes


class Pusher:
    """One round at a time, from one thread."""

    def __init__(self, shelf: Shelf, api: LabelStudio, keep_old_s: float) -> None:
        self._shelf = shelf
        self._api = api
        self._keep_old_s = keep_old_s
        self._states: dict[int, ProjectState] = {}  # by project
        self._stop = threading.Event()

    def stop(self) -> None:
        self._stop.set()

    def round(self) -> int:
        """Bring every project with a champion up to date; how many predictions were pushed.

        Raises:
            LabelStudioDownError: Label Studio cannot be reached; try again later.
            NasGoneError: the share is not mounted.
        """
        champions = self._shelf.champions.all()
        if not champions:
            return 0
        pushed = 0
        for project in self._api.projects():
            task = (project.get("description") or "").split("\n")[0].strip()
            if task in champions and not self._stop.is_set():
                pushed += self._project(task, project, champions[task])
        return pushed

    def _project(self, task: str, project: Mapping[str, Any], predictor: Predictor) -> int:
        number = int(project["id"])
        state = self._states.get(number)
        if state is None or state.version != predictor.version:
            state = self._states[number] = ProjectState(predictor.version)
        if time.monotonic() < state.held_until:
            return 0
        pushed = 0
        stored = StoredPredictions(self._api, number)
        try:
            pushed = self._fill(task, stored, predictor, state)
            self._show(task, stored, project.get("model_version") or "", state)
            self._tidy(task, stored, state)
        except VoidRoundError:
            log.info("task %s: pushing %s was interrupted", task, predictor.version)
        except LabelStudioDownError:
            raise
        except LabelStudioError as error:
            state.held_until = time.monotonic() + RETRY_S
            log.error("task %s: Label Studio refused: %s %s", task, error, error.hint)
        return pushed

    # --- 1. every unlabelled task has a prediction --------------------------------------------

    def _fill(
        self, task: str, stored: StoredPredictions, predictor: Predictor, state: ProjectState
    ) -> int:
        after = pushed = 0
        size = CHUNK_VOLUMES if predictor.takes_volumes else CHUNK
        while chunk := stored.lacking(predictor.version, after, size):
            now = time.monotonic()
            wanted = [one for one in chunk if state.failed.get(one.id, 0.0) <= now]
            guesses = self._predicted(task, wanted, predictor, state)
            # Meanwhile some were labelled, or opened and so predicted: look again before storing.
            still = {one.id for one in stored.lacking(predictor.version, after, size)}
            payloads = [
                pushed_payload(task, stored, one, guesses[one.id])
                for one in wanted
                if one.id in still and one.id in guesses
            ]
            for part in parts_of(payloads):
                stored.add(part)
            pushed += len(payloads)
            after = chunk[-1].id
        if pushed:
            log.info("task %s: pushed %d predictions of %s", task, pushed, predictor.version)
        return pushed

    def _predicted(
        self, task: str, wanted: Sequence[OpenTask], predictor: Predictor, state: ProjectState
    ) -> dict[int, Guess]:
        """Task → its prediction as Label Studio imports it; what failed is left for later."""
        guesses: dict[int, Guess] = {}
        failures: list[tuple[OpenTask, BaseException]] = []
        futures = [self._submit(task, one, predictor) for one in wanted]
        try:
            for one, future in zip(wanted, futures, strict=True):
                error = self._outcome(task, future, predictor)
                if error is None:
                    guesses[one.id] = future.result()
                else:
                    failures.append((one, error))
        finally:
            for future in futures:
                future.cancel()
        if failures:
            self._shelf.nas.require_marker()  # an unmounted share says nothing about the pictures
        for one, error in failures:
            state.failed[one.id] = time.monotonic() + RETRY_S
            log.warning(
                "task %s: Label Studio task %d got no prediction: %s",
                task,
                one.id,
                reason_of(error),
            )
        return guesses

    def _submit(self, task: str, one: OpenTask, predictor: Predictor) -> "Future[Guess]":
        def finish(predictor: Predictor, prediction: Any, loaded: Loaded) -> Guess:
            return guess_of(one, predictor, prediction, loaded)

        pictures = self._shelf.pictures
        work = Work(Rank.PUSH, predictor, lambda: pictures.load(task, one.data), finish)
        try:
            return self._shelf.lanes.submit(work)
        except BusyError as error:
            raise VoidRoundError from error

    def _outcome(
        self, task: str, future: "Future[Guess]", predictor: Predictor
    ) -> BaseException | None:
        """Wait for one prediction: what went wrong with it, or None."""
        while not self._stop.is_set() and self._shelf.champions.current(task) is predictor:
            try:
                return future.exception(WAIT_S)
            except TimeoutError:
                continue
            except CancelledError:
                break
        raise VoidRoundError

    # --- 2. annotators are shown it -----------------------------------------------------------

    def _show(
        self, task: str, stored: StoredPredictions, selected: str, state: ProjectState
    ) -> None:
        if selected != state.version:
            state.settled_at = None
            if state.version not in stored.versions():
                return  # Label Studio selects only what it holds; there may be nothing to label
            stored.select(state.version)
            log.info("task %s: annotators are shown %s", task, state.version)
        if state.settled_at is None:
            state.settled_at = utc_clock()

    # --- 3. what was replaced goes ------------------------------------------------------------

    def _tidy(self, task: str, stored: StoredPredictions, state: ProjectState) -> None:
        if state.settled_at is None:
            return
        held = stored.versions()
        old = [name for name in held if name != state.version and self._is_ours(task, name)]
        if old and self._is_unwatched(stored, state.settled_at):
            for name in old:
                count = stored.remove_version(name)
                log.info("task %s: removed %d predictions of %s", task, count, name)
        if held.get(state.version, 0) > stored.tasks_with(state.version):
            self._remove_duplicates(task, stored, state.version)

    def _remove_duplicates(self, task: str, stored: StoredPredictions, version: str) -> None:
        """Two writers met, or a kill came between sending and hearing: the newest one stays."""
        groups = list(stored.duplicates(version))
        newest = [parse_utc(group[-1]["created_at"]) for group in groups]
        if not groups or not self._is_unwatched(stored, max(newest)):
            return
        surplus = [int(one["id"]) for group in groups for one in group[:-1]]
        for prediction in surplus:
            stored.remove(prediction)
        log.info("task %s: removed %d duplicates of %s", task, len(surplus), version)

    def _is_unwatched(self, stored: StoredPredictions, replaced_at: datetime) -> bool:
        """Whether no open editor is likely to name a prediction that was replaced then."""
        horizon = utc_clock() - timedelta(seconds=self._keep_old_s)
        return replaced_at <= horizon and not stored.has_draft(before=replaced_at, after=horizon)

    def _is_ours(self, task: str, version: str) -> bool:
        """Predictions that somebody imported under another name are not ours to remove."""
        if VERSION.fullmatch(version):
            return True
        return (
            bool(SAFE_NAME.fullmatch(version))
            and self._shelf.nas.model(task).version(version).is_dir()
        )


def guess_of(one: OpenTask, predictor: Predictor, prediction: Any, loaded: Loaded) -> Guess:
    """A model's answer to a task; of a volume, also on the slices to be appended to it."""
    score, stack = score_of(prediction), loaded.stack
    if stack is None:
        results = results_of(predictor, prediction)
        return Guess(prediction_payload(one.id, predictor.version, score, results))
    longer = with_unsure_slices(stack, one.data, prediction)
    results = stack_results(predictor, prediction, longer)
    payload = prediction_payload(one.id, predictor.version, score, results)
    shown = len(stack.items)
    return Guess(payload, longer.items[shown:], shown)


def parts_of(payloads: Sequence[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """The payloads, in calls that are not too large."""
    part: list[dict[str, Any]] = []
    part_bytes = 0
    for payload in payloads:
        size_bytes = len(encoded(payload))
        if part and part_bytes + size_bytes > MAX_IMPORT_BYTES:
            yield part
            part, part_bytes = [], 0
        part.append(payload)
        part_bytes += size_bytes
    if part:
        yield part


def utc_clock() -> datetime:
    return datetime.now(UTC)
