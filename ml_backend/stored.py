"""The predictions that Label Studio holds for one project.

The data manager's filters do the looking, so that a project of many thousand tasks costs a page.
Written against Label Studio 1.23.2.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from imaging.ids import parse_utc
from stack.runtime.label_studio import LabelStudio

Filter = dict[str, Any]


@dataclass(frozen=True, slots=True)
class OpenTask:
    """A task that still waits for a person's answer."""

    id: int
    data: Mapping[str, Any]


class StoredPredictions:
    """What one project has; every method asks anew."""

    def __init__(self, api: LabelStudio, project: int) -> None:
        self._api = api
        self.project = project

    def lacking(self, version: str, after: int, limit: int) -> list[OpenTask]:
        """Unlabelled tasks without a prediction of this version, by number, those above `after`."""
        filters = [
            _filter("predictions_model_versions", "not_contains", "List", [version]),
            _filter("completed_at", "empty", "Datetime", True),
            _filter("id", "greater", "Number", after),
        ]
        page = self._page(filters, limit, fields="task_only")
        return [OpenTask(int(task["id"]), task["data"]) for task in page["tasks"]]

    def unanswered_data(self, task: int) -> dict[str, Any] | None:
        """A task's data as they are now; None when somebody has answered, skipped or begun to.

        Asked of the data manager: asking for the task itself counts as opening it, for which
        Label Studio would want a live prediction.
        """
        for found in self._page([_filter("id", "equal", "Number", task)], 1, fields="all")["tasks"]:
            begun = found["annotations"] or found["drafts"] or found["total_annotations"]
            if not begun and not found["cancelled_annotations"]:
                return dict(found["data"])
        return None

    def change_data(self, task: int, data: Mapping[str, Any]) -> None:
        self._api.call("PATCH", f"/api/tasks/{task}/", {"data": dict(data)})

    def versions(self) -> dict[str, int]:
        """Version → number of its predictions; the name of a live back end is no version."""
        return {name: held for name, held in self._api.model_versions(self.project).items() if held}

    def add(self, predictions: Sequence[Mapping[str, Any]]) -> None:
        self._api.import_predictions(self.project, predictions)

    def select(self, version: str) -> None:
        self._api.select_model_version(self.project, version)

    def remove_version(self, version: str) -> int:
        return self._api.delete_predictions(self.project, version)

    def remove(self, prediction: int) -> None:
        self._api.call("DELETE", f"/api/predictions/{prediction}/")

    def tasks_with(self, version: str) -> int:
        """How many tasks hold a prediction of this version; fewer than predictions = duplicates."""
        return int(self._page([_with_version(version)], 1, fields="task_only")["total"])

    def duplicates(self, version: str) -> Iterator[list[Mapping[str, Any]]]:
        """For each task with several predictions of one version: these, oldest first."""
        several = _filter("total_predictions", "greater", "Number", 1)
        for task in self._all([_with_version(version), several]):
            same = [one for one in task["predictions"] if one["model_version"] == version]
            if len(same) > 1:
                yield sorted(same, key=lambda one: int(one["id"]))

    def has_draft(self, before: datetime, after: datetime) -> bool:
        """Whether an unsubmitted answer was begun before one moment and changed after another."""
        drafts = [
            draft
            for task in self._all([_filter("draft_exists", "equal", "Boolean", True)])
            for draft in task["drafts"]
        ]
        return any(
            parse_utc(draft["created_at"]) < before and parse_utc(draft["updated_at"]) > after
            for draft in drafts
        )

    # --- pages of the data manager ----------------------------------------------------------

    def _page(self, filters: list[Filter], size: int, fields: str) -> dict[str, Any]:
        query = {"ordering": ["tasks:id"], "filters": {"conjunction": "and", "items": filters}}
        params = {"project": self.project, "page": 1, "page_size": size, "fields": fields}
        answer: dict[str, Any] = self._api.call(
            "GET", "/api/tasks", params=params | {"query": json.dumps(query)}
        )
        return answer

    def _all(self, filters: list[Filter]) -> Iterator[dict[str, Any]]:
        after = 0
        while True:
            above = [*filters, _filter("id", "greater", "Number", after)]
            tasks = self._page(above, 100, fields="all")["tasks"]
            yield from tasks
            if len(tasks) < 100:
                return
            after = int(tasks[-1]["id"])


def _with_version(version: str) -> Filter:
    return _filter("predictions_model_versions", "contains", "List", [version])


def _filter(column: str, operator: str, kind: str, value: object) -> Filter:
    name = f"filter:tasks:{column}"
    return {"filter": name, "operator": operator, "type": kind, "value": value}
