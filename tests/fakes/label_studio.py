"""A Label Studio in memory, behind the real client: the HTTP calls are what is faked.

It answers the calls that `stack.runtime.label_studio` makes the way 1.23.2 does. `down` refuses
connections; `lose_next_answer` carries a POST out and then breaks the connection, as a process
that dies in the middle does.
"""

import json
import re
from collections.abc import Callable
from typing import Any

import httpx

from stack.runtime.label_studio import LabelStudio

Answer = tuple[int, Any]
URL = "http://label-studio.test"


class FakeLabelStudio(LabelStudio):
    """The client of a server that lives in this object."""

    def __init__(self) -> None:
        # Not super().__init__(): its client reads the system's certificates, 50 ms for each test.
        self.url = URL
        transport = httpx.MockTransport(self._answer)
        self.http = httpx.Client(base_url=URL, transport=transport, verify=False)
        self.down = False
        self.lose_next_answer = False
        self.calls: list[str] = []
        self.projects_by_id: dict[int, dict[str, Any]] = {}
        self.tasks_by_id: dict[int, dict[str, Any]] = {}
        self._last = 0

    # --- for tests ----------------------------------------------------------------------------

    def add_project(self, task: str, **fields: Any) -> int:
        """A project that belongs to a task folder; its number."""
        number = self._number()
        self.projects_by_id[number] = {
            "id": number,
            "title": task,
            "description": task,
            "model_version": "",
            "label_config": "<View></View>",
        } | fields
        return number

    def cases(self) -> list[str]:
        """The case of every task, in the order of their making."""
        return [task["data"]["case"] for task in self.tasks_by_id.values()]

    def task_of(self, case: str) -> dict[str, Any]:
        return next(task for task in self.tasks_by_id.values() if task["data"]["case"] == case)

    # --- the server ---------------------------------------------------------------------------

    def _answer(self, request: httpx.Request) -> httpx.Response:
        if self.down:
            raise httpx.ConnectError("refused", request=request)
        path = request.url.path.rstrip("/")
        self.calls.append(f"{request.method} {path}")
        body = json.loads(request.content) if request.content else None
        status, answer = self._route(request.method, path, dict(request.url.params), body)
        if self.lose_next_answer and request.method == "POST":
            self.lose_next_answer = False
            raise httpx.ReadTimeout("lost", request=request)
        return httpx.Response(status, json=answer) if answer is not None else httpx.Response(status)

    def _route(self, method: str, path: str, query: dict[str, str], body: Any) -> Answer:
        routes: list[tuple[str, str, Callable[..., Answer]]] = [
            ("GET", r"/health", lambda: (200, {"status": "UP"})),
            ("GET", r"/api/projects", self._projects),
            ("POST", r"/api/projects", lambda: (201, self._create_project(body))),
            ("GET", r"/api/projects/(\d+)", lambda n: (200, self.projects_by_id[int(n)])),
            ("PATCH", r"/api/projects/(\d+)", lambda n: self._change_project(int(n), body)),
            ("GET", r"/api/tasks", lambda: self._page_of_tasks(query)),
            ("GET", r"/api/tasks/(\d+)", lambda n: (200, self.tasks_by_id[int(n)])),
            ("DELETE", r"/api/tasks/(\d+)", lambda n: (204, self.tasks_by_id.pop(int(n)) and None)),
            ("POST", r"/api/projects/(\d+)/import", lambda n: self._import(int(n), body)),
            ("POST", r"/api/tasks/(\d+)/annotations", lambda n: self._annotate(int(n), body)),
            ("POST", r"/api/projects/(\d+)/import/predictions", lambda _: self._predict(body)),
            ("GET", r"/api/projects/(\d+)/model-versions", lambda n: self._versions(int(n))),
            ("DELETE", r"/api/projects/(\d+)/model-versions", lambda n: self._drop(int(n), body)),
        ]
        for verb, pattern, act in routes:
            match = re.fullmatch(pattern, path)
            if verb == method and match:
                return act(*match.groups())
        return 404, {"detail": f"{method} {path} is not faked"}

    def _projects(self) -> Answer:
        rows = list(self.projects_by_id.values())
        return 200, {"count": len(rows), "results": rows}

    def _create_project(self, body: dict[str, Any]) -> dict[str, Any]:
        return self.projects_by_id[self.add_project(body.get("title", ""), **body)]

    def _change_project(self, number: int, body: dict[str, Any]) -> Answer:
        self.projects_by_id[number] |= body
        return 200, self.projects_by_id[number]

    def _page_of_tasks(self, query: dict[str, str]) -> Answer:
        rows = [t for t in self.tasks_by_id.values() if t["project"] == int(query["project"])]
        size = int(query["page_size"])
        start = (int(query["page"]) - 1) * size
        page = rows[start : start + size]
        if query.get("fields") != "all":
            hidden = ("annotations", "predictions")
            page = [{key: row[key] for key in row if key not in hidden} for row in page]
        return 200, {"tasks": page, "total": len(rows)}

    def _import(self, project: int, tasks: list[dict[str, Any]]) -> Answer:
        numbers = []
        for task in tasks:
            number = self._number()
            numbers.append(number)
            self.tasks_by_id[number] = {
                "id": number,
                "project": project,
                "data": task["data"],
                "annotations": [],
                "predictions": [],
                "total_annotations": 0,
                "cancelled_annotations": 0,
                "draft_exists": False,
            }
            for annotation in task.get("annotations", []):
                self._annotate(number, annotation)
        return 201, {"task_ids": numbers, "task_count": len(numbers)}

    def _annotate(self, task: int, body: dict[str, Any]) -> Answer:
        row = self.tasks_by_id[task]
        annotation = body | {"id": self._number(), "task": task}
        row["annotations"].append(annotation)
        row["total_annotations"] += 1
        return 201, annotation

    def _predict(self, predictions: list[dict[str, Any]]) -> Answer:
        for prediction in predictions:
            row = prediction | {"id": self._number()}
            self.tasks_by_id[prediction["task"]]["predictions"].append(row)
        return 201, {"created": len(predictions)}

    def _versions(self, project: int) -> Answer:
        counts: dict[str, int] = {}
        for task in self.tasks_by_id.values():
            for prediction in task["predictions"] if task["project"] == project else []:
                version = prediction["model_version"]
                counts[version] = counts.get(version, 0) + 1
        return 200, counts

    def _drop(self, project: int, body: dict[str, Any]) -> Answer:
        dropped = 0
        for task in self.tasks_by_id.values():
            if task["project"] == project:
                kept = [
                    p for p in task["predictions"] if p["model_version"] != body["model_version"]
                ]
                dropped += len(task["predictions"]) - len(kept)
                task["predictions"] = kept
        return 200, {"deleted_predictions": dropped}

    def _number(self) -> int:
        self._last += 1
        return self._last
