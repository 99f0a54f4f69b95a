"""Hands each service its secrets: `<home>/secrets/<service>/`, seen in its container alone.

compose.yaml's `x-secrets` says who gets which. Each file belongs to the service's user and is
readable by nobody else; which user that is differs from service to service, so an engine's root
does the giving, in a container of its own.
"""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass

from imaging.publish import write_text
from stack.compose import Stack
from stack.credentials import DOCKER_MAKERS, FILES_ADMIN_PASSWORD, MAKERS, ensure_secrets
from stack.engine.engine import Engine
from stack.engine.settings import LabSettings
from stack.home import Home
from stack.runtime.accounts import add_account

TLS_CERTIFICATE, TLS_KEY = "tls.crt", "tls.key"
FILES_LITE_ACCOUNTS = "files-lite-accounts"
FILES_ADMIN = "admin"
# Called with `service owner file` again and again.
SCRIPT = """
cd /secrets
while [ $# -gt 0 ]; do
    service=$1 owner=$2 name=$3
    shift 3
    mkdir -p "$service"
    chown "$owner" "$service"
    chmod 0500 "$service"
    cmp -s "$name" "$service/$name" && continue
    part="$service/.$name.part"
    rm -f "$part"
    (umask 0377 && cat "$name" >"$part")
    chown "$owner" "$part"
    mv "$part" "$service/$name"
    echo "$service: $name"
done
"""


@dataclass(frozen=True, slots=True)
class Need:
    """What one service must know."""

    service: str
    owner: int  # the user that its container runs as
    files: tuple[str, ...]


def make_secrets(home: Home, settings: LabSettings) -> None:
    """Make what is missing; the lab's own certificate is copied, so that it is found after a move.

    Raises:
        RefusedError: the key of the pseudonyms is gone, but cases are named by it.
    """
    ensure_secrets(home, {**MAKERS, **DOCKER_MAKERS})
    for source, name in ((settings.tls_certificate, TLS_CERTIFICATE), (settings.tls_key, TLS_KEY)):
        if source is not None:
            target = home.secret(name)
            shutil.copyfile(source, target)
            target.chmod(0o600)
    if not home.secret(FILES_LITE_ACCOUNTS).is_file():
        password = home.secret(FILES_ADMIN_PASSWORD).read_text(encoding="utf-8").strip()
        write_accounts(home, add_account("", FILES_ADMIN, password))


def read_accounts_file(home: Home) -> str:
    """Who may open the files of files-lite, by name and hash."""
    return home.secret(FILES_LITE_ACCOUNTS).read_text(encoding="utf-8")


def write_accounts(home: Home, text: str) -> None:
    """Write them down, for `deal_out` to hand on."""
    write_text(home.secret(FILES_LITE_ACCOUNTS), text)
    home.secret(FILES_LITE_ACCOUNTS).chmod(0o600)


def deal_out(engine: Engine, image: str, home: Home, needs: Sequence[Need]) -> list[str]:
    """Give every service its files; what was new or changed, as `service: name`.

    Args:
        engine: whose root gives them away.
        image: of any service, with a shell in it.
        home: whose secrets.
        needs: who gets which.
    """
    words = [
        word
        for need in needs
        for name in need.files
        for word in (need.service, str(need.owner), name)
    ]
    if not words:
        return []
    return engine.run_as_root(image, SCRIPT, {str(home.secrets): "/secrets"}, words).splitlines()


def needs_of(stack: Stack, lab_uid: int) -> list[Need]:
    """What each service must know, as `x-secrets` says it."""
    return [
        Need(name, int(one.secrets.owner or lab_uid), one.secrets.files)
        for name, one in stack.containers.items()
        if one.secrets.files
    ]
