"""Counts new labels, asks for runs, keeps data/ up to date, and tells people what it waits for.

Everything is derived from what lies on the NAS, so that a restart at any point neither forgets a
run nor asks for it twice: what counts as new is measured against the newest snapshot that a run
was requested for, and a snapshot whose request was not written any more is simply found again.
"""

import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path

from imaging.dataset.request import freeze_and_request
from imaging.dataset.snapshot import newest_snapshot_id, read_snapshot
from imaging.dataset.view import show_snapshot, shown_snapshot
from imaging.errors import ImagingError, NasGoneError, SnapshotError
from imaging.ids import parse_utc, utc_now
from imaging.layout import Nas
from imaging.publish import write_json
from imaging.task import TaskConfig, load_task
from services.watchdog.policy import Standing, decide
from services.watchdog.reconcile import Reconciler
from services.watchdog.runs import Runs

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class TaskReport:
    """What people read about a task, in `labloop status` and in STATE_DIR/<task>.json."""

    task: str
    labelled: int = 0  # cases with an answer that counts
    waiting: int = 0  # cases without one
    new: int = 0  # cases whose answers the newest requested snapshot does not have
    left_out: int = 0  # cases whose answers the newest snapshot could not use
    set_aside: int = 0  # tasks of Label Studio whose answers could not land
    message: str = ""  # what it waits for


class Desk:
    """One task folder's labels against its runs."""

    def __init__(self, nas: Nas, reconciler: Reconciler, report: Path) -> None:
        self.nas, self.task, self.landed = nas, reconciler.task, reconciler.landed
        self.reconciler, self.report_path = reconciler, report
        self.report = TaskReport(self.task.name)
        self.again_in_s: float | None = None  # when waiting will be over, if that is known
        self._runs = Runs(nas, self.task.name)
        self._left_out = 0
        self._newest: str | None = None  # the snapshot that data/ shows
        self._baseline: tuple[str, dict[str, frozenset[str]]] = ("", {})
        self._counted: tuple[tuple[int, str], tuple[int, int]] = ((-1, ""), (0, 0))
        self._fruitless: tuple[int, str] = (-1, "")  # landed.changes, and why no run came of them

    def look(self, now: datetime, beat: Callable[[], None], *, afresh: bool = False) -> None:
        """Ask for a run if the policy says so, show the newest snapshot, and tell people.

        Args:
            now: the present, in local time.
            beat: called now and then while a snapshot is made; it may raise StoppedError.
            afresh: try once more what did not lead to a run.

        Raises:
            ImagingError: task.yaml or a snapshot cannot be read.
        """
        if afresh:
            self._fruitless = (-1, "")
        config = load_task(self.task.config)
        self._runs.look()
        new, labelled = self._count()
        newest = self._runs.newest
        standing = Standing(
            new=new,
            landed_at=self.landed.landed_at(now),
            requested_at=parse_utc(newest.requested_at) if newest else None,
            open_run=self._runs.open_run,
        )
        decision = decide(standing, config.retrain, now)
        message, self.again_in_s = decision.message, decision.again_in_s
        if decision.ask:
            message = self._ask(config, decision.message, beat)
        self._show()
        waiting = max(self._cases() - labelled, 0)
        self._tell(TaskReport(self.task.name, labelled, waiting, new, self._left_out, 0, message))

    def say(self, message: str) -> None:
        """Tell people what the task waits for; the counts stay as they were."""
        self.again_in_s = None
        self._tell(replace(self.report, message=message))

    def _tell(self, report: TaskReport) -> None:
        report = replace(report, set_aside=len(self.reconciler.set_aside))
        if report != self.report:
            write_json(self.report_path, {"format": 1, "updated_at": utc_now()} | asdict(report))
            self.report = report

    def _ask(self, config: TaskConfig, reason: str, beat: Callable[[], None]) -> str:
        """Freeze and request, unless that came to nothing before; what to tell people."""
        changes = self.landed.changes
        if self._fruitless[0] == changes:
            return self._fruitless[1]
        try:
            run = freeze_and_request(
                self.nas,
                self.task,
                config,
                requested_by="watchdog",
                reason=reason,
                progress=beat,
            )
        except NasGoneError:
            raise
        except ImagingError as error:
            log.warning("task %s: no snapshot was made: %s", self.task.name, error)
            self._fruitless = (changes, str(error))
            return str(error)
        if run.run_id in self._runs.requests:
            message = f"{run.run_id} has trained on the same labels"
            self._fruitless = (changes, message)
            return message
        log.info("task %s: %s was requested: %s", self.task.name, run.run_id, reason)
        return f"{run.run_id} is queued"

    # --- counting -----------------------------------------------------------------------------

    def _count(self) -> tuple[int, int]:
        """Cases with new answers, and cases with any."""
        newest = self._runs.newest
        basis = (self.landed.changes, newest.snapshot if newest else "")
        if self._counted[0] != basis:
            baseline = self._files_of(basis[1])
            answers = list(self.landed.answers())
            new = sum(baseline.get(case) != files for case, files in answers)
            self._counted = basis, (new, len(answers))
        return self._counted[1]

    def _files_of(self, snapshot_id: str) -> dict[str, frozenset[str]]:
        """Case → files of the answers that a snapshot was made from, or could not use."""
        if self._baseline[0] != snapshot_id:
            files: dict[str, frozenset[str]] = {}
            try:
                snapshot = read_snapshot(self.task.snapshot(snapshot_id))
                answers = {one.case: one.answers for one in snapshot.cases}
                answers |= {one.case: one.answers for one in snapshot.left_out}
                for case, known in answers.items():
                    files[case] = frozenset(Path(answer.file).name for answer in known)
            except SnapshotError as error:
                log.warning("%s cannot be read, so all labels are new: %s", snapshot_id, error)
            self._baseline = snapshot_id, files
        return self._baseline[1]

    def _cases(self) -> int:
        if not self.task.cases.is_dir():
            return 0
        return sum(not path.name.startswith(".") for path in self.task.cases.iterdir())

    # --- data/ --------------------------------------------------------------------------------

    def _show(self) -> None:
        """Bring data/ up to the newest snapshot; failing at that stops nothing else."""
        newest = newest_snapshot_id(self.task)
        if newest is None or newest == self._newest:
            return
        snapshot = read_snapshot(self.task.snapshot(newest))
        if snapshot.left_out:
            log.warning(
                "task %s: %s leaves out %d cases whose answers cannot be used",
                self.task.name,
                newest,
                len(snapshot.left_out),
            )
        self._left_out = len(snapshot.left_out)
        try:
            if shown_snapshot(self.task) != newest:
                show_snapshot(self.task, snapshot)
                log.info("task %s: data/ shows %s", self.task.name, newest)
        except SnapshotError as error:
            log.warning("task %s: data/ was not written: %s", self.task.name, error)
        self._newest = newest
