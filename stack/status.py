"""What `labloop status` tells: the services, and where each task's loop stands.

Reads files only, so that it answers at once, whatever state the stack is in.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from imaging.errors import ImagingError
from imaging.layout import Nas, TaskFolder
from imaging.publish import read_json
from imaging.runs import OVER, list_runs, load_state
from stack.compose import read_compose
from stack.home import Home
from stack.lock import is_supervised
from stack.state import ServiceStatus, read_state, stopped

WATCHDOG = "watchdog"  # its state folder holds <task>.json: what it counts and waits for
COUNTS = ("labelled", "waiting", "new", "left_out", "set_aside")


@dataclass(frozen=True, slots=True)
class TaskStatus:
    """Where the loop of one task stands."""

    name: str
    labels: Mapping[str, int] = field(default_factory=dict)  # as the watchdog last counted
    message: str = ""  # what the watchdog waits for
    run: str | None = None  # the run that is not over yet
    run_state: str = ""
    champion: str | None = None  # the version that serves
    verdict: str = ""  # the last one: promoted or refused, and the first reason
    trouble: str = ""  # a file of this task that cannot be read


@dataclass(frozen=True, slots=True)
class Overview:
    """The whole stack of one home."""

    home: str
    nas: str
    running: bool
    note: str  # what is wrong with the stack as a whole
    services: tuple[ServiceStatus, ...]
    tasks: tuple[TaskStatus, ...]
    machine: Mapping[str, str] = field(default_factory=dict)  # what it trains on, room left

    @property
    def is_healthy(self) -> bool:
        return self.running and all(service.state == "healthy" for service in self.services)


def overview(home: Home, compose_file: Path) -> Overview:
    """Everything there is to say about a home, whether it runs or not."""
    status = read_state(home)
    running = is_supervised(home)
    if running and status is not None and not status.is_supervised:
        status = None  # an earlier supervisor wrote it
    if status is None:
        services: tuple[ServiceStatus, ...] = tuple(
            ServiceStatus(service.name, "stopped") for service in read_compose(compose_file)
        )
    else:
        services = status.services if running else stopped(status.services)
    note = ""
    if running and status is None:
        note = f"it runs, but {home.stack_state} does not say what; look again in a moment"
    was_up = status is not None and any(one.state != "stopped" for one in status.services)
    if was_up and not running:
        note = "the supervisor was killed; `labloop up` cleans up and starts again"
    tasks: Sequence[TaskStatus] = ()
    if home.nas_folder.exists():
        if home.nas.marker.is_file():
            tasks = [task_status(home.nas, task, _report(home, task)) for task in home.nas.tasks()]
        else:
            note = f"no marker file in {home.nas.root}: the NAS is not mounted, everybody waits"
    return Overview(str(home.root), str(home.nas.root), running, note, services, tuple(tasks))


def _report(home: Home, task: TaskFolder) -> Mapping[str, Any]:
    """What the watchdog last counted; a damaged file says so itself."""
    report = home.state(WATCHDOG) / f"{task.name}.json"
    try:
        return read_json(report) if report.is_file() else {}
    except ImagingError as error:
        return {"trouble": str(error)}


def task_status(nas: Nas, task: TaskFolder, word: Mapping[str, Any]) -> TaskStatus:
    """Where the loop of a task stands.

    Args:
        nas: the share.
        task: its folder.
        word: what the watchdog last counted; empty before it did.
    """
    try:
        run, run_state = _open_run(nas, task.name)
        return TaskStatus(
            name=task.name,
            labels={name: int(word[name]) for name in COUNTS if name in word},
            message=str(word.get("message", "")),
            run=run,
            run_state=run_state,
            champion=_champion(nas, task.name),
            verdict=_last_verdict(nas, task.name),
            trouble=str(word.get("trouble", "")),
        )
    except ImagingError as error:
        return TaskStatus(task.name, trouble=str(error))


def _open_run(nas: Nas, task: str) -> tuple[str | None, str]:
    for run in reversed(list(list_runs(nas, task))):
        state = load_state(run)
        if state.state in OVER:
            break
        words = f"{state.state} {state.progress:.0%}"
        return run.run_id, f"{words} {state.message}".strip()
    return None, ""


def _last_verdict(nas: Nas, task: str) -> str:
    for run in reversed(list(list_runs(nas, task))):
        if run.verdict.is_file():
            record = read_json(run.verdict)
            word = "promoted" if record.get("promote") else "refused"
            reasons = record.get("reasons") or []
            return f"{word}: {reasons[0]}" if reasons else word
    return ""


def _champion(nas: Nas, task: str) -> str | None:
    pointer = nas.model(task).champion
    return str(read_json(pointer).get("version")) if pointer.is_file() else None
