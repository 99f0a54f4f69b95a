"""A lab is saved, destroyed, and put back on an empty box: the same labels, people and models."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from imaging.registry import champion
from tests.docker.engine import docker
from tests.docker.labs import DockerLab
from tests.docker.loops import Loop

pytestmark = [pytest.mark.docker, pytest.mark.label_studio, pytest.mark.slow]
PASSWORD = "correct-horse-9"


@dataclass(frozen=True, slots=True)
class Seen:
    """What people would miss."""

    people: str
    answers: dict[str, list[Any]]  # case → what was answered in Label Studio
    champion: str
    authority: bytes
    files: dict[str, bytes]  # labels, snapshots, manifests, models, verdicts


def look(lab: DockerLab, task: str) -> Seen:
    with lab.client() as client:
        project = client.find_project(task)
        assert project is not None
        answers = {
            str(one["data"]["case"]): [answer["result"] for answer in one["annotations"]]
            for one in client.tasks(project.id)
        }
    serving = champion(lab.home.nas, task)
    assert serving is not None
    root = lab.home.nas.root
    folders = [root / "models", root / "dataset" / task / "annotations"]
    folders += [root / "dataset" / task / "snapshots", root / "dataset" / task / "cases"]
    files = {
        path.relative_to(root).as_posix(): path.read_bytes()
        for folder in folders
        for path in folder.rglob("*")
        if path.is_file()
    }
    people = lab.labloop("users", "list")
    return Seen(people, answers, serving.version, lab.authority.read_bytes(), files)


def test_a_destroyed_lab_is_put_back_on_an_empty_box(
    stack: DockerLab, loop: Loop, tmp_path: Path
) -> None:
    stack.labloop("users", "add", "bob", "bob@lab.example", "--stdin", stdin=f"{PASSWORD}\n")
    before = look(stack, loop.demo.task)
    assert "bob@lab.example" in before.people and len(before.files) > 100
    assert sum(map(len, before.answers.values())) >= loop.outcome.labels

    assert "it holds" in stack.labloop("backup")
    assert stack.labloop("backup", "--verify")
    password = tmp_path / "backup-password"  # as written down by the admin
    shutil.copyfile(stack.home.secret("backup-password"), password)

    said = stack.labloop("restore", "--env-file", str(stack.env_file), expect=3)
    assert "nothing" in said.lower(), "a lab that lives is not written over"

    stack.labloop("destroy", "--yes", stack.name)
    shutil.rmtree(stack.home.root)
    assert not stack.containers()
    wanted = f"label=org.labloop.stack={stack.name}"
    assert not docker("volume", "ls", "--quiet", "--filter", wanted)

    words = ("--from", stack.settings["BACKUP_REPOSITORY"], "--password-file", str(password))
    said = stack.labloop("restore", *words, "--env-file", str(stack.env_file))
    assert "byte for byte" in said
    stack.up()
    assert look(stack, loop.demo.task) == before
    with stack.browser() as browser:
        stack.log_in(browser, "bob@lab.example", PASSWORD)
