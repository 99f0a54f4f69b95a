"""Keeps a task's task.yaml: read when it changed, guessed and written when there is none."""

import logging

from imaging.errors import TaskConfigError, os_error_beneath
from imaging.layout import TaskFolder
from imaging.task import TaskConfig, load_task
from services.ingest.errors import HoldError
from services.ingest.inferred import write_inferred
from services.ingest.ledger import Stamp

log = logging.getLogger(__name__)


class ConfigDesk:
    """The configuration of one task, as it stands on the NAS."""

    def __init__(self, task: TaskFolder) -> None:
        self.task = task
        self.config: TaskConfig | None = None
        self._stamp: Stamp | None = None
        self._problem = ""

    def read(self) -> bool:
        """Read task.yaml if it is not the one read last; whether it was.

        Raises:
            HoldError: it cannot be used. The last good one is not used either: its labels may be
                what somebody is just correcting.
        """
        try:
            status = self.task.config.stat()
        except FileNotFoundError:
            self.config = self._stamp = None
            return False
        stamp = Stamp(status.st_size, status.st_mtime_ns)
        is_new = stamp != self._stamp
        if is_new:
            self._read_anew()
            self._stamp = stamp  # last: what could not be read at all is tried again
        if self._problem:
            raise HoldError(f"task.yaml cannot be used: {self._problem}")
        return is_new

    def _read_anew(self) -> None:
        self.config, self._stamp, self._problem = None, None, ""
        try:
            self.config = load_task(self.task.config)
        except TaskConfigError as error:
            self._problem = "; ".join(error.problems)
            if os_error_beneath(error) is not None:
                raise HoldError(f"task.yaml cannot be read: {self._problem}") from error

    def write(self, config: TaskConfig, because: str) -> None:
        """Write a task.yaml that was guessed, with a sentence why."""
        if write_inferred(self.task, config, because):
            log.warning(
                "task %s: task.yaml was guessed (%s, %d labels: %s); please look it over",
                self.task.name,
                config.kind,
                len(config.scheme.labels),
                because,
            )
