"""Follows the champion pointer of every task, and holds the models that serve.

A new champion is loaded and warmed beside the old one and takes its place in one assignment;
requests under way keep the model they started with. The model that was replaced stays loaded, so
that a roll-back takes effect at the next look at the pointer. Whatever goes wrong, the model that
serves goes on serving.
"""

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from imaging.errors import BundleError, ImagingError
from imaging.ids import TASK_NAME
from imaging.layout import Nas
from imaging.registry import champion
from ml_backend.model import Load, Predictor

log = logging.getLogger(__name__)

RETRY_S = 30.0  # a bundle that could not be loaded: the share may have hung, or a restore runs

Signature = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Serving:
    """The models of one task that are in memory."""

    current: Predictor
    previous: Predictor | None = None


@dataclass(frozen=True, slots=True)
class Failure:
    """Why the champion of a task does not serve."""

    reason: str
    retry_at: float  # monotonic


class Champions:
    """The serving model of each task. One thread refreshes, any thread reads."""

    def __init__(self, nas: Nas, load: Load, clock: Callable[[], float] = time.monotonic) -> None:
        self._nas = nas
        self._load = load
        self._clock = clock
        self._seen: dict[str, Signature] = {}
        self._failures: dict[str, Failure] = {}
        # Replaced whole and never changed, so that readers need no lock.
        self._serving: Mapping[str, Serving] = {}

    def current(self, task: str) -> Predictor | None:
        """The model that serves a task; None before its first champion."""
        serving = self._serving.get(task)
        return serving.current if serving else None

    def all(self) -> dict[str, Predictor]:
        """Task → the model that serves it."""
        return {task: serving.current for task, serving in self._serving.items()}

    def troubles(self) -> dict[str, str]:
        """Task → why its champion is not the model that serves."""
        return {task: failure.reason for task, failure in dict(self._failures).items()}

    def refresh(self) -> None:
        """Look at every pointer once and load what it newly names.

        Raises:
            NasGoneError: the share is not mounted; the models in memory go on serving.
        """
        self._nas.require_marker()
        for folder in sorted(self._nas.models.glob("Task*")):
            if TASK_NAME.fullmatch(folder.name):
                self._refresh_task(folder.name)

    def _refresh_task(self, task: str) -> None:
        signature = _signature(self._nas.model(task).champion)
        failure = self._failures.get(task)
        due = failure is not None and self._clock() >= failure.retry_at
        # A pointer that has gone is a mistake of somebody's: what serves goes on serving.
        if signature is None or (signature == self._seen.get(task) and not due):
            return
        self._seen[task] = signature
        try:
            named = champion(self._nas, task)
            if named is not None:
                self._serve(task, named.version)
            self._failures.pop(task, None)
        except Exception as error:  # a broken bundle must not end the loop that follows the others
            self._fail(task, error)

    def _serve(self, task: str, version: str) -> None:
        serving = self._serving.get(task)
        if serving is not None and serving.current.version == version:
            return
        if serving is not None and serving.previous and serving.previous.version == version:
            predictor = serving.previous
        else:
            predictor = self._loaded(task, version)
        replaced = serving.current if serving else None
        self._serving = {**self._serving, task: Serving(predictor, replaced)}
        log.info("task %s: %s serves, before it %s", task, version, name_of(replaced))

    def _loaded(self, task: str, version: str) -> Predictor:
        start = self._clock()
        predictor = self._load(self._nas.model(task).version(version))
        if predictor.version != version:
            raise BundleError(f"the bundle {version} says that it is {predictor.version}")
        log.info("task %s: %s loaded in %.1f s", task, version, self._clock() - start)
        return predictor

    def _fail(self, task: str, error: Exception) -> None:
        reason = f"the champion cannot be loaded: {error}"
        known = self._failures.get(task)
        if known is None or known.reason != reason:
            hint = error.hint if isinstance(error, ImagingError) else ""
            log.error("task %s: %s %s", task, reason, hint)
        self._failures[task] = Failure(reason, self._clock() + RETRY_S)


def name_of(predictor: Predictor | None) -> str:
    return predictor.version if predictor else "none"


def _signature(pointer: Path) -> Signature | None:
    """Tells one state of a pointer file from the next; None when there is no file."""
    try:
        found = pointer.stat()
    except FileNotFoundError:
        return None
    return found.st_mtime_ns, found.st_ino, found.st_size
