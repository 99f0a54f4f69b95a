"""A whole lab's secrets: where they lie, who sees them, and where they must not show."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from stack.compose import read_stack
from stack.engine.lab import COMPOSE_FILE
from stack.settings import read_env_file
from tests.docker.engine import docker, try_docker
from tests.docker.labs import DockerLab

pytestmark = [pytest.mark.docker, pytest.mark.label_studio]
ENDED = "label-studio-migrate"  # has done its work, and runs no more


def words_of(stack: DockerLab) -> dict[str, str]:
    """Every secret, by its file; of a file of accounts each line's own part."""
    found = {}
    for path in stack.home.secrets.iterdir():
        if path.is_file():
            for number, line in enumerate(path.read_text().split("\n")):
                if line.strip():
                    found[f"{path.name}:{number}"] = line.rpartition(": ")[2].strip()
    assert len(found) > 10 and all(len(value) > 10 for value in found.values())
    return found


def shown(stack: DockerLab, text: str) -> list[str]:
    return [name for name, value in words_of(stack).items() if value in text]


def running(stack: DockerLab) -> list[str]:
    return [name for name in stack.containers() if name != ENDED]


# --- where they must not show --------------------------------------------------------------------


def test_the_engine_tells_no_secret(stack: DockerLab) -> None:
    ids = stack.containers().values()
    records = json.loads(docker("inspect", *ids))
    images = {one["Image"] for one in records}
    assert len(records) == len(ids) and len(images) > 5
    names = [*images, *docker("volume", "ls", "-q", "--filter", f"name={stack.name}_").split()]
    assert shown(stack, json.dumps(records)) == []
    assert shown(stack, docker("inspect", *names)) == []
    for image in images:
        assert shown(stack, docker("history", "--no-trunc", image)) == []


def test_the_description_of_the_stack_holds_no_secret(stack: DockerLab) -> None:
    said = stack.labloop("compose", "--", "config")
    assert "label-studio" in said and shown(stack, said) == []


def test_logs_hold_no_secret(stack: DockerLab) -> None:
    for name, container in stack.containers().items():
        answer = try_docker("logs", container)
        assert shown(stack, answer.stdout + answer.stderr) == [], name
    for path in stack.home.logs.rglob("*"):
        assert not path.is_file() or shown(stack, path.read_text()) == [], path


def test_processes_show_no_secret(stack: DockerLab) -> None:
    """Neither `ps` of this machine nor, to its root, what they were started with."""
    for name in running(stack):
        for pid in docker("top", stack.container(name), "-eo", "pid").split()[1:]:
            for file in ("cmdline", "environ"):
                text = read_if_there(Path("/proc") / pid / file)
                assert shown(stack, text.replace("\0", " ")) == [], f"{name}: {file}"


def read_if_there(path: Path) -> str:
    """Health checks come and go; who is not root sees no other's environment."""
    try:
        return path.read_bytes().decode("utf-8", "replace")
    except OSError:
        return ""


def test_nothing_the_command_line_writes_holds_a_secret(stack: DockerLab) -> None:
    files = [path for path in stack.home.run.rglob("*") if path.is_file()]
    assert {"stack.env", "engine.json"} <= {path.name for path in files}
    for path in [*files, stack.env_file]:
        assert shown(stack, path.read_text()) == [], path
    for words in (("status",), ("status", "--json"), ("users", "list")):
        assert shown(stack, stack.labloop(*words)) == [], words


def test_nothing_lies_on_the_share(stack: DockerLab) -> None:
    values = words_of(stack).values()
    for path in stack.home.nas_folder.resolve().rglob("*"):
        if path.is_file() and path.stat().st_size < 1 << 20:
            content = path.read_bytes()
            assert not [value for value in values if value.encode() in content], path


# --- where they lie ------------------------------------------------------------------------------


def dealt(stack: DockerLab) -> Iterator[tuple[str, int, tuple[str, ...]]]:
    """Service, owner, files: as compose.yaml says."""
    variables = read_env_file(stack.home.run / "stack.env")
    described = read_stack([COMPOSE_FILE], variables)
    for name, one in described.with_profiles(
        {stack.settings["COMPOSE_PROFILES"]}
    ).containers.items():
        yield name, int(one.secrets.owner or variables.get("LAB_UID", "2000")), one.secrets.files


def test_the_homes_secrets_are_their_owners_alone(stack: DockerLab) -> None:
    assert mode(stack.home.secrets) == 0o700
    files = [path for path in stack.home.secrets.iterdir() if path.is_file()]
    assert files and {mode(path) for path in files} == {0o600}


def test_each_service_is_dealt_its_own_files_and_owns_them(stack: DockerLab) -> None:
    wanted = {name: (owner, set(files)) for name, owner, files in dealt(stack) if files}
    folders = {path.name: path for path in stack.home.secrets.iterdir() if path.is_dir()}
    assert folders.keys() == wanted.keys()
    for name, (owner, files) in wanted.items():
        folder = folders[name]
        assert (mode(folder), folder.stat().st_uid) == (0o500, owner)
        assert {path.name for path in folder.iterdir()} == files
        for path in folder.iterdir():
            assert (mode(path), path.stat().st_uid) == (0o400, owner), path
            assert path.read_text() == stack.home.secret(path.name).read_text(), path


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o7777


def test_a_container_sees_its_own_secrets_and_may_not_write_them(stack: DockerLab) -> None:
    by_name = {name: set(files) for name, _, files in dealt(stack)}
    script = (
        "ls -A /run/secrets 2>/dev/null; touch /run/secrets/x 2>/dev/null && echo WRITTEN; true"
    )
    for name in running(stack):
        found = docker("exec", stack.container(name), "sh", "-c", script).split()
        assert set(found) == by_name[name], name


def test_what_was_typed_is_in_no_database_as_it_was_typed(stack: DockerLab) -> None:
    """Passwords are hashes there; the services' token and sessions must be readable to be used."""
    script = (
        "PGPASSWORD=$(cat /run/secrets/db-admin-password) "
        "pg_dumpall -h 127.0.0.1 -U postgres --no-role-passwords"
    )
    dump = docker("exec", stack.container("db"), "sh", "-c", script)
    assert "CREATE TABLE" in dump
    assert names(shown(stack, dump)) <= {"label-studio-token", "ml-backend-token", "webhook-secret"}


def names(found: Iterable[str]) -> set[str]:
    return {one.partition(":")[0] for one in found}
