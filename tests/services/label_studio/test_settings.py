from pathlib import Path

import pytest

from services.label_studio.settings import (
    DatabaseSettings,
    LabelStudioSettings,
    label_studio_environment,
    listening_url,
)
from stack.runtime.settings import SettingsError


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    for name in ("password", "token", "key"):
        (tmp_path / name).write_text(f"secret-{name}\n")
    return {
        "LABEL_STUDIO_BASE_DATA_DIR": str(tmp_path / "data"),
        "LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT": str(tmp_path / "nas"),
        "LABEL_STUDIO_USERNAME": "admin@labloop.local",
        "LABEL_STUDIO_PASSWORD_FILE": str(tmp_path / "password"),
        "LABEL_STUDIO_TOKEN_FILE": str(tmp_path / "token"),
        "SECRET_KEY_FILE": str(tmp_path / "key"),
    }


def test_secrets_come_from_files_and_are_not_shown(env: dict[str, str]) -> None:
    settings = LabelStudioSettings.from_env(env)
    assert (settings.password, settings.token) == ("secret-password", "secret-token")
    assert (settings.host, settings.workers) == ("127.0.0.1", 1)
    assert "secret-" not in repr(settings)


def test_every_missing_setting_is_named_at_once() -> None:
    with pytest.raises(SettingsError) as caught:
        LabelStudioSettings.from_env({})
    assert len(caught.value.problems) == 6


def test_label_studio_does_not_call_home_and_reaches_private_addresses() -> None:
    told = label_studio_environment(Path("/data"), Path("/nas"), "key")
    assert told["LABEL_STUDIO_COLLECT_ANALYTICS"] == "false"
    assert told["LABEL_STUDIO_SENTRY_DSN"] == told["LABEL_STUDIO_FRONTEND_SENTRY_DSN"] == ""
    assert told["LABEL_STUDIO_LATEST_VERSION_CHECK"] == "false"
    assert told["LABEL_STUDIO_DISABLE_SIGNUP_WITHOUT_LINK"] == "true"
    assert told["LABEL_STUDIO_USE_DEFAULT_BANNED_SUBNETS"] == "false"
    assert told["LABEL_STUDIO_USER_ADDITIONAL_BANNED_SUBNETS"] == "169.254.0.0/16"


def test_a_database_server_is_used_when_one_is_named(env: dict[str, str], tmp_path: Path) -> None:
    assert LabelStudioSettings.from_env(env).database is None
    (tmp_path / "db").write_text("secret-db\n")
    env |= {
        "LABEL_STUDIO_DATABASE_HOST": "db",
        "LABEL_STUDIO_DATABASE_PASSWORD_FILE": str(tmp_path / "db"),
    }
    settings = LabelStudioSettings.from_env(env)
    assert settings.database == DatabaseSettings(
        "db", 5432, "label-studio", "label-studio", "secret-db"
    )
    assert "secret-" not in repr(settings)


def test_a_database_server_needs_a_password(env: dict[str, str]) -> None:
    with pytest.raises(SettingsError, match="LABEL_STUDIO_DATABASE_PASSWORD_FILE is not set"):
        LabelStudioSettings.from_env(env | {"LABEL_STUDIO_DATABASE_HOST": "db"})


def test_label_studio_is_told_which_database_it_has() -> None:
    told = label_studio_environment(Path("/data"), Path("/nas"), "key")
    assert told["DJANGO_DB"] == "sqlite"
    # Its own word for the file is our word for the database on a server.
    assert told["LABEL_STUDIO_DATABASE_NAME"] == "/data/label_studio.sqlite3"
    database = DatabaseSettings("db", 5433, "labels", "us", "secret")
    told = label_studio_environment(Path("/data"), Path("/nas"), "key", database)
    assert told["DJANGO_DB"] == "default"
    assert [told[f"POSTGRE_{word}"] for word in ("HOST", "PORT", "NAME", "USER", "PASSWORD")] == [
        *("db", "5433", "labels", "us", "secret")
    ]


def test_a_server_on_all_addresses_is_asked_on_this_machine() -> None:
    env = {"LABEL_STUDIO_HOST_ADDRESS": "0.0.0.0", "LABEL_STUDIO_PORT": "8081"}
    assert listening_url(env) == "http://127.0.0.1:8081"
    assert listening_url({}) == "http://127.0.0.1:8080"
