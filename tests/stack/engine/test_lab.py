from dataclasses import replace
from pathlib import Path

import pytest

from stack.engine.lab import (
    ENV_FILE,
    NotInDockerError,
    docker_environment,
    env_text,
    is_in_docker,
    make_lab,
    open_lab,
    save_lab,
    settings_file,
)
from stack.engine.settings import LabSettings
from stack.errors import StackError, UsageError
from stack.home import Home
from stack.settings import read_env_file


def test_a_lab_is_opened_as_it_was_saved(tmp_path: Path) -> None:
    home = Home(tmp_path)
    given = {"STACK_NAME": "heart", "LAB_HOST": "10.1.1.1", "LOG_LEVEL": "DEBUG"}
    planned = make_lab(home, LabSettings.from_env(given), ["gpu"], "0.1.0-abc", "stack.next.env")
    assert not is_in_docker(home)
    saved = save_lab(planned, given)
    assert open_lab(home) == saved
    assert saved.volume("db") == "heart_db" and saved.image_tag == "0.1.0-abc"
    command = saved.compose.command
    assert command[:4] == ["docker", "compose", "--project-name", "heart"]
    assert any(word.endswith("stack/overrides/gpu.yaml") for word in command)


def test_a_stack_keeps_to_the_settings_it_was_started_with(tmp_path: Path) -> None:
    home = Home(tmp_path)
    assert settings_file(home) == ENV_FILE
    planned = make_lab(home, LabSettings.from_env({}), [], "0-x")
    save_lab(replace(planned, settings_file=tmp_path / "heart.env"), {})
    assert settings_file(home) == open_lab(home).settings_file == tmp_path / "heart.env"
    assert settings_file(home, Path("other.env")) == Path("other.env").absolute()


def test_a_home_without_a_stack_in_docker_says_so(tmp_path: Path) -> None:
    with pytest.raises(NotInDockerError, match="no stack in Docker"):
        open_lab(Home(tmp_path))


def test_a_damaged_record_is_told(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.run.mkdir()
    (home.run / "engine.json").write_text('{"format": 1}')
    with pytest.raises(StackError, match="cannot be read"):
        open_lab(home)


def test_variables_are_text_and_nothing_more(tmp_path: Path) -> None:
    given = {"A": "pa$$word $HOME `x`", "B": '"quoted" # no comment', "C": ""}
    file = tmp_path / "stack.env"
    file.write_text(env_text(given))
    assert read_env_file(file) == given
    with pytest.raises(UsageError, match="A hold"):
        env_text({"A": "it's"})


def test_docker_gets_its_own_variables_and_no_settings() -> None:
    given = {"PATH": "/bin", "DOCKER_HOST": "tcp://x", "LAB_HOST": "y", "https_proxy": "z"}
    assert docker_environment(given) == {
        "PATH": "/bin",
        "DOCKER_HOST": "tcp://x",
        "https_proxy": "z",
    }
