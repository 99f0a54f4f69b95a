"""What Label Studio knows, as the watchdog asks for it: cheap listings, then one task at a time.

Measured on 1.23.2. A task's `updated_at` moves whenever one of its annotations is created, edited,
skipped, deleted (one by one or in bulk) or turned back into a draft, and when the task is imported
with annotations. It does not move for drafts and predictions. Listings page by task number, not by
page number, so that nothing is passed over when tasks are deleted meanwhile. The list of a task's
annotations leaves out skipped ones and costs 12 ms; the listing with everything, predictions
included, costs 60 ms for one task and 4 ms each for fifty.
"""

import json
import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Protocol

import httpx

from imaging.ids import parse_utc
from imaging.labelstudio.stack import SLICES
from services.watchdog.errors import TooLargeError
from stack.runtime.label_studio import LabelStudio, LabelStudioDownError, LabelStudioError

log = logging.getLogger(__name__)

PAGE_PROJECTS = 100
PAGE_ROWS = 500  # 0.6 s of one worker; a row without results costs about 1.3 ms
MAX_ANSWERS_BYTES = 64 << 20  # of one call; forty ragged masks of 512 × 512
CUT_AT = 500  # Label Studio cuts its list of annotation numbers after so many characters


@dataclass(frozen=True, slots=True)
class TaskRow:
    """What a listing says about one task."""

    id: int
    case: str  # empty when the task was not made by Labloop
    created_at: str
    updated_at: str
    answers: int  # annotations that were submitted
    skipped: int  # annotations that say: I cannot answer this
    annotations: frozenset[int] | None = None  # their numbers, where the listing has all of them
    data: Mapping[str, Any] = field(default_factory=dict, compare=False)  # what it shows

    @property
    def is_stack(self) -> bool:
        """Whether it shows the slices of a volume: its answers may be megabytes each."""
        return SLICES in self.data


Answers = list[Mapping[str, Any]]


class AnswerSource(Protocol):
    """Whoever can say what people answered."""

    def projects(self) -> dict[str, int]:
        """Task name → number of its project."""

    def changed(self, project: int, since: str | None) -> Iterator[TaskRow]:
        """Tasks that changed after a moment, or all, by number."""

    def annotated(self, project: int) -> Iterator[TaskRow]:
        """Tasks that have annotations, with their numbers."""

    def row(self, project: int, task: int) -> TaskRow | None:
        """One task, or None when it is gone."""

    def annotations(self, project: int, row: TaskRow) -> Answers | None:
        """The answers to one task, skipped ones included; None when the task is gone."""

    def many(self, project: int, rows: Sequence[TaskRow]) -> dict[int, Answers]:
        """The answers to several tasks, by number, as far as they come cheaper in one call."""

    def annotation(self, number: int) -> Mapping[str, Any] | None:
        """One answer, or None when it is gone."""

    def model_version(self, prediction: int) -> str | None:
        """Who made a prediction, or None when it is gone."""


class LabelStudioSource:
    """An `AnswerSource` over Label Studio's API."""

    def __init__(self, client: LabelStudio, max_answers_bytes: int = MAX_ANSWERS_BYTES) -> None:
        self.client = client
        self.max_answers_bytes = max_answers_bytes

    def projects(self) -> dict[str, int]:
        found: dict[str, int] = {}
        for page in count(1):
            # Two of sixty fields: a third of the time.
            params = {"include": "id,description", "page": page, "page_size": PAGE_PROJECTS}
            answer = self.client.call("GET", "/api/projects/", params=params)
            for project in answer["results"]:
                name = (project.get("description") or "").split("\n")[0].strip()
                found.setdefault(name, int(project["id"]))
            if not answer.get("next"):
                break
        return found

    def changed(self, project: int, since: str | None) -> Iterator[TaskRow]:
        filters = [] if since is None else [_filter("updated_at", "greater", "Datetime", since)]
        yield from self._rows(project, filters)

    def annotated(self, project: int) -> Iterator[TaskRow]:
        return self._annotated(project)

    def row(self, project: int, task: int) -> TaskRow | None:
        return next(self._rows(project, [_filter("id", "equal", "Number", task)]), None)

    def annotations(self, project: int, row: TaskRow) -> Answers | None:
        try:
            found: Answers | None = self._get(f"/api/tasks/{row.id}/annotations/")
        except TooLargeError:
            if not row.is_stack:
                raise
            # Fifteen organs on a hundred slices are 20 MB, and several people may have drawn them.
            found = []
        else:
            if found is None or not row.skipped:
                return found
        listed = {int(answer["id"]) for answer in found}
        only = _filter("id", "equal", "Number", row.id)
        numbers = next((one.annotations for one in self._annotated(project, only)), None)
        unlisted = (self.annotation(number) for number in sorted((numbers or frozenset()) - listed))
        return found + [answer for answer in unlisted if answer is not None]

    def many(self, project: int, rows: Sequence[TaskRow]) -> dict[int, Answers]:
        only = _filter("id", "in_list", "List", [row.id for row in rows])
        params = _params(project, [only], fields="all") | {"page_size": len(rows)}
        try:
            found = self._get("/api/tasks", params)
        except LabelStudioDownError:
            raise
        except (LabelStudioError, TooLargeError) as error:
            log.info("tasks are read one by one: %s", error)
            return {}
        return {task["id"]: task["annotations"] for task in (found or {"tasks": []})["tasks"]}

    def annotation(self, number: int) -> Mapping[str, Any] | None:
        found: Mapping[str, Any] | None = self._get(f"/api/annotations/{number}/")
        return found

    def model_version(self, prediction: int) -> str | None:
        try:
            return str(self.client.call("GET", f"/api/predictions/{prediction}/")["model_version"])
        except LabelStudioDownError:
            raise
        except LabelStudioError:  # removed since, as old versions are after a promotion
            return None

    def _annotated(self, project: int, *filters: dict[str, Any]) -> Iterator[TaskRow]:
        # Filtering by this column is also what makes Label Studio fill it in.
        return self._rows(project, [*filters, _filter("annotations_ids", "empty", "List", False)])

    def _get(self, path: str, params: Mapping[str, Any] | None = None) -> Any:
        """What is there, or None for 404."""
        try:
            with self.client.http.stream("GET", path, params=params) as answer:
                if answer.status_code == 404:
                    return None
                if answer.status_code in (502, 503, 504):
                    raise LabelStudioDownError(f"GET {path}: status {answer.status_code}")
                if answer.status_code >= 400:
                    raise LabelStudioError(f"GET {path}: status {answer.status_code}")
                return json.loads(self._bounded(answer, path))
        except httpx.TransportError as error:
            raise LabelStudioDownError(f"GET {path}: {error!r}") from error

    def _bounded(self, answer: httpx.Response, path: str) -> bytes:
        body = bytearray()
        for chunk in answer.iter_bytes():
            body += chunk
            if len(body) > self.max_answers_bytes:
                raise TooLargeError(
                    f"{path}: more than {self.max_answers_bytes >> 20} MiB of answers"
                )
        return bytes(body)

    def _rows(self, project: int, filters: list[dict[str, Any]]) -> Iterator[TaskRow]:
        last = 0
        while True:
            items = [*filters, _filter("id", "greater", "Number", last)]
            params = _params(project, items) | {"page_size": PAGE_ROWS}
            tasks = self.client.call("GET", "/api/tasks", params=params)["tasks"]
            yield from map(_row, tasks)
            if len(tasks) < PAGE_ROWS:
                return
            last = tasks[-1]["id"]


def _params(project: int, items: list[dict[str, Any]], fields: str = "task_only") -> dict[str, Any]:
    query = {"ordering": ["tasks:id"], "filters": {"conjunction": "and", "items": items}}
    return {
        "project": project,
        "fields": fields,
        "resolve_uri": "false",
        "query": json.dumps(query),
    }


def _filter(column: str, operator: str, kind: str, value: object) -> dict[str, Any]:
    return {
        "filter": f"filter:tasks:{column}",
        "operator": operator,
        "type": kind,
        "value": value,
    }


def _row(task: Mapping[str, Any]) -> TaskRow:
    numbers = str(task.get("annotations_ids") or "")
    data = task.get("data")
    case = data.get("case") if isinstance(data, Mapping) else None
    return TaskRow(
        id=int(task["id"]),
        case=case if isinstance(case, str) else "",
        created_at=stamp(task["created_at"]),
        updated_at=stamp(task["updated_at"]),
        answers=int(task["total_annotations"] or 0),
        skipped=int(task["cancelled_annotations"] or 0),
        annotations=None if len(numbers) >= CUT_AT else frozenset(map(int, _numbers(numbers))),
        data=data if isinstance(data, Mapping) else {},
    )


def _numbers(text: str) -> list[str]:
    return re.findall(r"\d+", text)


def stamp(text: str) -> str:
    """A time of Label Studio's, so that texts compare as times do.

    It leaves out a fraction that is zero, and refuses a filter without one.
    """
    moment = parse_utc(text).isoformat(timespec="microseconds")
    return moment.replace("+00:00", "Z")
