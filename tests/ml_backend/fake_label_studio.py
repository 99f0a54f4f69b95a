"""As much of Label Studio 1.23.2 as the pusher sees, in memory, with a fuse for kill -9."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx

from imaging.ids import utc_now
from stack.runtime.label_studio import LabelStudio


class Killed(BaseException):
    """The process died here."""


@dataclass(slots=True)
class FakeTask:
    id: int
    data: dict[str, Any]
    is_labelled: bool = False
    skipped: int = 0
    drafts: list[dict[str, Any]] = field(default_factory=list)


@dataclass(slots=True)
class FakeLabelStudio:
    """One project. `on_change` sees every state an annotator could see."""

    description: str
    tasks: dict[int, FakeTask] = field(default_factory=dict)
    predictions: dict[int, dict[str, Any]] = field(default_factory=dict)
    selected: str = "the live back end"
    is_down: bool = False
    known_labels: frozenset[str] | None = None  # others are dropped without a word
    fuse: tuple[int, bool] | None = None  # die at this call, after (True) or before it took effect
    calls: int = 0
    imports: list[int] = field(default_factory=list)  # predictions in each call
    before_import: Callable[[], None] | None = None  # somebody acts at the same time
    on_change: Callable[[], None] | None = None

    def connect(self) -> LabelStudio:
        api = LabelStudio("http://label-studio", "token")
        api.http.close()
        api.http = httpx.Client(
            base_url="http://label-studio", transport=httpx.MockTransport(self._handle)
        )
        return api

    def add_task(self, address: str | dict[str, Any]) -> FakeTask:
        data = {"image": address} if isinstance(address, str) else address
        task = FakeTask(len(self.tasks) + 1, data)
        self.tasks[task.id] = task
        return task

    def add_prediction(self, task: int, version: str, created_at: str | None = None) -> int:
        number = max(self.predictions, default=0) + 1
        self.predictions[number] = {
            "id": number,
            "task": task,
            "model_version": version,
            "created_at": created_at or utc_now(),
        }
        return number

    def held(self, task: int) -> list[str]:
        """The versions of a task's predictions, oldest first."""
        return [one["model_version"] for one in self.predictions.values() if one["task"] == task]

    # --- the API ----------------------------------------------------------------------------

    def _handle(self, request: httpx.Request) -> httpx.Response:
        if self.is_down:
            raise httpx.ConnectError("refused")
        self.calls += 1
        dies = self.fuse is not None and self.fuse[0] == self.calls
        if dies and self.fuse is not None and not self.fuse[1]:
            raise Killed
        body = json.loads(request.content) if request.content else None
        status, answer = self._route(request.method, request.url, body)
        if request.method != "GET" and self.on_change:
            self.on_change()
        if dies:
            raise Killed
        return httpx.Response(status, json=answer)

    def _route(self, method: str, url: httpx.URL, body: Any) -> tuple[int, Any]:
        match method, url.path.strip("/").split("/"):
            case "GET", ["api", "projects"]:
                project = {"id": 7, "description": self.description, "title": "Heart"}
                results = [project | {"model_version": self.selected}]
                results.append({"id": 8, "description": None, "title": "x", "model_version": None})
                return 200, {"count": 2, "results": results}
            case "PATCH", ["api", "projects", "7"]:
                if body["model_version"] not in self._versions():
                    return 400, {"validation_errors": "Model version doesn't exist"}
                self.selected = body["model_version"]
                return 200, {}
            case "GET", ["api", "projects", "7", "model-versions"]:
                return 200, self._versions() | {"the live back end": 0}
            case "DELETE", ["api", "projects", "7", "model-versions"]:
                return 200, {"deleted_predictions": self._delete(body["model_version"])}
            case "POST", ["api", "projects", "7", "import", "predictions"]:
                return 201, {"created": self._import(body)}
            case "DELETE", ["api", "predictions", number]:
                del self.predictions[int(number)]
                return 200, None
            case "PATCH", ["api", "tasks", number]:
                self.tasks[int(number)].data = body["data"]
                return 200, {}
            case "GET", ["api", "tasks"]:
                return 200, self._page(url.params)
        return 404, {}

    def _versions(self) -> dict[str, int]:
        counts: dict[str, int] = {}
        for one in self.predictions.values():
            counts[one["model_version"]] = counts.get(one["model_version"], 0) + 1
        return counts

    def _delete(self, version: str) -> int:
        gone = [n for n, one in self.predictions.items() if one["model_version"] == version]
        for number in gone:
            del self.predictions[number]
        return len(gone)

    def _import(self, predictions: list[dict[str, Any]]) -> int:
        if self.before_import:
            self.before_import()
        self.imports.append(len(predictions))
        created = 0
        for one in predictions:
            labels = {
                name
                for region in one["result"]
                for name in region["value"].get("brushlabels", region["value"].get("choices"))
            }
            if self.known_labels is None or labels <= self.known_labels:
                number = self.add_prediction(one["task"], one["model_version"])
                self.predictions[number]["result"] = one["result"]
                created += 1
        return created

    def _page(self, params: httpx.QueryParams) -> dict[str, Any]:
        assert params["page"] == "1"
        filters = json.loads(params["query"])["filters"]["items"]
        found = [task for task in self.tasks.values() if self._passes(task, filters)]
        page = found[: int(params["page_size"])]
        return {"total": len(found), "tasks": [self._shown(task) for task in page]}

    def _shown(self, task: FakeTask) -> dict[str, Any]:
        predictions = [one for one in self.predictions.values() if one["task"] == task.id]
        answers = int(task.is_labelled)
        return {
            "id": task.id,
            "data": task.data,
            "drafts": task.drafts,
            "predictions": predictions,
            "annotations": [{}] * answers,
            "total_annotations": answers,
            "cancelled_annotations": task.skipped,
        }

    def _passes(self, task: FakeTask, filters: Sequence[dict[str, Any]]) -> bool:
        return all(
            self._passes_one(task, one["filter"].removeprefix("filter:tasks:"), one)
            for one in filters
        )

    def _passes_one(self, task: FakeTask, column: str, item: dict[str, Any]) -> bool:
        held, value = self.held(task.id), item["value"]
        match column, item["operator"]:
            case "predictions_model_versions", "contains":
                return any(version in held for version in value)
            case "predictions_model_versions", "not_contains":
                return all(version not in held for version in value)
            case "completed_at", "empty":
                return task.is_labelled is not value
            case "id", operator:
                return task.id == value if operator == "equal" else task.id > int(value)
            case "total_predictions", "greater":
                return len(held) > int(value)
            case "draft_exists", "equal":
                return bool(task.drafts) is value
        raise KeyError(column)
