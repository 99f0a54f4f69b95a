"""Label Studio's own code, called from inside its process: set-up, migrations, the admin.

The only module that imports it, and only within functions: importing it takes seconds, and works
once its environment is set.
"""

# Label Studio and gunicorn live in an environment of their own, which mypy does not see.
# mypy: disable-error-code="import-not-found, import-untyped"

import importlib.util
import logging
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

from services.label_studio.settings import DatabaseSettings, label_studio_environment

# One writer at a time, readers never wait for it (WAL), and a commit is on disk before the
# annotator reads "submitted" (synchronous=FULL).
PRAGMAS = "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;"
BUSY_TIMEOUT_S = 60.0  # wait for the other writer instead of answering "database is locked"

# After a power cut all containers start at once, and PostgreSQL reads its log first.
DATABASE_WAIT_S = 120.0
LOCK = 0x6C61626C6F6F70  # "labloop": the advisory lock of whoever changes the schema

log = logging.getLogger(__name__)


class DatabaseDownError(Exception):
    """PostgreSQL cannot be reached, or refuses us."""

    hint = "Look at LABEL_STUDIO_DATABASE_HOST and its user, password and database."


class PersonError(Exception):
    """What was asked about an account cannot be done."""


def set_up(
    data_dir: Path,
    nas_root: Path,
    secret_key: str,
    pragmas: str = PRAGMAS,
    database: DatabaseSettings | None = None,
) -> None:
    """Load Label Studio with its database in `data_dir`, or on a server. Once per process."""
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        del os.environ[name]  # webhooks and ML calls stay on this box
    os.environ.update(label_studio_environment(data_dir, nas_root, secret_key, database))
    spec = importlib.util.find_spec("label_studio")
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError("label_studio is not installed in this environment")
    sys.path.insert(0, spec.submodule_search_locations[0])

    import django
    from django.conf import settings

    settings.DATABASES["default"]["OPTIONS"] = _options(pragmas, database)
    # Cookies know hosts, not ports: two homes on one machine would log each other's users out.
    settings.SESSION_COOKIE_NAME = f"labloop-{sha256(secret_key.encode()).hexdigest()[:12]}"
    settings.LOGGING_CONFIG = None  # the process has its own log format and levels
    warnings.filterwarnings("ignore", "Accessing the database during app", RuntimeWarning)
    django.setup()


def _options(pragmas: str, database: DatabaseSettings | None) -> dict[str, Any]:
    if database is not None:
        return {"connect_timeout": 10, "application_name": "label-studio"}
    return {
        "timeout": BUSY_TIMEOUT_S,
        # A transaction that reads first and writes later cannot wait for another writer, SQLite
        # answers "locked" at once. One that announces itself as a writer can.
        "transaction_mode": "IMMEDIATE",
        "init_command": pragmas,
    }


@contextmanager
def alone() -> Iterator[None]:
    """One process at a time in here, of all containers that share a database server.

    A home with SQLite has one process anyway. The lock is asked for again and again: waiting in
    the server would be a transaction, for whose end CREATE INDEX CONCURRENTLY in a migration
    waits in turn, for ever.

    Raises:
        DatabaseDownError: the server was not reached in DATABASE_WAIT_S.
    """
    from django.db import connections

    if connections["default"].vendor != "postgresql":
        yield
        return
    connection = connections.create_connection("default")
    _reach(connection)
    try:
        with connection.cursor() as cursor:
            while True:
                cursor.execute("SELECT pg_try_advisory_lock(%s)", [LOCK])
                if cursor.fetchone()[0]:
                    break
                time.sleep(0.5)
        yield
    finally:
        connection.close()  # which gives the lock back, as the end of the process does


def _reach(connection: Any) -> None:
    """Connect; a server that is still starting is waited for."""
    from django.db import OperationalError

    deadline = time.monotonic() + DATABASE_WAIT_S
    is_told = False
    while True:
        try:
            connection.ensure_connection()
        except OperationalError as error:
            reason = " ".join(str(error).split())
            if time.monotonic() > deadline:
                raise DatabaseDownError(reason) from error
            if not is_told:
                log.warning("waiting for the database: %s", reason)
            is_told = True
            time.sleep(1.0)
        else:
            return


def migrate() -> None:
    """Bring the database to the installed version. Stopped half way, it goes on from there."""
    from django.core.management import call_command
    from django.db import connections
    from django.db.migrations.executor import MigrationExecutor

    executor = MigrationExecutor(connections["default"])
    if executor.migration_plan(executor.loader.graph.leaf_nodes()):
        log.info("database migrations started")
        call_command("migrate", verbosity=0, interactive=False)
        log.info("database migrations finished")
    connections.close_all()


def ensure_admin(username: str, password: str, token: str) -> None:
    """The admin, the organisation and the services' token, whatever of them is missing.

    The password is set for a new admin only: one changed in the browser stays.
    """
    from django.db import connections, transaction
    from organizations.models import Organization
    from rest_framework.authtoken.models import Token
    from users.models import User

    with transaction.atomic():
        user = User.objects.filter(email__iexact=username).first()
        if user is None:
            user = User.objects.create_superuser(username, password)
            log.info("admin %s was created", user.pk)
        organization = Organization.objects.order_by("pk").first()
        if organization is None:
            organization = Organization.create_organization(created_by=user, title="Labloop")
        if not organization.has_user(user):
            organization.add_user(user)
        if user.active_organization_id != organization.pk:
            user.active_organization = organization
            user.save(update_fields=["active_organization"])
        if not organization.jwt.legacy_api_tokens_enabled:
            organization.jwt.legacy_api_tokens_enabled = True
            organization.jwt.save()
        if not Token.objects.filter(user=user, key=token).exists():
            Token.objects.filter(user=user).delete()
            Token.objects.create(user=user, key=token)
    connections.close_all()


def add_person(name: str, mail: str, password: str) -> bool:
    """An account in the organisation; whether it is new. One that is there is let in again.

    Label Studio's own route for it stores an empty password and no organisation.

    Raises:
        PersonError: the name or the address is another person's.
    """
    from django.db import transaction
    from organizations.models import Organization
    from users.models import User

    with transaction.atomic():
        user = User.objects.filter(email__iexact=mail).first()
        other = User.objects.filter(username__iexact=name).exclude(pk=user and user.pk).first()
        if other is not None or (user is not None and user.username.lower() != name.lower()):
            raise PersonError(f"{name} or {mail} is another person's, expected both to be free")
        is_new = user is None
        if user is None:
            user = User.objects.create_user(mail, password, username=name)
        organization = Organization.objects.order_by("pk").first()
        if not organization.has_user(user):
            organization.add_user(user)
        user.active_organization = organization
        user.is_active = True
        user.save(update_fields=["active_organization", "is_active"])
    return is_new


def set_password(name: str, password: str) -> None:
    """Give a person a new password; whoever is logged in with the old one is logged out.

    Raises:
        PersonError: nobody has that name.
    """
    user = _person(name)
    user.set_password(password)
    user.save(update_fields=["password"])


def disable_person(name: str) -> None:
    """Let a person in no more. What they drew stays, with their name.

    Raises:
        PersonError: nobody has that name, or it is the admin, who stays.
    """
    user = _person(name)
    if user.is_superuser:
        raise PersonError(f"{name} is the admin, whose token the services use, and stays")
    user.is_active = False
    user.save(update_fields=["is_active"])


def people() -> list[tuple[str, str, bool]]:
    """Name, mail address and whether they are let in, in the order they came."""
    from users.models import User

    rows = User.objects.order_by("pk").values_list("username", "email", "is_active")
    return [(name or mail, mail, bool(active)) for name, mail, active in rows]


def _person(name: str) -> Any:
    from django.db.models import Q
    from users.models import User

    user = User.objects.filter(Q(username__iexact=name) | Q(email__iexact=name)).first()
    if user is None:
        raise PersonError(f"there is no account {name}")
    return user


def application() -> Callable[..., Any]:
    """The WSGI application, with its lazy parts loaded, ready to be forked into workers."""
    from django.core.wsgi import get_wsgi_application
    from django.urls import get_resolver

    _hand_out_each_task_once()
    loaded: Callable[..., Any] = get_wsgi_application()
    _ = get_resolver().url_patterns
    return loaded


def _hand_out_each_task_once() -> None:
    """Choose and reserve an annotator's next task in one transaction, also on SQLite.

    On PostgreSQL it does so itself. Label Studio 1.23.2 leaves the transaction out on SQLite, and
    ten annotators who ask at once get 67 different tasks in 100 requests. Its reason, "database
    is locked", is gone with a transaction that announces itself as a writer (`transaction_mode`
    above).
    """
    from projects.functions import next_task

    next_task.db_is_not_sqlite = lambda: True
