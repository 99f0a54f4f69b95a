"""Label Studio on a real PostgreSQL: the schema is made once, whoever comes."""

import re

import pytest

from tests.docker.conftest import MIGRATE_LIMIT_S, Lab
from tests.docker.engine import wait_for

pytestmark = [pytest.mark.docker, pytest.mark.label_studio]


def test_of_two_that_migrate_at_once_one_does_the_work(lab: Lab) -> None:
    assert sum("migrations started" in log for log in lab.migrations) == 1
    assert sum("was created" in log for log in lab.migrations) == 1
    assert all("up to date" in log for log in lab.migrations)


def test_migrating_again_changes_nothing(lab: Lab) -> None:
    command = ("python", "-m", "services.label_studio.start", "--migrate")
    again = lab.start("label-studio", *command, called="migrate-again")
    assert again.wait_until_ended(MIGRATE_LIMIT_S) == 0
    assert "migrations started" not in again.logs() and "was created" not in again.logs()


def test_the_token_works_without_a_click_on_two_processes(lab: Lab) -> None:
    with lab.client() as client:
        assert client.call("GET", "/api/current-user/whoami")["email"] == "admin@labloop.local"
    processes = lab.containers["label-studio"].execute("sh", "-c", "ls -d /proc/[0-9]*")
    assert len(processes.split()) >= 3, "gunicorn and two workers"


def test_everything_is_kept_on_the_server_and_nothing_in_a_file(lab: Lab) -> None:
    tables = "SELECT count(*) FROM information_schema.tables WHERE table_name LIKE 'task%'"
    psql = ("psql", "--username=label-studio", "--tuples-only", "--command", tables)
    assert int(lab.containers["db"].execute(*psql)) > 3
    assert "sqlite" not in lab.containers["label-studio"].execute("ls", "-R", "/state")


def test_a_database_that_refuses_is_told_at_once_and_asked_again(lab: Lab) -> None:
    """As after a power cut, when all containers start together."""
    wrong = {"LABEL_STUDIO_DATABASE_USER": "somebody"}
    refused = lab.start("label-studio", called="refused", environment=wrong)
    reason = 'waiting for the database: .*password authentication failed for user "somebody"'
    wait_for("the log says why", lambda: bool(re.search(reason, refused.logs())), 60.0)
    assert refused.inspect()["State"]["Running"]
    assert not [value for value in lab.secret_values if value in refused.logs()]
    refused.remove()
