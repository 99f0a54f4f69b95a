"""What `labloop status` tells of a stack in Docker: containers, their reasons, each task's loop.

Looks only: at the engine through its SDK, and at the share.
"""

import io
import json
import shutil
import tarfile
from collections.abc import Mapping, Sequence
from typing import Any

from stack.doctor import GIB
from stack.engine.engine import ContainerState, Engine, EngineError
from stack.engine.lab import Lab
from stack.plan import State
from stack.state import ServiceStatus
from stack.status import WATCHDOG, Overview, TaskStatus, task_status

ONE_SHOTS = ("label-studio-migrate",)  # they end, and are shown only when that went wrong
LAST_LINES = 8
LOGINS = {"gateway": "portal", "label-studio": "label", "tensorboard": "board"}
FILES = ("nextcloud", "files-lite")


def overview(lab: Lab, engine: Engine, wanted: Sequence[str]) -> Overview:
    """Everything there is to say about the stack.

    Args:
        lab: the stack.
        engine: where it runs.
        wanted: the services that should run.
    """
    found = {one.service: one for one in engine.containers(lab.compose.project)}
    services = [_service(lab, engine, name, found.get(name)) for name in wanted]
    shown = [one for one in services if one.name not in ONE_SHOTS or one.state == "failing"]
    running = any(one.status == "running" for one in found.values())
    nas = lab.home.nas
    note = ""
    tasks: Sequence[TaskStatus] = ()
    if nas.marker.is_file():
        reports = watchdog_reports(engine, found.get(WATCHDOG))
        tasks = [task_status(nas, task, reports.get(task.name, {})) for task in nas.tasks()]
    elif lab.home.nas_folder.exists():
        note = f"no marker file in {nas.root}: the NAS is not mounted, everybody waits"
    return Overview(
        home=str(lab.home.root),
        nas=str(nas.root),
        running=running,
        note=note,
        services=tuple(shown),
        tasks=tuple(tasks),
        machine=machine(lab, engine),
    )


def machine(lab: Lab, engine: Engine) -> dict[str, str]:
    """What people ask next: what it trains on, and how much room is left."""
    facts = {"GPU": lab.trains_on}
    places = {"disk": engine.info().root, "NAS": lab.home.nas.root}
    for name, folder in places.items():
        try:
            usage = shutil.disk_usage(folder)
        except OSError as error:
            facts[name] = f"{folder}: {error.strerror}"
        else:
            facts[name] = f"{usage.free / GIB:.0f} of {usage.total / GIB:.0f} GiB free at {folder}"
    return facts


def _service(lab: Lab, engine: Engine, name: str, found: ContainerState | None) -> ServiceStatus:
    url = _url(lab, name)
    if found is None:
        return ServiceStatus(name, "stopped", url=url, reason="it has no container")
    state = state_of(found)
    lines: tuple[str, ...] = ()
    if state in ("failing", "restarting"):
        lines = tuple(engine.logs(found.name, LAST_LINES))
    return ServiceStatus(
        name=name,
        state=state,
        since=found.since,
        url=url,
        reason=reason_of(found, state),
        deaths=found.restarts,
        last_lines=lines,
    )


def state_of(found: ContainerState) -> State:
    """Docker's words in ours."""
    if found.status == "running":
        by_health: dict[str, State] = {
            "starting": "starting",
            "unhealthy": "unhealthy",
            "healthy": "healthy",
            "": "healthy",
        }
        return by_health.get(found.health, "unhealthy")
    if found.status == "restarting":
        return "restarting"
    if found.status == "created":
        return "waiting"
    if found.status in ("exited", "dead"):
        return "stopped" if found.exit_code == 0 else "failing"
    return "unhealthy"  # paused, removing


def reason_of(found: ContainerState, state: State) -> str:
    """Why it is not healthy, as the engine or the service's own check says it."""
    if state in ("healthy", "stopped"):
        return ""
    if state in ("failing", "restarting"):
        killed = " (killed: out of memory, or by hand)" if found.exit_code == 137 else ""
        return f"ended with exit code {found.exit_code}{killed}" + (
            f": {found.reason}" if found.reason else ""
        )
    if found.status == "paused":
        return "paused (`docker unpause` lets it go on)"
    return found.reason


def _url(lab: Lab, name: str) -> str | None:
    settings = lab.settings
    if not settings.has_gateway:
        return None
    if name in FILES:
        return settings.url("files")
    if name in LOGINS:
        return settings.url(LOGINS[name])  # type: ignore[arg-type]
    return None


def watchdog_reports(
    engine: Engine, watchdog: ContainerState | None
) -> Mapping[str, Mapping[str, Any]]:
    """What the watchdog last counted, by task; out of its own volume, running or not."""
    if watchdog is None:
        return {}
    try:
        archive = engine.archive(watchdog.name, "/state")
    except EngineError:
        return {}
    reports: dict[str, Mapping[str, Any]] = {}
    with tarfile.open(fileobj=io.BytesIO(archive)) as files:
        for member in files:
            name = member.name.rpartition("/")[2]
            stream = files.extractfile(member) if name.endswith(".json") else None
            if stream is None:
                continue
            try:
                record = json.loads(stream.read())
            except ValueError:  # being replaced
                continue
            if isinstance(record, dict):
                reports[name.removesuffix(".json")] = record
    return reports
