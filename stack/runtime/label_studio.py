"""The few calls of Label Studio's API that Labloop makes, over httpx.

Written against Label Studio 1.23.2. Its own SDK covers the same calls, but imports pandas,
OpenCV and NLTK: seconds and 150 MB for each of five small processes.
"""

import json
import ssl
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

PAGE = 100  # tasks per page: 0.3 s; 1000 per page take seconds and a whole worker


class LabelStudioError(Exception):
    """Label Studio refused a call, or answered something unexpected."""

    hint = "`labloop logs label-studio` shows its side."


class LabelStudioDownError(LabelStudioError):
    """Label Studio cannot be reached, or is not ready. Waiting and asking again helps."""

    hint = "`labloop status` says whether label-studio runs; callers wait and try again."


@dataclass(frozen=True, slots=True)
class ProjectRef:
    """A project of Label Studio that belongs to Labloop."""

    id: int
    title: str
    model_version: str
    missing: tuple[str, ...] = ()  # what could not be set up yet, and why


class LabelStudio:
    """A connection to one Label Studio, with the admin's or a service's token."""

    def __init__(
        self, url: str, token: str, timeout_s: float = 30.0, authority: Path | None = None
    ) -> None:
        """Connects at the first call.

        Args:
            url: with https:// where a gateway stands before it.
            token: of the API.
            timeout_s: for each call.
            authority: certificate of the lab's own authority, which signed the gateway's.
        """
        self.url = url.rstrip("/")
        verify = True if authority is None else ssl.create_default_context(cafile=str(authority))
        self.http = httpx.Client(
            base_url=self.url,
            headers={"Authorization": f"Token {token}"},
            timeout=timeout_s,
            follow_redirects=True,
            verify=verify,
            trust_env=False,  # a lab's web proxy must not see, or break, calls on this box
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self.http.close()

    def call(
        self,
        method: str,
        path: str,
        body: object = None,
        params: Mapping[str, Any] | None = None,
    ) -> Any:
        """One call; the decoded JSON of the answer, or None when the answer is empty.

        Raises:
            LabelStudioDownError: no connection, or a 502, 503 or 504.
            LabelStudioError: any other answer of 400 or more.
        """
        try:
            answer = self.http.request(method, path, json=body, params=params)
        except httpx.TransportError as error:
            raise LabelStudioDownError(f"{method} {path}: {error!r}") from error
        if answer.status_code in (502, 503, 504):
            raise LabelStudioDownError(f"{method} {path}: status {answer.status_code}")
        if answer.status_code >= 400:
            reason = _reason(answer)
            raise LabelStudioError(f"{method} {path}: status {answer.status_code}: {reason}")
        return answer.json() if answer.content else None

    # --- the server -------------------------------------------------------------------------

    def is_up(self) -> bool:
        try:
            return bool(self.call("GET", "/health").get("status") == "UP")
        except (LabelStudioError, ValueError, AttributeError):
            return False

    def wait_until_up(self, timeout_s: float, every_s: float = 0.5) -> None:
        """Return once the server answers.

        Raises:
            LabelStudioDownError: it did not within `timeout_s`.
        """
        deadline = time.monotonic() + timeout_s
        while not self.is_up():
            if time.monotonic() > deadline:
                raise LabelStudioDownError(f"{self.url} did not answer within {timeout_s:.0f} s")
            time.sleep(every_s)

    # --- projects ---------------------------------------------------------------------------

    def projects(self) -> list[dict[str, Any]]:
        """Every project, with all its fields."""
        found: list[dict[str, Any]] = []
        page = 1
        while True:
            answer = self.call("GET", "/api/projects/", params={"page": page, "page_size": PAGE})
            found += answer["results"]
            if len(found) >= answer["count"] or not answer["results"]:
                return found
            page += 1

    def project(self, project: int) -> dict[str, Any]:
        """One project, with all its fields."""
        return dict(self.call("GET", f"/api/projects/{project}/"))

    def find_project(self, task: str) -> ProjectRef | None:
        """The project of a task. Its description starts with the task's name, its title is free."""
        for project in self.projects():
            if (project.get("description") or "").split("\n")[0].strip() == task:
                version = project.get("model_version") or ""
                return ProjectRef(project["id"], project["title"], version)
        return None

    # --- tasks ------------------------------------------------------------------------------

    def tasks(
        self,
        project: int,
        *,
        updated_after: str | None = None,
        order: str = "tasks:id",
        whole: bool = True,
    ) -> Iterator[dict[str, Any]]:
        """Tasks with data, annotations and predictions, page by page.

        Args:
            project: the project's number.
            updated_after: only tasks changed after this moment (ISO 8601).
            order: a column of the data manager, `-` before it for descending.
            whole: False leaves out annotations and predictions, which may be megabytes each.
        """
        query: dict[str, Any] = {"ordering": [order]}
        if updated_after is not None:
            item = {
                "filter": "filter:tasks:updated_at",
                "operator": "greater",
                "type": "Datetime",
                "value": updated_after,
            }
            query["filters"] = {"conjunction": "and", "items": [item]}
        page = 1
        seen = 0
        while True:
            params: dict[str, Any] = {"project": project, "page": page, "page_size": PAGE}
            params["fields"] = "all" if whole else "task_only"
            params["query"] = json.dumps(query)
            answer = self.call("GET", "/api/tasks", params=params)
            yield from answer["tasks"]
            seen += len(answer["tasks"])
            if not answer["tasks"] or seen >= answer["total"]:
                return
            page += 1

    def import_tasks(self, project: int, tasks: Sequence[Mapping[str, Any]]) -> list[int]:
        """Create tasks (with their annotations and predictions); their numbers, in order."""
        params = {"return_task_ids": "true"}
        path = f"/api/projects/{project}/import"
        return list(self.call("POST", path, list(tasks), params)["task_ids"])

    def create_annotation(
        self, task: int, results: Sequence[Mapping[str, Any]], lead_time_s: float = 0.0
    ) -> int:
        """Submit an answer as the owner of the token; the annotation's number."""
        body = {"result": list(results), "lead_time": lead_time_s}
        return int(self.call("POST", f"/api/tasks/{task}/annotations/", body)["id"])

    # --- predictions ------------------------------------------------------------------------

    def import_predictions(self, project: int, predictions: Sequence[Mapping[str, Any]]) -> int:
        """Store predictions; how many were. Not idempotent: the caller looks first.

        Raises:
            LabelStudioError: fewer were stored than sent: Label Studio drops results whose label
                is not in the labelling configuration without a word.
        """
        path = f"/api/projects/{project}/import/predictions"
        created = int(self.call("POST", path, list(predictions))["created"])
        if created != len(predictions):
            raise LabelStudioError(f"{created} of {len(predictions)} predictions were stored")
        return created

    def model_versions(self, project: int) -> dict[str, int]:
        """Model version → number of stored predictions."""
        return dict(self.call("GET", f"/api/projects/{project}/model-versions") or {})

    def delete_predictions(self, project: int, model_version: str) -> int:
        """Remove all predictions of one model version; how many there were."""
        path = f"/api/projects/{project}/model-versions"
        answer = self.call("DELETE", path, {"model_version": model_version})
        return int((answer or {}).get("deleted_predictions", 0))

    def select_model_version(self, project: int, model_version: str) -> None:
        """Serve annotators the stored predictions of this version."""
        self.call("PATCH", f"/api/projects/{project}", {"model_version": model_version})


def _reason(answer: httpx.Response) -> str:
    """What a refusal says: one line, without the page or the bookkeeping around it."""
    try:
        body = answer.json()
    except ValueError:
        return "no reason given"  # a page for browsers
    if isinstance(body, dict):
        body = body.get("validation_errors") or body.get("detail") or body
    return " ".join(json.dumps(body, ensure_ascii=False).split())[:300]
