"""The migrated, empty database that new homes start from.

Label Studio's 260 migrations take 20 s to a minute of CPU, and give the same empty database every
time. It is made once per version and copied. It holds no user, no token and no secret.
"""

import fcntl
import importlib.metadata
import logging
import os
import secrets
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from services.label_studio import django_app
from services.label_studio.settings import SQLITE_FILE

DATABASE = SQLITE_FILE

log = logging.getLogger(__name__)


def template_path(folder: Path) -> Path:
    """The template for the installed version of Label Studio; it may not be there yet."""
    return folder / importlib.metadata.version("label-studio") / DATABASE


def make_template(folder: Path) -> Path:
    """Build the template unless it is there. Of several builders at once, one works.

    A process can do this once: Django is set up on the new database.

    Raises:
        OSError: the folder cannot be written.
    """
    final = template_path(folder)
    with _lock(final.parent):
        if final.is_file():
            return final
        with tempfile.TemporaryDirectory(prefix=".building-", dir=final.parent) as building:
            part = Path(building) / DATABASE
            # Nobody reads the file before it is whole, so it need not survive a power cut.
            pragmas = "PRAGMA journal_mode=MEMORY; PRAGMA synchronous=OFF;"
            django_app.set_up(Path(building), Path(building), secrets.token_hex(), pragmas)
            django_app.migrate()
            _pack(part)
            part.replace(final)
    log.info("template database made for Label Studio %s", final.parent.name)
    return final


def copy_template(template: Path, database: Path) -> None:
    """Start a home from the template: the database appears whole or not at all."""
    part = database.with_suffix(".part")
    shutil.copyfile(template, part)
    part.chmod(0o600)
    with part.open("rb") as stream:
        os.fsync(stream.fileno())
    part.replace(database)


def _pack(database: Path) -> None:
    """Make the file small and readers independent of the writer, in this and every copy."""
    connection = sqlite3.connect(database, isolation_level=None)
    try:
        connection.execute("VACUUM")
        connection.execute("PRAGMA journal_mode=WAL")
    finally:
        connection.close()
    with database.open("rb") as stream:
        os.fsync(stream.fileno())


@contextmanager
def _lock(folder: Path) -> Iterator[None]:
    """Held by one builder; the kernel frees it if the builder dies."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield
