from pathlib import Path

import pytest

from ml_backend.health import check
from ml_backend.settings import AdapterSettings, BackendSettings
from stack.runtime.settings import SettingsError

ENV = {
    "NAS_ROOT": "/nas",
    "HEARTBEAT_FILE": "/state/heartbeat",
    "LABEL_STUDIO_URL": "http://label-studio:8080",
}


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "token").write_text("s3cret\n")
    token = str(tmp_path / "token")
    return ENV | {"LABEL_STUDIO_TOKEN_FILE": token, "ML_BACKEND_TOKEN_FILE": token}


def test_the_defaults_suit_one_machine(env: dict[str, str]) -> None:
    settings = BackendSettings.from_env(env)
    assert (settings.host, settings.port) == ("127.0.0.1", 9090)
    assert settings.threads == 0
    assert settings.keep_old_s == 600.0


def test_secrets_do_not_show_when_settings_are_printed(env: dict[str, str]) -> None:
    assert "s3cret" not in repr(BackendSettings.from_env(env))


def test_every_problem_is_named_at_once() -> None:
    with pytest.raises(SettingsError) as caught:
        BackendSettings.from_env({"ML_BACKEND_MAX_BATCH": "0", "LOG_LEVEL": "LOUD"})
    named = " ".join(caught.value.problems)
    for key in (*ENV, "ML_BACKEND_TOKEN_FILE", "ML_BACKEND_MAX_BATCH", "LOG_LEVEL"):
        assert key in named


def test_the_adapter_wants_a_task_folder() -> None:
    with pytest.raises(SettingsError, match="LABLOOP_TASK: task name is 'heart'"):
        AdapterSettings.from_env({"NAS_ROOT": "/nas", "LABLOOP_TASK": "heart"})
    found = AdapterSettings.from_env({"NAS_ROOT": "/nas", "LABLOOP_TASK": "Task001_heart"})
    assert found.task == "Task001_heart"


def test_a_back_end_that_does_not_answer_is_unhealthy(env: dict[str, str]) -> None:
    settings = BackendSettings.from_env(env | {"ML_BACKEND_PORT": "9"})
    assert "does not answer" in check(settings)
