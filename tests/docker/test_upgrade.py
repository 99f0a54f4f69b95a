"""Another version: behind a backup, and back again when it does not get well."""

from pathlib import Path

import pytest

from imaging.publish import read_json
from tests.docker.engine import docker
from tests.docker.labs import DockerLab
from tests.docker.loops import Loop
from tests.docker.test_restore import look

pytestmark = [pytest.mark.docker, pytest.mark.label_studio, pytest.mark.slow]


def version(stack: DockerLab) -> str:
    return str(read_json(stack.home.run / "engine.json")["image_tag"])


def with_settings(stack: DockerLab, folder: Path, **more: str) -> Path:
    path = folder / "other.env"
    given = {**stack.settings, **more}
    path.write_text("".join(f"{key}={value}\n" for key, value in given.items() if value))
    return path


def test_a_version_that_does_not_get_well_is_rolled_back(
    stack: DockerLab, loop: Loop, tmp_path: Path
) -> None:
    before, tag = look(stack, loop.demo.task), version(stack)
    starved = with_settings(stack, tmp_path, LABEL_STUDIO_MEMORY="64m")
    said = stack.labloop("upgrade", "--env-file", str(starved), expect=1)
    assert "did not become healthy" in said and f"{tag} runs again" in said
    assert version(stack) == tag
    assert look(stack, loop.demo.task) == before
    assert "healthy" in stack.labloop("status")
    assert "nothing to do" in stack.up()


def test_another_version_comes_with_upgrade_and_not_with_up(
    stack: DockerLab, loop: Loop, tmp_path: Path
) -> None:
    before, tag = look(stack, loop.demo.task), version(stack)
    # The same base by another name: another version, whose layers are all there.
    again = f"{stack.settings['BASE_IMAGE'].partition(':')[0]}:again"
    docker("tag", stack.settings["BASE_IMAGE"], again)
    other = with_settings(stack, tmp_path, BASE_IMAGE=again)
    refused = stack.labloop("up", "--env-file", str(other), expect=3)
    assert f"this stack is version {tag}" in refused and "labloop upgrade" in refused
    said = stack.labloop("upgrade", "--env-file", str(other))
    assert f"{tag} became" in said and version(stack) != tag
    assert look(stack, loop.demo.task) == before
    back = stack.labloop("upgrade", "--env-file", str(stack.env_file))
    assert f"became {tag}" in back
    docker("image", "rm", again)
