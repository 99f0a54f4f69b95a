"""What Label Studio sends, checked at the door."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ml_backend.errors import BadCallError

MAX_TASKS = 5_000  # more than can be computed before Label Studio gives up, after 100 s


@dataclass(frozen=True, slots=True)
class CalledTask:
    """One task of a /predict call."""

    id: int | None  # for the log
    data: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class PredictCall:
    """The body of /predict."""

    tasks: tuple[CalledTask, ...]
    interactive: bool  # an annotator clicked in the editor and looks at the screen


def parse_predict(body: bytes) -> PredictCall:
    """The tasks of a /predict call.

    Raises:
        BadCallError: the body is no such call; says what was found and what was expected.
    """
    call = parse_object(body)
    tasks = call.get("tasks")
    if not isinstance(tasks, list) or len(tasks) > MAX_TASKS:
        raise BadCallError(f"tasks is {_kind(tasks)}, expected a list of at most {MAX_TASKS} tasks")
    params = call.get("params") or {}
    if not isinstance(params, dict):
        raise BadCallError(f"params is {_kind(params)}, expected an object")
    return PredictCall(
        tasks=tuple(_task(place, task) for place, task in enumerate(tasks)),
        interactive=bool(params.get("context")),
    )


def parse_object(body: bytes) -> dict[str, Any]:
    """The JSON object in a body.

    Raises:
        BadCallError: the body is no JSON, or no object.
    """
    try:
        call = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise BadCallError(f"the body is no JSON: {error}") from error
    if not isinstance(call, dict):
        raise BadCallError(f"the body is {_kind(call)}, expected an object")
    return call


def _task(place: int, task: object) -> CalledTask:
    data = task.get("data") if isinstance(task, dict) else None
    if not isinstance(task, dict) or not isinstance(data, dict):
        raise BadCallError(f"tasks[{place}] is {_kind(task)}, expected an object with data")
    number = task.get("id")
    return CalledTask(number if isinstance(number, int) else None, data)


def _kind(value: object) -> str:
    if isinstance(value, list | dict):
        return f"a {type(value).__name__} of {len(value)}"
    return type(value).__name__
