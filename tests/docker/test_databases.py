"""Other people's servers, as compose.yaml has them: PostgreSQL and Redis."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from stack.environments import ROOT
from tests.docker.bases import POSTGRES, REDIS, RESTIC, ensure_base
from tests.docker.engine import docker, try_docker, wait_for

pytestmark = pytest.mark.docker
PROJECT = f"labloop-test-databases-{os.getpid()}"
ROLES = ("label-studio", "nextcloud")
COMPOSE_FILE = ROOT / "compose.yaml"
PASSWORDS = {  # with everything in them that a shell or SQL could trip over
    "db-admin-password": "admin-'\"$x",
    "label-studio-db-password": "label'; DROP TABLE x; --\"\\",
    "nextcloud-db-password": "next `cloud` $(id) :name",
    "redis-password": "r3dis",
}


class Databases:
    """`db` and `redis` of compose.yaml, started by Compose."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.env_file = folder / "env"
        self.described = yaml.safe_load(COMPOSE_FILE.read_text())

    def prepare(self) -> None:
        for service in ("db", "redis"):
            secrets = self.folder / "secrets" / service
            secrets.mkdir(parents=True)
            for name in self.described["services"][service]["x-secrets"]["files"]:
                (secrets / name).write_text(PASSWORDS[name] + "\n")
                (secrets / name).chmod(0o400)
                os.chown(secrets / name, 999, 999)
            secrets.chmod(0o500)
            os.chown(secrets, 999, 999)
        lines = [f"STACK_NAME={PROJECT}"]
        lines += [f"SECRETS_DIR={self.folder / 'secrets'}"]
        lines += [f"POSTGRES_IMAGE={ensure_base(POSTGRES)}", f"REDIS_IMAGE={ensure_base(REDIS)}"]
        self.env_file.write_text("\n".join(lines) + "\n")
        for name in self.described["volumes"]:  # Compose wants them all, whatever it starts
            docker("volume", "create", f"{PROJECT}_{name}")

    def compose(self, *words: str) -> str:
        return docker(*self._words, *words, timeout_s=120.0)

    def try_psql(self, role: str, database: str, question: str, password: str) -> Any:
        """As the application does it: over TCP, with a password."""
        words = ("exec", "-T", "--env", f"PGPASSWORD={password}", "db", "psql", "-h", "127.0.0.1")
        return try_docker(*self._words, *words, "-U", role, "-d", database, "-tAc", question)

    def inspect(self, service: str) -> dict[str, Any]:
        return dict(
            json.loads(docker("inspect", self.compose("ps", "--all", "--quiet", service)))[0]
        )

    def remove(self) -> None:
        try_docker(*self._words, "--profile", "*", "down", "--remove-orphans")
        for name in self.described["volumes"]:
            try_docker("volume", "rm", "--force", f"{PROJECT}_{name}")

    @property
    def _words(self) -> tuple[str, ...]:
        files = ("--file", str(COMPOSE_FILE), "--env-file", str(self.env_file))
        return ("compose", "--project-name", PROJECT, *files)


@pytest.fixture(scope="module")
def databases(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Databases]:
    if os.geteuid() != 0:
        pytest.skip("only root can give secrets to the users of containers")
    one = Databases(tmp_path_factory.mktemp("databases"))
    one.prepare()
    try:
        one.compose("up", "--detach", "--wait", "db", "redis")
        yield one
    finally:
        one.remove()


@pytest.mark.parametrize("role", ROLES)
def test_a_role_owns_its_own_database_and_enters_no_other(databases: Databases, role: str) -> None:
    password = PASSWORDS[f"{role}-db-password"]
    make = 'CREATE TABLE IF NOT EXISTS "of" (n int); SELECT current_user'
    assert databases.try_psql(role, role, make, password).stdout.strip().endswith(role)
    other = next(name for name in ROLES if name != role)
    refused = databases.try_psql(role, other, "SELECT 1", password)
    assert refused.returncode != 0 and "permission denied for database" in refused.stderr
    wrong = databases.try_psql(role, role, "SELECT 1", "wrong")
    assert "password authentication failed" in wrong.stderr


@pytest.mark.parametrize("role", ROLES)
def test_a_role_is_no_superuser(databases: Databases, role: str) -> None:
    password = PASSWORDS[f"{role}-db-password"]
    question = "SELECT rolsuper OR rolcreatedb OR rolcreaterole FROM pg_roles WHERE rolname="
    answer = databases.try_psql(role, role, f"{question}'{role}'", password)
    assert answer.stdout.strip() == "f"
    theft = databases.try_psql(role, role, "COPY (SELECT 1) TO PROGRAM 'id'", password)
    assert "permission denied" in theft.stderr


def test_the_script_may_run_again_and_takes_a_new_password(databases: Databases) -> None:
    secret = databases.folder / "secrets" / "db" / "nextcloud-db-password"
    secret.write_text("another\n")
    script = "/docker-entrypoint-initdb.d/10-databases.sh"
    databases.compose("exec", "-T", "db", "sh", script)
    try:
        answer = databases.try_psql("nextcloud", "nextcloud", "SELECT 1", "another")
        assert answer.stdout.strip() == "1"
    finally:
        secret.write_text(PASSWORDS["nextcloud-db-password"] + "\n")
        databases.compose("exec", "-T", "db", "sh", script)


def test_what_is_stored_outlives_the_container(databases: Databases) -> None:
    password = PASSWORDS["label-studio-db-password"]
    fill = "CREATE TABLE kept AS SELECT generate_series(1, 7) AS n"
    databases.try_psql("label-studio", "label-studio", fill, password)
    databases.compose("rm", "--force", "--stop", "db")
    databases.compose("up", "--detach", "--wait", "db")
    count = "SELECT count(*) FROM kept"
    answer = databases.try_psql("label-studio", "label-studio", count, password)
    assert answer.stdout.strip() == "7"


def test_redis_asks_for_its_password(databases: Databases) -> None:
    assert "NOAUTH" in databases.compose("exec", "-T", "redis", "redis-cli", "ping")
    environment = ("--env", f"REDISCLI_AUTH={PASSWORDS['redis-password']}")
    answer = databases.compose("exec", "-T", *environment, "redis", "redis-cli", "ping")
    assert answer.strip() == "PONG"


def test_no_secret_is_seen_from_outside(databases: Databases) -> None:
    for service in ("db", "redis"):
        seen = str(databases.inspect(service)) + databases.compose("logs", service)
        seen += databases.compose("top", service)
        assert not [value for value in PASSWORDS.values() if value in seen]


def test_the_server_ends_at_once_when_it_is_asked_to(databases: Databases) -> None:
    databases.compose("stop", "db")
    wait_for("it ended", lambda: not databases.inspect("db")["State"]["Running"], 10.0)
    assert databases.inspect("db")["State"]["ExitCode"] == 0
    databases.compose("up", "--detach", "--wait", "db")


def test_restic_is_the_image_s_entrypoint() -> None:
    assert docker("run", "--rm", ensure_base(RESTIC), "version").startswith("restic 0.")
