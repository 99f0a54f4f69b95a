"""The project of Label Studio that belongs to a task folder: made once, kept as task.yaml says.

The first line of the description is the task's name and makes a project ours; everything else may
be changed in the browser, and what task.yaml decides is put right again. Written against Label
Studio 1.23.2.
"""

import logging
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from imaging.labelstudio.config import labelling_config
from imaging.layout import Nas
from imaging.task import TaskConfig
from stack.runtime.label_studio import (
    LabelStudio,
    LabelStudioDownError,
    LabelStudioError,
    ProjectRef,
)

log = logging.getLogger(__name__)

TITLE_LENGTHS = (3, 50)  # what Label Studio takes
SAMPLING = {
    "sequential": "Sequential sampling",
    "uniform": "Uniform sampling",
    "uncertainty": "Uncertainty sampling",
}
BACKEND_TITLE = "Labloop"
BACKEND_USER = "labloop"
SECRET_HEADER = "X-Labloop-Secret"
WEBHOOK_ACTIONS = (
    "ANNOTATION_CREATED",
    "ANNOTATIONS_CREATED",
    "ANNOTATION_UPDATED",
    "ANNOTATIONS_DELETED",
)
# The list and one row of it; Label Studio is particular about the slash at the end.
STORAGES = ("/api/storages/localfiles/", "/api/storages/localfiles/{}")
WEBHOOKS = ("/api/webhooks/", "/api/webhooks/{}/")
BACKENDS = ("/api/ml/", "/api/ml/{}")


@dataclass(frozen=True, slots=True)
class ProjectLinks:
    """What every project is connected to, as Label Studio reaches it; an empty URL is left out."""

    ml_backend_url: str
    ml_backend_token: str = field(repr=False)
    webhook_url: str
    webhook_secret: str = field(repr=False)


def ensure_project(
    client: LabelStudio, nas: Nas, task: str, config: TaskConfig, links: ProjectLinks
) -> ProjectRef:
    """The project of a task, made or put right as far as Label Studio lets us.

    Safe to repeat. Tasks can be imported whatever is in `missing` of the answer: each entry says
    what could not be set up and why, to be tried again later.

    Raises:
        NasGoneError: the NAS is not mounted.
        LabelStudioDownError: Label Studio cannot be reached.
        LabelStudioError: there is no project and it refuses to make one.
        RecordError: a label's name cannot be used in Label Studio.
    """
    nas.require_marker()  # below, a folder is made
    found = client.find_project(task) or _create(client, task, config)
    steps: dict[str, Callable[[], None]] = {
        "labels": lambda: _put_labels_right(client, found.id, config),
        "settings": lambda: _put_settings_right(client, found.id, _settings(task, config)),
        "pictures": lambda: _put_storage_right(client, found.id, nas, task),
        "webhook": lambda: _put_webhook_right(client, found.id, links),
        "ml-backend": lambda: _put_backend_right(client, found.id, task, links),
    }
    missing = []
    for what, step in steps.items():
        try:
            step()
        except LabelStudioDownError:
            raise
        except LabelStudioError as error:
            missing.append(f"{what}: {error}")
    project = client.project(found.id)
    return replace(
        found,
        title=project["title"],
        model_version=project["model_version"] or "",
        missing=tuple(missing),
    )


def _create(client: LabelStudio, task: str, config: TaskConfig) -> ProjectRef:
    body = _settings(task, config) | {
        "title": _title(task, config),
        "description": f"{task}\nKept by Labloop as task.yaml says; leave the first line as it is.",
        "label_config": labelling_config(config),
    }
    project = client.call("POST", "/api/projects/", body)
    log.info("task %s: project %d was created", task, project["id"])
    return ProjectRef(project["id"], project["title"], "")


def _settings(task: str, config: TaskConfig) -> dict[str, Any]:
    """What task.yaml decides besides the labels. A title of its own there wins over the browser."""
    decided: dict[str, Any] = {
        "sampling": SAMPLING[config.annotation.sampling],
        "maximum_annotations": config.annotation.per_task,
        "show_collab_predictions": True,  # annotators start from the model's guess
        "enable_empty_annotation": True,  # "nothing to see here" is an answer
    }
    return decided | ({"title": _title(task, config)} if config.title else {})


def _title(task: str, config: TaskConfig) -> str:
    shortest, longest = TITLE_LENGTHS
    title = config.title.strip()
    return (title if len(title) >= shortest else task)[:longest]


def _put_labels_right(client: LabelStudio, project: int, config: TaskConfig) -> None:
    """Raises: LabelStudioError: a label that was taken away is in use."""
    wanted = {"label_config": labelling_config(config)}
    if not _differences(client.project(project), wanted):
        return
    # Label Studio itself lets a label go that answers still name; nobody could read them then.
    for name, count in sorted(_labels_in_use(client, project).items()):
        if name not in config.scheme.names:
            raise LabelStudioError(
                f"label {name!r} was taken from task.yaml but annotations use it {count} times; "
                "put it back, or remove it from them first"
            )
    _put_settings_right(client, project, wanted)


def _labels_in_use(client: LabelStudio, project: int) -> Counter[str]:
    """How often each label is in annotations and drafts, whatever it was drawn with."""
    summary = client.call("GET", f"/api/projects/{project}/summary/")
    counts: Counter[str] = Counter()
    for kind in ("created_labels", "created_labels_drafts"):
        for labels in summary[kind].values():
            counts.update(labels)
    return counts


def _put_settings_right(client: LabelStudio, project: int, wanted: Mapping[str, Any]) -> None:
    changes = _differences(client.project(project), wanted)
    if changes:
        client.call("PATCH", f"/api/projects/{project}/", changes)
        log.info("project %d: %s changed", project, ", ".join(changes))


def _put_storage_right(client: LabelStudio, project: int, nas: Nas, task: str) -> None:
    """Let Label Studio serve the cases' pictures: it serves only folders of an import storage."""
    folder = nas.task(task).cases
    folder.mkdir(parents=True, exist_ok=True)  # Label Studio refuses a path that is not there
    wanted = {"project": project, "title": "cases", "path": str(folder), "use_blob_urls": True}
    # Further storages, made in the browser, do no harm.
    _put_row_right(client, STORAGES, _rows(client, STORAGES, project)[:1], wanted)


def _put_webhook_right(client: LabelStudio, project: int, links: ProjectLinks) -> None:
    """Wake the watchdog at every annotation. It reads what changed by itself, so no payload: that
    would cost each submit the counting of the whole project, and carry answers in the clear.
    """
    if not links.webhook_url:
        return
    wanted = {
        "project": project,
        "url": links.webhook_url,
        "headers": {SECRET_HEADER: links.webhook_secret},
        "send_payload": False,
        "send_for_all_actions": False,
        "actions": list(WEBHOOK_ACTIONS),
        "is_active": True,
    }
    rows = _rows(client, WEBHOOKS, project)
    ours = [row for row in rows if SECRET_HEADER in (row["headers"] or {})]
    _put_row_right(client, WEBHOOKS, ours, wanted)


def _put_backend_right(client: LabelStudio, project: int, task: str, links: ProjectLinks) -> None:
    """Raises: LabelStudioError: ml-backend does not answer; nothing is stored then."""
    if not links.ml_backend_url:
        return
    url = f"{links.ml_backend_url.rstrip('/')}/{task}"
    wanted = {
        "project": project,
        "title": BACKEND_TITLE,
        "url": url,
        "auth_method": "BASIC_AUTH",
        "basic_auth_user": BACKEND_USER,
        # Not `is_interactive`, which shows annotators a switch for Auto-Annotation: no control of
        # our labelling configuration is smart, so it would do nothing. An admin may set it.
    }
    secret = {"basic_auth_pass": links.ml_backend_token}
    # Asking makes Label Studio call the back end: a wrong password shows in the state.
    rows = _rows(client, BACKENDS, project)
    ours = [row for row in rows if row["title"] == BACKEND_TITLE or row["url"] == url]
    if not ours or ours[0]["state"] != "CO" or _differences(ours[0], wanted):
        _put_row_right(client, BACKENDS, ours, wanted | secret)
    _remove_event_webhooks(client, project, url)


def _remove_event_webhooks(client: LabelStudio, project: int, backend_url: str) -> None:
    """Connecting a back end also sends it every event, without a password, while people wait."""
    for row in _rows(client, WEBHOOKS, project):
        if row["url"] == f"{backend_url}/webhook":
            client.call("DELETE", WEBHOOKS[1].format(row["id"]))


def _rows(client: LabelStudio, where: tuple[str, str], project: int) -> list[dict[str, Any]]:
    return list(client.call("GET", where[0], params={"project": project}))


def _put_row_right(
    client: LabelStudio,
    where: tuple[str, str],
    rows: list[dict[str, Any]],
    wanted: Mapping[str, Any],
) -> None:
    """One row as wanted: made, changed or left alone; further ones are removed."""
    for extra in rows[1:]:
        client.call("DELETE", where[1].format(extra["id"]))
    if not rows:
        client.call("POST", where[0], wanted)
    elif _differences(rows[0], wanted):
        client.call("PATCH", where[1].format(rows[0]["id"]), wanted)


def _differences(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> dict[str, Any]:
    """What is not as wanted. The order of a list (of webhook actions) means nothing."""

    def plain(value: Any) -> Any:
        return sorted(value) if isinstance(value, list) else value

    return {key: value for key, value in wanted.items() if plain(found.get(key)) != plain(value)}
