"""The model's threads, and the queue before them.

Inference never runs on the event loop: requests put pictures in one queue, a few threads (lanes)
take them out. Whoever has a person waiting goes first; within a rank it is first come, first
served, so a long batch never holds up an annotator by more than the pictures being computed.
"""

import heapq
import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from enum import IntEnum
from itertools import count
from typing import Any

from ml_backend.errors import BusyError
from ml_backend.model import PixelArray, Prediction, Predictor

MAX_WAITING = 20_000  # pictures; a batch action over a whole project sends thousands


class Rank(IntEnum):
    """Who waits for a picture; the lowest goes first."""

    INTERACTIVE = 0  # an annotator has clicked
    OPEN = 1  # an annotator opens a task
    BATCH = 2  # several tasks in one call
    PUSH = 3  # nobody waits: predictions after a promotion


@dataclass(frozen=True, slots=True)
class Work:
    """One picture to be predicted.

    The model was chosen when the request came in, so that a request is answered by one version
    whatever is promoted meanwhile.
    """

    rank: Rank
    predictor: Predictor
    load: Callable[[], PixelArray]
    finish: Callable[[Predictor, Prediction], Any]  # runs on the lane, off the event loop


@dataclass(order=True, slots=True)
class _Waiting:
    rank: Rank
    place: int
    work: Work = field(compare=False)
    future: "Future[Any]" = field(compare=False)


class Lanes:
    """A fixed number of threads that compute predictions in the order of their rank."""

    def __init__(self, threads: int, max_batch: int = 1) -> None:
        self._max_batch = max_batch
        self._waiting: list[_Waiting] = []
        self._places = count()
        self._changed = threading.Condition()
        self._stopping = False
        self._threads = [
            threading.Thread(target=self._run, name=f"lane-{number}", daemon=True)
            for number in range(threads)
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self, timeout_s: float = 10.0) -> None:
        """Finish the pictures being computed; whoever still waits is told so."""
        with self._changed:
            self._stopping = True
            left, self._waiting = self._waiting, []
            self._changed.notify_all()
        for waiting in left:
            waiting.future.cancel()
        for thread in self._threads:
            thread.join(timeout_s)

    def __len__(self) -> int:
        """Pictures that wait."""
        return len(self._waiting)

    def submit(self, work: Work) -> "Future[Any]":
        """Queue one picture; cancelling the future takes it out again.

        Raises:
            BusyError: the queue is full, or the service stops.
        """
        future: Future[Any] = Future()
        with self._changed:
            if self._stopping:
                raise BusyError("the back end is stopping")
            if len(self._waiting) >= MAX_WAITING:
                raise BusyError(f"{len(self._waiting)} pictures wait already")
            heapq.heappush(self._waiting, _Waiting(work.rank, next(self._places), work, future))
            self._changed.notify()
        return future

    # --- the threads ------------------------------------------------------------------------

    def _run(self) -> None:
        while batch := self._next_batch():
            _compute(batch)

    def _next_batch(self) -> list[_Waiting]:
        """The first in the queue, and those right behind it for the same model; [] = stop."""
        with self._changed:
            while True:
                batch: list[_Waiting] = []
                while self._waiting and len(batch) < self._max_batch:
                    if batch and self._waiting[0].work.predictor is not batch[0].work.predictor:
                        break
                    waiting = heapq.heappop(self._waiting)
                    if waiting.future.set_running_or_notify_cancel():
                        batch.append(waiting)
                if batch or self._stopping:
                    return batch
                self._changed.wait()


def _compute(batch: list[_Waiting]) -> None:
    """Load, predict and finish; what fails for one picture fails for that picture only."""
    loaded: list[tuple[_Waiting, PixelArray]] = []
    for waiting in batch:
        try:
            loaded.append((waiting, waiting.work.load()))
        except Exception as error:
            waiting.future.set_exception(error)
    if not _predict(loaded) and len(loaded) > 1:
        for one in loaded:
            _predict([one])


def _predict(loaded: list[tuple[_Waiting, PixelArray]]) -> bool:
    """Answer these pictures with one call of the model; False = nobody was answered."""
    if not loaded:
        return True
    predictor = loaded[0][0].work.predictor
    try:
        predictions = predictor.predict([pixels for _, pixels in loaded])
    except Exception as error:
        if len(loaded) == 1:
            loaded[0][0].future.set_exception(error)
        return False
    for (waiting, _), prediction in zip(loaded, predictions, strict=True):
        try:
            waiting.future.set_result(waiting.work.finish(predictor, prediction))
        except Exception as error:
            waiting.future.set_exception(error)
    return True


def cores() -> int:
    """Cores this process may use; fewer than the machine's inside a container with a CPU set."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
