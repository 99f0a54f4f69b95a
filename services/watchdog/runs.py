"""The runs of one task as far as they matter for asking for another: requests, and what is open."""

import logging

from imaging.errors import RecordError
from imaging.layout import Nas
from imaging.runs import OVER, RunRequest, list_runs, load_request, load_state

log = logging.getLogger(__name__)


class Runs:
    """All runs of a task; what cannot change any more is read once."""

    def __init__(self, nas: Nas, task: str) -> None:
        self.nas, self.task = nas, task
        self.requests: dict[str, RunRequest] = {}
        self.open_run = ""  # the run that is not over, as a sentence
        self._over: set[str] = set()
        self._unreadable: set[str] = set()

    @property
    def newest(self) -> RunRequest | None:
        """The last request, whoever made it.

        By its snapshot: their names rise whatever the clock does. A request from a clock that was
        a month ahead would stay the last one for a month, and every label count as new.
        """
        requests = self.requests.values()
        return max(requests, key=lambda one: (one.snapshot, one.requested_at), default=None)

    def look(self) -> None:
        """Read what is new. A request that cannot be read counts as none."""
        self.open_run = ""
        runs = list(list_runs(self.nas, self.task))
        there = {run.run_id for run in runs}
        self.requests = {name: one for name, one in self.requests.items() if name in there}
        for run in runs:
            if run.run_id in self._over:
                continue
            try:
                if run.run_id not in self.requests:
                    self.requests[run.run_id] = load_request(run)
                state = load_state(run).state
            except RecordError as error:
                if run.run_id not in self._unreadable:
                    self._unreadable.add(run.run_id)
                    log.warning("run %s cannot be read: %s", run.run_id, error)
                if run.run_id in self.requests:
                    self.open_run = f"the state of {run.run_id} cannot be read"
                continue
            if state in OVER:
                self._over.add(run.run_id)
            else:
                self.open_run = f"{run.run_id} is {state}"
