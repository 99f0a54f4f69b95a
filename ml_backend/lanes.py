"""The model's threads, and the queue before them.

Inference never runs on the event loop: requests put pictures in one queue, a few threads (lanes)
take them out. Whoever has a person waiting goes first; within a rank it is first come, first
served, so a long batch never holds up an annotator by more than the pictures being computed.

A volume takes seconds to minutes and gigabytes where a picture takes milliseconds, so few are
computed at the same time, and pictures pass those that wait.
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

from ml_backend.errors import BusyError, WrongKindError
from ml_backend.model import Predictor
from ml_backend.pictures import Loaded

MAX_WAITING = 20_000  # pictures; a batch action over a whole project sends thousands
MAX_VOLUMES = 2  # computed at the same time: 2 GB each, for a CT of 512 × 512 × 320


class Rank(IntEnum):
    """Who waits for a picture; the lowest goes first."""

    INTERACTIVE = 0  # an annotator has clicked
    OPEN = 1  # an annotator opens a task
    BATCH = 2  # several tasks in one call
    PUSH = 3  # nobody waits: predictions after a promotion


@dataclass(frozen=True, slots=True)
class Work:
    """One picture or volume to be predicted.

    The model was chosen when the request came in, so that a request is answered by one version
    whatever is promoted meanwhile.
    """

    rank: Rank
    predictor: Predictor
    load: Callable[[], Loaded]
    # Runs on the lane, off the event loop; the second is the predictor's answer.
    finish: Callable[[Predictor, Any, Loaded], Any]


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
        self._pictures: list[_Waiting] = []
        self._volumes: list[_Waiting] = []
        self._computing: list[Rank] = []  # of the volumes that are being computed
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
            left = self._pictures + self._volumes
            self._pictures, self._volumes = [], []
            self._changed.notify_all()
        for waiting in left:
            waiting.future.cancel()
        for thread in self._threads:
            thread.join(timeout_s)

    def __len__(self) -> int:
        """Pictures and volumes that wait."""
        return len(self._pictures) + len(self._volumes)

    def submit(self, work: Work) -> "Future[Any]":
        """Queue one picture or volume; cancelling the future takes it out again.

        Raises:
            BusyError: the queue is full, or the service stops.
        """
        future: Future[Any] = Future()
        with self._changed:
            if self._stopping:
                raise BusyError("the back end is stopping")
            if len(self) >= MAX_WAITING:
                raise BusyError(f"{len(self)} pictures wait already")
            queue = self._volumes if work.predictor.takes_volumes else self._pictures
            heapq.heappush(queue, _Waiting(work.rank, next(self._places), work, future))
            self._changed.notify()
        return future

    # --- the threads ------------------------------------------------------------------------

    def _run(self) -> None:
        while batch := self._next_batch():
            work = batch[0].work
            try:
                _compute(batch)
            finally:
                if work.predictor.takes_volumes:
                    self._end_volume(work.rank)
            del batch, work  # a lane that waits must not hold on to a volume

    def _next_batch(self) -> list[_Waiting]:
        """The first that may start, and pictures right behind it for the same model; [] = stop."""
        with self._changed:
            while True:
                batch = self._taken()
                if batch or self._stopping:
                    return batch
                self._changed.wait()

    def _taken(self) -> list[_Waiting]:
        batch: list[_Waiting] = []
        while queue := self._first_queue(batch):
            waiting = heapq.heappop(queue)
            if not waiting.future.set_running_or_notify_cancel():
                continue
            batch.append(waiting)
            if queue is self._volumes:
                self._computing.append(waiting.rank)
                break
        return batch

    def _first_queue(self, batch: list[_Waiting]) -> list[_Waiting] | None:
        """Where the next one comes from; None when the batch is full, or nothing may start."""
        if batch:
            fits = len(batch) < self._max_batch and bool(self._pictures)
            same = fits and self._pictures[0].work.predictor is batch[0].work.predictor
            return self._pictures if same else None
        ready = [self._pictures] if self._pictures else []
        if self._volumes and self._may_start(self._volumes[0].rank):
            ready.append(self._volumes)
        return min(ready, key=lambda queue: queue[0], default=None)

    def _may_start(self, rank: Rank) -> bool:
        """Whether another volume may be computed; one place is kept for people who wait."""
        if rank >= Rank.BATCH and any(other >= Rank.BATCH for other in self._computing):
            return False
        return len(self._computing) < MAX_VOLUMES

    def _end_volume(self, rank: Rank) -> None:
        with self._changed:
            self._computing.remove(rank)
            self._changed.notify_all()


def _compute(batch: list[_Waiting]) -> None:
    """Load, predict and finish; what fails for one picture fails for that picture only."""
    loaded: list[tuple[_Waiting, Loaded]] = []
    for waiting in batch:
        try:
            loaded.append((waiting, _loaded(waiting.work)))
        except Exception as error:
            waiting.future.set_exception(error)
    if not _predict(loaded) and len(loaded) > 1:
        for one in loaded:
            _predict([one])


def _loaded(work: Work) -> Loaded:
    found = work.load()
    check_kind(work.predictor, found)
    return found


def check_kind(predictor: Predictor, loaded: Loaded) -> None:
    """Make sure that a model is not asked about what it has never seen.

    Raises:
        WrongKindError: it is made for pictures and asked about a volume, or the reverse.
    """
    is_volume = loaded.stack is not None
    if predictor.takes_volumes != is_volume:
        found, expected = ("volume", "pictures") if is_volume else ("picture", "volumes")
        raise WrongKindError(f"the case is a {found}, and the model answers about {expected}")


def _predict(loaded: list[tuple[_Waiting, Loaded]]) -> bool:
    """Answer these pictures with one call of the model; False = nobody was answered."""
    if not loaded:
        return True
    predictor = loaded[0][0].work.predictor
    try:
        predictions = predictor.predict([found.image for _, found in loaded])
    except Exception as error:
        if len(loaded) == 1:
            loaded[0][0].future.set_exception(error)
        return False
    for (waiting, found), prediction in zip(loaded, predictions, strict=True):
        try:
            waiting.future.set_result(waiting.work.finish(predictor, prediction, found))
        except Exception as error:
            waiting.future.set_exception(error)
    return True


def cores() -> int:
    """Cores this process may use; fewer than the machine's inside a container with a CPU set."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
