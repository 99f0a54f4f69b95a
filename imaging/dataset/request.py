"""Freeze and ask for a run: what the watchdog and `labloop train TASK --now` have in common."""

from typing import Literal

from imaging.dataset.snapshot import Progress, freeze_snapshot
from imaging.errors import RecordError
from imaging.layout import Nas, RunFolder, TaskFolder
from imaging.runs import is_over, list_runs, load_request, request_run
from imaging.task import TaskConfig

RequestedBy = Literal["watchdog", "person"]


def freeze_and_request(
    nas: Nas,
    task: TaskFolder,
    config: TaskConfig,
    *,
    requested_by: RequestedBy,
    reason: str,
    progress: Progress = lambda: None,
) -> RunFolder:
    """The run that trains on what is labelled now.

    A new run, unless one that is not over trains the same snapshot already. What was requested
    once, only a person may ask for again: a run that failed would fail again.

    Args:
        nas: where the run is written.
        task: whose labels are frozen.
        config: the task's task.yaml.
        requested_by: who asks.
        reason: a sentence for people.
        progress: called now and then while the snapshot is made.

    Raises:
        SnapshotError: nothing can be frozen.
        NasGoneError: the NAS went away meanwhile.
    """
    snapshot = freeze_snapshot(task, config, progress)
    nas.require_marker()
    same = [run for run in list_runs(nas, task.name) if _snapshot_of(run) == snapshot.id]
    if same and (requested_by == "watchdog" or not is_over(same[-1])):
        return same[-1]
    return request_run(nas, task.name, snapshot.id, requested_by=requested_by, reason=reason)


def _snapshot_of(run: RunFolder) -> str | None:
    try:
        return load_request(run).snapshot
    except RecordError:  # it trains nothing
        return None
