"""The trainer's outermost loop: find a waiting run, claim it, see it through."""

import logging
import threading
from collections.abc import Iterator
from pathlib import Path

from imaging.errors import ImagingError, NasGoneError, os_error_beneath
from imaging.layout import Nas, RunFolder
from imaging.runs import is_over, list_runs
from services.trainer.claims import claim, this_process
from services.trainer.errors import is_full
from services.trainer.settings import TrainerSettings
from services.trainer.supervise import Outcome, supervise
from stack.runtime.heartbeat import Heartbeat

log = logging.getLogger("services.trainer")
NO_ROOM = "the share is full or gone: no training until there is room"


class Trainer:
    """Looks for runs; at most one at a time, since one fills the machine."""

    def __init__(self, settings: TrainerSettings, stop: threading.Event) -> None:
        self.settings, self.stop = settings, stop
        self.nas = Nas(settings.nas_root)
        self.heartbeat = Heartbeat(settings.heartbeat_file)
        self.owner = this_process()
        self.over: set[Path] = set()  # runs that need no second look
        self.broken: set[Path] = set()  # runs whose files cannot be read: told once
        self.trouble = ""

    def run(self) -> None:
        """Work until told to stop."""
        while not self.stop.is_set():
            outcome = self.look()
            if outcome != "over":
                self.stop.wait(self.settings.poll_s)

    def run_once(self) -> bool:
        """Do what is waiting; whether nothing of it is left."""
        while not self.stop.is_set() and self.look() == "over":
            pass
        return not self.trouble and not any(True for _ in self._waiting())

    def look(self) -> Outcome | None:
        """Work on the oldest run that can be claimed; None when there is none."""
        try:
            self.nas.require_marker()
            outcome = self._work_on_one()
            self._tell(NO_ROOM if outcome == "paused" else "")
            return outcome
        except NasGoneError as error:
            self._tell(str(error))
        except OSError as error:
            if not is_full(error) and self.nas.marker.is_file():
                log.exception("looking for runs failed")
            self._tell(NO_ROOM)
        return None

    def _work_on_one(self) -> Outcome | None:
        for run in self._waiting():
            lease = claim(run, self.owner, self.settings.lease_stale_s)
            if lease is None:
                continue
            try:
                if is_over(run):  # another trainer was faster
                    continue
                log.info("run %s of %s: claimed", run.run_id, run.task)
                return supervise(lease, self.settings, self.stop, self.heartbeat.beat)
            except OSError:
                raise  # the share's trouble, not the run's
            except Exception as error:
                self._set_aside(run, error)
            finally:
                lease.release()
        return None

    def _waiting(self) -> Iterator[RunFolder]:
        for run in list_runs(self.nas):
            if run.root in self.over or run.root in self.broken:
                continue
            try:
                if is_over(run):
                    self.over.add(run.root)
                    continue
            except ImagingError as error:
                self._set_aside(run, error)
                continue
            yield run

    def _set_aside(self, run: RunFolder, error: Exception) -> None:
        self.nas.require_marker()  # unreadable files of a share that is gone say nothing
        if os_error_beneath(error) is not None:
            log.warning("run %s cannot be read just now: %s", run.run_id, error)
            return
        log.error("run %s was set aside: %s", run.run_id, error, exc_info=error)
        self.broken.add(run.root)

    def _tell(self, trouble: str) -> None:
        self.heartbeat.beat(trouble)
        if trouble != self.trouble:
            if trouble:
                log.warning("paused: %s", trouble)
            else:
                log.info("went on")
            self.trouble = trouble
