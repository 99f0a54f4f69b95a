from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from imaging.errors import NasGoneError
from imaging.layout import Nas
from imaging.task import TaskConfig, parse_task
from services.ingest.project import ProjectLinks, ensure_project
from stack.runtime.label_studio import LabelStudio, LabelStudioDownError, LabelStudioError

TASK = "Task001_heart"
LINKS = ProjectLinks("http://ml:9090/", "ml-token", "http://watchdog:8090/hook", "hook-secret")
TABLES = {
    "/api/projects/": "projects",
    "/api/storages/localfiles/": "storages",
    "/api/webhooks/": "webhooks",
    "/api/ml/": "backends",
}


class FakeLabelStudio(LabelStudio):
    """The rows that the calls would have made; `refuse` names calls that fail."""

    def __init__(self) -> None:
        self.tables: dict[str, dict[int, dict[str, Any]]] = {name: {} for name in TABLES.values()}
        self.changes: list[str] = []
        self.refuse: dict[str, LabelStudioError] = {}
        self.labels_in_use: dict[str, int] = {}

    def call(
        self, method: str, path: str, body: Any = None, params: Mapping[str, Any] | None = None
    ) -> Any:
        if f"{method} {path}" in self.refuse:
            raise self.refuse[f"{method} {path}"]
        if method != "GET":
            self.changes.append(f"{method} {path}")
        if path in TABLES:
            rows = self.tables[TABLES[path]]
            if method == "POST":
                return self._post(path, rows, dict(body))
            project = (params or {})["project"]
            return [row for row in rows.values() if row["project"] == project]
        if path.endswith("/summary/"):
            return {"created_labels": {"label": self.labels_in_use}, "created_labels_drafts": {}}
        head, number = path.rstrip("/").rsplit("/", 1)
        rows = self.tables[TABLES[f"{head}/"]]
        if method == "DELETE":
            return rows.pop(int(number))
        rows[int(number)] |= body or {}
        return rows[int(number)]

    def projects(self) -> list[dict[str, Any]]:
        return list(self.tables["projects"].values())

    def _post(self, path: str, rows: dict[int, dict[str, Any]], row: dict[str, Any]) -> Any:
        row["id"] = len(rows) + 1
        rows[row["id"]] = row
        if path == "/api/projects/":
            row["model_version"] = ""
        if path == "/api/ml/":  # what Label Studio does besides
            row["state"] = "CO"
            row.setdefault("is_interactive", False)
            self.tables["projects"][row["project"]]["model_version"] = row["title"]
            hooks = self.tables["webhooks"]
            url = f"{row['url']}/webhook"
            hooks[99] = {"id": 99, "project": row["project"], "url": url, "headers": {}}
        return row


@pytest.fixture
def nas(tmp_path: Path) -> Nas:
    (tmp_path / ".labloop").touch()
    return Nas(tmp_path)


def config(**keys: Any) -> TaskConfig:
    return parse_task({"kind": "segmentation", "labels": ["lv"]} | keys, where="test")


def test_a_project_is_made_with_everything_it_needs(nas: Nas) -> None:
    client = FakeLabelStudio()
    found = ensure_project(client, nas, TASK, config(annotation={"per_task": 2}), LINKS)
    project = client.tables["projects"][found.id]
    assert found.missing == ()
    assert project["title"] == TASK
    assert project["description"].splitlines()[0] == TASK
    assert project["sampling"] == "Uncertainty sampling"
    assert project["maximum_annotations"] == 2
    assert "<BrushLabels" in project["label_config"]
    [storage] = client.tables["storages"].values()
    assert storage["path"] == str(nas.task(TASK).cases) and nas.task(TASK).cases.is_dir()
    [backend] = client.tables["backends"].values()
    assert backend["url"] == f"http://ml:9090/{TASK}"
    assert (backend["basic_auth_user"], backend["basic_auth_pass"]) == ("labloop", "ml-token")


def test_only_our_webhook_is_left_and_carries_the_secret(nas: Nas) -> None:
    client = FakeLabelStudio()
    ensure_project(client, nas, TASK, config(), LINKS)
    [webhook] = client.tables["webhooks"].values()
    assert webhook["url"] == LINKS.webhook_url
    assert webhook["headers"] == {"X-Labloop-Secret": "hook-secret"}
    assert not webhook["send_for_all_actions"]


def test_a_second_call_changes_nothing(nas: Nas) -> None:
    client = FakeLabelStudio()
    first = ensure_project(client, nas, TASK, config(), LINKS)
    client.changes.clear()
    assert ensure_project(client, nas, TASK, config(), LINKS).id == first.id
    assert client.changes == []


def test_a_changed_task_yaml_changes_the_project(nas: Nas) -> None:
    client = FakeLabelStudio()
    found = ensure_project(client, nas, TASK, config(), LINKS)
    client.tables["projects"][found.id]["title"] = "Renamed in the browser"
    changed = config(labels=["lv", "rv"], annotation={"sampling": "sequential"})
    assert ensure_project(client, nas, TASK, changed, LINKS).title == "Renamed in the browser"
    project = client.tables["projects"][found.id]
    assert 'value="rv"' in project["label_config"]
    assert project["sampling"] == "Sequential sampling"
    titled = ensure_project(client, nas, TASK, config(title="Left ventricle"), LINKS)
    assert titled.title == "Left ventricle"


def test_a_refused_label_change_is_reported_and_the_rest_is_done(nas: Nas) -> None:
    client = FakeLabelStudio()
    found = ensure_project(client, nas, TASK, config(), LINKS)
    path = f"PATCH /api/projects/{found.id}/"
    client.refuse[path] = LabelStudioError("label lv is in use")
    client.tables["webhooks"].clear()
    again = ensure_project(client, nas, TASK, config(labels=["rv"]), LINKS)
    assert again.missing == ("labels: label lv is in use",)
    assert len(client.tables["webhooks"]) == 1


def test_a_label_in_use_stays_in_label_studio(nas: Nas) -> None:
    client = FakeLabelStudio()
    client.labels_in_use = {"rv": 3}
    found = ensure_project(client, nas, TASK, config(labels=["lv", "rv"]), LINKS)
    again = ensure_project(client, nas, TASK, config(), LINKS)
    assert len(again.missing) == 1 and "'rv'" in again.missing[0] and "3 times" in again.missing[0]
    assert 'value="rv"' in client.tables["projects"][found.id]["label_config"]
    client.labels_in_use = {"lv": 1}
    assert ensure_project(client, nas, TASK, config(), LINKS).missing == ()


def test_a_back_end_that_is_down_is_connected_later(nas: Nas) -> None:
    client = FakeLabelStudio()
    client.refuse["POST /api/ml/"] = LabelStudioError("health check failed")
    assert ensure_project(client, nas, TASK, config(), LINKS).missing == (
        "ml-backend: health check failed",
    )
    client.refuse.clear()
    assert ensure_project(client, nas, TASK, config(), LINKS).missing == ()
    assert len(client.tables["backends"]) == 1


def test_annotators_get_no_switch_that_does_nothing_unless_an_admin_wants_it(nas: Nas) -> None:
    client = FakeLabelStudio()
    ensure_project(client, nas, TASK, config(), LINKS)
    [backend] = client.tables["backends"].values()
    assert 'smart="true"' not in client.projects()[0]["label_config"]
    assert backend["is_interactive"] is False
    backend["is_interactive"] = True
    backend["state"] = "ER"
    ensure_project(client, nas, TASK, config(), LINKS)
    assert backend["is_interactive"] is True


def test_a_refused_password_is_sent_again(nas: Nas) -> None:
    client = FakeLabelStudio()
    ensure_project(client, nas, TASK, config(), LINKS)
    [backend] = client.tables["backends"].values()
    backend["state"] = "ER"
    renewed = ProjectLinks(LINKS.ml_backend_url, "new-token", LINKS.webhook_url, "hook-secret")
    ensure_project(client, nas, TASK, config(), renewed)
    assert backend["basic_auth_pass"] == "new-token"
    assert len(client.tables["backends"]) == 1


def test_a_moved_stack_moves_its_addresses_instead_of_adding_more(nas: Nas, tmp_path: Path) -> None:
    client = FakeLabelStudio()
    ensure_project(client, nas, TASK, config(), LINKS)
    moved = ProjectLinks("http://ml:1", "ml-token", "http://watchdog:2/hook", "hook-secret")
    elsewhere = Nas(tmp_path / "elsewhere")
    elsewhere.root.mkdir()
    elsewhere.marker.touch()
    ensure_project(client, elsewhere, TASK, config(), moved)
    assert [row["path"] for row in client.tables["storages"].values()] == [
        str(elsewhere.task(TASK).cases)
    ]
    assert [row["url"] for row in client.tables["backends"].values()] == [f"http://ml:1/{TASK}"]
    assert "http://watchdog:2/hook" in [row["url"] for row in client.tables["webhooks"].values()]


def test_links_that_are_not_set_are_left_out(nas: Nas) -> None:
    client = FakeLabelStudio()
    found = ensure_project(client, nas, TASK, config(), ProjectLinks("", "", "", ""))
    assert found.missing == ()
    assert not client.tables["backends"] and not client.tables["webhooks"]


def test_titles_fit_what_label_studio_takes(nas: Nas) -> None:
    client = FakeLabelStudio()
    assert ensure_project(client, nas, TASK, config(title="LV"), LINKS).title == TASK
    assert len(ensure_project(client, nas, TASK, config(title="x" * 80), LINKS).title) == 50


def test_a_label_studio_that_is_down_is_not_taken_for_a_refusal(nas: Nas) -> None:
    client = FakeLabelStudio()
    client.refuse["POST /api/ml/"] = LabelStudioDownError("no connection")
    with pytest.raises(LabelStudioDownError):
        ensure_project(client, nas, TASK, config(), LINKS)


def test_nothing_is_made_while_the_nas_is_gone(tmp_path: Path) -> None:
    client = FakeLabelStudio()
    with pytest.raises(NasGoneError):
        ensure_project(client, Nas(tmp_path), TASK, config(), LINKS)
    assert client.changes == [] and list(tmp_path.iterdir()) == []


def test_secrets_are_not_shown_by_repr() -> None:
    assert "ml-token" not in repr(LINKS) and "hook-secret" not in repr(LINKS)
