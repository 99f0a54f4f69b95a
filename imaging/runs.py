"""Run requests and run states: how the watchdog, the trainer and people talk about a training.

A run is requested by the appearance of `request.json`; where it stands is in `state.json`.
Leases and training belong to the trainer.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal, cast, get_args

from imaging.errors import RecordError
from imaging.ids import TASK_NAME, new_id, utc_now
from imaging.layout import Nas, RunFolder
from imaging.publish import read_json, write_json

Stage = Literal["queued", "claimed", "training", "evaluating", "judged", "failed"]
OVER: tuple[Stage, ...] = ("judged", "failed")


@dataclass(frozen=True, slots=True)
class RunRequest:
    """Please train this task on this snapshot."""

    run: str
    task: str
    snapshot: str
    requested_at: str
    requested_by: str  # "watchdog" or "person"
    reason: str  # a sentence for people


@dataclass(frozen=True, slots=True)
class RunState:
    """Where a run stands. Written by the trainer; a run nobody claimed yet is `queued`."""

    state: Stage
    progress: float = 0.0  # 0 to 1, of the whole run
    message: str = ""
    updated_at: str = ""
    attempts: int = 0
    version: str | None = None  # the model version the run made, once there is one


def request_run(nas: Nas, task: str, snapshot: str, *, requested_by: str, reason: str) -> RunFolder:
    """Write a run request; the trainer finds it within seconds."""
    run = nas.run(task, new_id("run"))
    request = RunRequest(run.run_id, task, snapshot, utc_now(), requested_by, reason)
    write_json(run.request, {"format": 1} | asdict(request))
    return run


def load_request(run: RunFolder) -> RunRequest:
    """The request of a run.

    Raises:
        RecordError: the file is unreadable or lacks a key.
    """
    record = read_json(run.request)
    try:
        fields = ("run", "task", "snapshot", "requested_at", "requested_by", "reason")
        return RunRequest(**{name: str(record[name]) for name in fields})
    except KeyError as error:
        raise RecordError(f"{run.request}: key {error} is missing") from error


def load_state(run: RunFolder) -> RunState:
    """Where a run stands; `queued` when the trainer has not written anything yet."""
    if not run.state.is_file():
        return RunState("queued")
    record: dict[str, Any] = read_json(run.state)
    try:
        state = record["state"]
        if state not in get_args(Stage):
            raise RecordError(f"{run.state}: state is {state!r}, expected one of {get_args(Stage)}")
        return RunState(
            state=cast(Stage, state),
            progress=float(record["progress"]),
            message=str(record["message"]),
            updated_at=str(record["updated_at"]),
            attempts=int(record["attempts"]),
            version=record["version"],
        )
    except (KeyError, TypeError, ValueError) as error:
        raise RecordError(f"{run.state}: {error!r} while reading a run's state") from error


def save_state(run: RunFolder, state: RunState) -> None:
    """Replace a run's state in one step, stamped with the present time."""
    write_json(run.state, {"format": 1} | asdict(state) | {"updated_at": utc_now()})


def list_runs(nas: Nas, task: str | None = None) -> Iterator[RunFolder]:
    """Every requested run, oldest first; of one task, or of all."""
    names = [task] if task else _task_names(nas)
    folders = [
        RunFolder(path)
        for name in names
        if nas.task_runs(name).is_dir()
        for path in nas.task_runs(name).iterdir()
        if not path.name.startswith(".") and (path / "request.json").is_file()
    ]
    yield from sorted(folders, key=lambda run: run.run_id)


def is_over(run: RunFolder) -> bool:
    """Whether a run has its verdict or has failed for good."""
    return load_state(run).state in OVER


def _task_names(nas: Nas) -> list[str]:
    if not nas.runs.is_dir():
        return []
    return [path.name for path in nas.runs.iterdir() if TASK_NAME.fullmatch(path.name)]
