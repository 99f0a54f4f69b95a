"""Settings of the Label Studio process, and what Label Studio itself is told."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from stack.runtime.settings import EnvReader

ROOT = Path(__file__).resolve().parents[2]
TEMPLATES = ROOT / ".cache" / "label-studio"
SQLITE_FILE = "label_studio.sqlite3"


@dataclass(frozen=True, slots=True)
class DatabaseSettings:
    """A PostgreSQL server, for many annotators. Without one there is a SQLite file."""

    host: str
    port: int
    name: str
    user: str
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class LabelStudioSettings:
    """What the start of Label Studio needs to know."""

    data_dir: Path  # database and uploads; local disk, never the NAS
    nas_root: Path  # pictures are served from below it
    host: str  # address to listen on
    port: int
    username: str  # the admin's e-mail address
    password: str = field(repr=False)  # for a new admin; a change in the browser stays
    token: str = field(repr=False)  # the services' key to the API
    secret_key: str = field(repr=False)  # signs sessions: changing it logs everybody out
    workers: int
    threads: int  # SQLite has one writer: more threads than annotators wait for each other
    template_dir: Path  # cache of migrated, empty databases
    database: DatabaseSettings | None  # None: SQLite in `data_dir`

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> Self:
        with EnvReader(env) as read:
            return cls(
                data_dir=read.folder("LABEL_STUDIO_BASE_DATA_DIR"),
                nas_root=read.folder("LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT"),
                host=read.text("LABEL_STUDIO_HOST_ADDRESS", default="127.0.0.1"),
                port=read.integer("LABEL_STUDIO_PORT", default=8080, at_least=1),
                username=read.text("LABEL_STUDIO_USERNAME"),
                password=read.secret("LABEL_STUDIO_PASSWORD_FILE"),
                token=read.secret("LABEL_STUDIO_TOKEN_FILE"),
                secret_key=read.secret("SECRET_KEY_FILE"),
                workers=read.integer("LABEL_STUDIO_WORKERS", default=1, at_least=1),
                threads=read.integer("LABEL_STUDIO_THREADS", default=8, at_least=1),
                template_dir=template_dir(env),
                database=_database(read),
            )


def _database(read: EnvReader) -> DatabaseSettings | None:
    host = read.text("LABEL_STUDIO_DATABASE_HOST", default="")
    if not host:
        return None
    return DatabaseSettings(
        host=host,
        port=read.integer("LABEL_STUDIO_DATABASE_PORT", default=5432, at_least=1),
        name=read.text("LABEL_STUDIO_DATABASE_NAME", default="label-studio"),
        user=read.text("LABEL_STUDIO_DATABASE_USER", default="label-studio"),
        password=read.secret("LABEL_STUDIO_DATABASE_PASSWORD_FILE"),
    )


def template_dir(env: Mapping[str, str]) -> Path:
    """Where migrated, empty databases are kept, by Label Studio's version."""
    return EnvReader(env).folder("LABEL_STUDIO_TEMPLATE_DIR", default=str(TEMPLATES))


def listening_url(env: Mapping[str, str]) -> str:
    """Where the process answers, seen from its own machine."""
    read = EnvReader(env)
    host = read.text("LABEL_STUDIO_HOST_ADDRESS", default="127.0.0.1")
    port = read.integer("LABEL_STUDIO_PORT", default=8080)
    return f"http://{'127.0.0.1' if host == '0.0.0.0' else host}:{port}"


def label_studio_environment(
    data_dir: Path, nas_root: Path, secret_key: str, database: DatabaseSettings | None = None
) -> dict[str, str]:
    """The environment variables Label Studio reads. Its own defaults call home and serve nobody."""
    return {
        **_database_environment(data_dir, database),
        "LABEL_STUDIO_BASE_DATA_DIR": str(data_dir),
        "LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT": str(nas_root),
        "LABEL_STUDIO_LOCAL_FILES_SERVING_ENABLED": "true",
        "SECRET_KEY": secret_key,
        "DJANGO_SETTINGS_MODULE": "core.settings.label_studio",
        "LABEL_STUDIO_DEBUG": "false",
        # The ML handshake carries only tokens of the old kind.
        "LABEL_STUDIO_ENABLE_LEGACY_API_TOKEN": "true",
        "LABEL_STUDIO_DISABLE_SIGNUP_WITHOUT_LINK": "true",
        # Nothing leaves the box: no analytics, no crash reports, no look for a newer version.
        "LABEL_STUDIO_COLLECT_ANALYTICS": "false",
        "LABEL_STUDIO_SENTRY_DSN": "",
        "LABEL_STUDIO_FRONTEND_SENTRY_DSN": "",
        "LABEL_STUDIO_LATEST_VERSION_CHECK": "false",
        # ml-backend and watchdog live on private addresses, which Label Studio refuses by default;
        # what stays forbidden is a cloud machine's metadata service.
        "LABEL_STUDIO_USE_DEFAULT_BANNED_SUBNETS": "false",
        "LABEL_STUDIO_USER_ADDITIONAL_BANNED_SUBNETS": "169.254.0.0/16",
        # A task stays reserved for whoever opened it: an hour, not a day, if the tab was closed.
        "LABEL_STUDIO_TASK_LOCK_TTL": "3600",
    }


def _database_environment(data_dir: Path, database: DatabaseSettings | None) -> dict[str, str]:
    if database is None:
        # Label Studio's word for the file is our word for the database on a server.
        return {"DJANGO_DB": "sqlite", "LABEL_STUDIO_DATABASE_NAME": str(data_dir / SQLITE_FILE)}
    return {
        "DJANGO_DB": "default",
        "POSTGRE_HOST": database.host,
        "POSTGRE_PORT": str(database.port),
        "POSTGRE_NAME": database.name,
        "POSTGRE_USER": database.user,
        "POSTGRE_PASSWORD": database.password,
    }
