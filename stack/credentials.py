"""The secrets of a home: made once, at random, readable by their owner alone.

There are no default passwords, and no secret is ever logged or put on a command line: services
get the name of the file. Whoever moves a stack to another box takes `secrets/` along.
"""

import os
import secrets
from collections.abc import Callable, Mapping

from imaging.layout import Nas
from stack.errors import RefusedError
from stack.home import Home

ADMIN_PASSWORD = "admin-password"
LABEL_STUDIO_TOKEN = "label-studio-token"
LABEL_STUDIO_KEY = "label-studio-key"
WEBHOOK_SECRET = "webhook-secret"
ML_BACKEND_TOKEN = "ml-backend-token"
PSEUDONYM_KEY = "pseudonym-key"
DB_ADMIN_PASSWORD = "db-admin-password"
LABEL_STUDIO_DB_PASSWORD = "label-studio-db-password"
NEXTCLOUD_DB_PASSWORD = "nextcloud-db-password"
FILES_ADMIN_PASSWORD = "files-admin-password"
REDIS_PASSWORD = "redis-password"
BACKUP_PASSWORD = "backup-password"

Makers = Mapping[str, Callable[[], str]]
MAKERS: Makers = {
    ADMIN_PASSWORD: lambda: secrets.token_urlsafe(15),  # 120 bits, typed by people
    LABEL_STUDIO_TOKEN: lambda: secrets.token_hex(20),  # Label Studio wants 40 hex digits
    LABEL_STUDIO_KEY: lambda: secrets.token_urlsafe(50),  # signs sessions
    WEBHOOK_SECRET: lambda: secrets.token_urlsafe(32),
    ML_BACKEND_TOKEN: lambda: secrets.token_urlsafe(32),
    PSEUDONYM_KEY: lambda: secrets.token_hex(32),
}
# What only a stack in Docker has.
DOCKER_MAKERS: Makers = {
    DB_ADMIN_PASSWORD: lambda: secrets.token_urlsafe(32),
    LABEL_STUDIO_DB_PASSWORD: lambda: secrets.token_urlsafe(32),
    NEXTCLOUD_DB_PASSWORD: lambda: secrets.token_urlsafe(32),
    FILES_ADMIN_PASSWORD: lambda: secrets.token_urlsafe(15),  # typed by people
    REDIS_PASSWORD: lambda: secrets.token_urlsafe(32),
    BACKUP_PASSWORD: lambda: secrets.token_urlsafe(20),  # written down by people, too
}


def ensure_secrets(home: Home, makers: Makers = MAKERS) -> None:
    """Make the secrets that are not there yet, and close up those that others could read.

    Raises:
        RefusedError: the key of the patients' pseudonyms is gone, but there are cases named by it.
    """
    if has_cases(home.nas):
        require_pseudonym_key(home)
    home.secrets.mkdir(parents=True, exist_ok=True)
    home.secrets.chmod(0o700)
    for name, make in makers.items():
        path = home.secret(name)
        if not path.is_file():
            _write_secret(home, name, make())
        path.chmod(0o600)


def require_pseudonym_key(home: Home) -> None:
    """For a share that holds cases.

    Raises:
        RefusedError: the key that they were made with is not in this home.
    """
    if not home.secret(PSEUDONYM_KEY).is_file():
        raise RefusedError(
            f"{home.secret(PSEUDONYM_KEY)} is missing, but the NAS holds cases made with it",
            hint="Copy it from a backup or from the home that made the cases. A new key would "
            "give every patient a second name, and one could end up in training and test alike.",
        )


def _write_secret(home: Home, name: str, value: str) -> None:
    part = home.secret(f".{name}.{os.getpid()}.part")
    part.unlink(missing_ok=True)
    # Created 0600, so that there is no moment at which others could read it.
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as stream:
        stream.write(value + "\n")
        stream.flush()
        os.fsync(stream.fileno())
    part.replace(home.secret(name))


def has_cases(nas: Nas) -> bool:
    """Whether patients on this share have pseudonyms already."""
    return any(task.cases.is_dir() and any(task.cases.iterdir()) for task in nas.tasks())
