"""A whole lab's keys: each opens its own door, and no other."""

import subprocess
from typing import Any

import httpx
import pytest

from tests.docker.labs import DockerLab
from tests.docker.positions import no_positions, of_container

pytestmark = [pytest.mark.docker, pytest.mark.label_studio]
# --- with somebody else's key ---------------------------------------------------------------------


def keys(stack: DockerLab) -> dict[str, str]:
    files = [path for path in stack.home.secrets.iterdir() if path.is_file()]
    return {path.name: path.read_text().strip().splitlines()[-1] for path in files}


def shapes(key: str) -> list[dict[str, Any]]:
    """Every way to show a key that one of our applications knows."""
    return [
        {"headers": {"Authorization": f"Token {key}"}},
        {"headers": {"Authorization": f"Bearer {key}"}},
        {"headers": {"PW": key, "X-Labloop-Secret": key}},
        *({"auth": (user, key)} for user in ("admin", "labloop")),
    ]


@pytest.mark.parametrize(
    ("app", "path", "own"),
    [("LABEL", "/api/projects", {"label-studio-token"}), ("BOARD", "/data/runs", set())],
)
def test_a_key_opens_its_own_door_and_no_other(
    stack: DockerLab, app: str, path: str, own: set[str]
) -> None:
    opened = {
        name
        for name, key in keys(stack).items()
        for shape in shapes(key)
        if stack.ask(app, path, **shape).status_code < 300
    }
    assert opened == own


def test_the_files_are_opened_by_their_own_password(stack: DockerLab) -> None:
    """Two wrong ones are tried: after nine the file service shuts an address out."""
    own, others = "files-admin-password", ("admin-password", "label-studio-token")
    codes = {
        name: stack.ask(
            "FILES", "/nas/", "PROPFIND", auth=("admin", key), headers={"Depth": "1"}
        ).status_code
        for name, key in keys(stack).items()
        if name in (own, *others)
    }
    assert codes == {own: 207, **dict.fromkeys(others, 401)}


@pytest.mark.skipif(bool(no_positions()), reason=no_positions() or "it can be done")
@pytest.mark.parametrize(
    ("service", "port", "method", "path", "own"),
    [
        ("ml-backend", 9090, "POST", "/predict", "ml-backend-token"),
        ("watchdog", 8096, "POST", "/", "webhook-secret"),
    ],
)
def test_behind_the_gateway_a_key_opens_its_own_door_and_no_other(
    stack: DockerLab, service: str, port: int, method: str, path: str, own: str
) -> None:
    """Asked from where ingest stands, who may talk to both."""
    networks = stack.inspect(service)["NetworkSettings"]["Networks"]
    url = f"http://{networks[f'{stack.name}_loop']['IPAddress']}:{port}{path}"

    def opened() -> set[str]:
        with httpx.Client(trust_env=False) as client:
            assert client.request(method, url, json={}).status_code in (401, 403)
            return {
                name
                for name, key in keys(stack).items()
                for shape in shapes(key)
                if client.request(method, url, json={}, **shape).status_code not in (401, 403)
            }

    assert of_container(stack.inspect("ingest")).ask(opened) == {own}


def test_a_databases_password_is_for_its_own_user(stack: DockerLab) -> None:
    """Over TCP, as services ask; on the server's own socket nobody but it can knock."""
    users = {
        "postgres": "db-admin-password",
        "label-studio": "label-studio-db-password",
        "nextcloud": "nextcloud-db-password",
    }
    found = {user: {name for name in users.values() if opens(stack, user, name)} for user in users}
    assert found == {user: {name} for user, name in users.items()}
    assert not opens(stack, "label-studio", "label-studio-db-password", "nextcloud")


def opens(stack: DockerLab, user: str, name: str, database: str = "") -> bool:
    words = 'psql -h "$(hostname -i)" -U "$2" -d "$3" -tAc "select 1"'
    script = f'PGPASSWORD=$(cat "/run/secrets/$1") {words}'
    place = database or user
    command = ["docker", "exec", stack.container("db"), "sh", "-c", script, "sh", name, user, place]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    return answer.returncode == 0 and answer.stdout.strip() == "1"


def test_a_people_password_is_for_one_application(stack: DockerLab) -> None:
    wrong = stack.home.secret("files-admin-password").read_text().strip()
    with stack.browser() as browser, pytest.raises(AssertionError):
        stack.log_in(browser, password=wrong)


def test_label_studio_asks_no_cloud_for_its_secrets(stack: DockerLab) -> None:
    """The metadata service of a rented machine hands them out to whoever asks from inside."""
    token = stack.home.secret("label-studio-token").read_text().strip()
    headers = {"Authorization": f"Token {token}"}
    url = "http://169.254.169.254/latest/meta-data/"
    with stack.browser() as browser:
        api = f"{stack.url('LABEL')}/api"
        made = browser.post(f"{api}/projects/", json={"title": "a cloud"}, headers=headers)
        project = made.raise_for_status().json()["id"]
        places = ("ml/", "webhooks/", f"projects/{project}/import")
        try:
            for place in places:
                body = {"url": url, "project": project, "title": "a cloud"}
                answer = browser.post(f"{api}/{place}", data=body, headers=headers)
                assert answer.status_code in (400, 403), place
                assert "reserved network address (block: 169.254.0.0/16)" in answer.text
        finally:
            browser.delete(f"{api}/projects/{project}/", headers=headers)
