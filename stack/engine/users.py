"""The lab's people: one name and one password, in Label Studio and in the file service.

TensorBoard has no list of its own: whoever is logged in to Label Studio is let in.
"""

import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass

from stack.engine import dealing
from stack.engine.compose_call import ComposeFailedError
from stack.engine.engine import Engine
from stack.engine.lab import Lab
from stack.engine.settings import require_gateway
from stack.engine.up import described
from stack.errors import StackError, UsageError
from stack.runtime import accounts
from stack.settings import read_env_file

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
MAIL = re.compile(r"[A-Za-z0-9._%+-]+@[A-Za-z0-9.-]+")
LEAST_LENGTH = 8
LABEL_STUDIO = ("label-studio", "python", "-m", "services.label_studio.users")
NEXTCLOUD = ("nextcloud", "sh", "/labloop/user.sh")
FILES_LITE = "files-lite"

Say = Callable[[str], None]


class PeopleError(StackError):
    """An account could not be made or changed."""

    hint = "`labloop status` shows how the service is; then do it again: what was done stays."


@dataclass(frozen=True, slots=True)
class Person:
    """An account, as the services know it."""

    name: str
    mail: str
    access: dict[str, str]  # service → enabled, disabled


def new_password() -> str:
    """For people to type once, and to change."""
    return secrets.token_urlsafe(12)


def add(lab: Lab, name: str, mail: str, password: str, say: Say) -> None:
    """Let a person in everywhere; an account that is there keeps its password.

    Raises:
        UsageError: the name, the address or the password cannot be used.
        PeopleError: a service refused; the others have done it.
    """
    _check(name, mail, password)
    _everywhere(lab, ("add", name, mail), password, say)


def change_password(lab: Lab, name: str, password: str, say: Say) -> None:
    """The same new password everywhere."""
    _check(name, "", password)
    _everywhere(lab, ("password", name), password, say)


def disable(lab: Lab, name: str, say: Say) -> None:
    """Let a person in no more; what they made stays."""
    _everywhere(lab, ("disable", name), None, say)


def list_people(lab: Lab) -> list[Person]:
    """Everybody whom a service knows."""
    people: dict[str, Person] = {}
    for words in services(lab):
        output = _call(lab, words, ("list",), None)
        for line in output.splitlines():
            name, mail, access, *_ = [*line.split("\t"), "", "", ""]
            if name:
                known = people.setdefault(name, Person(name, mail, {}))
                known.access[words[0]] = access
    return sorted(people.values(), key=lambda one: one.name)


def services(lab: Lab) -> list[tuple[str, ...]]:
    """Service and command of each list of people; files-lite's is a file of ours."""
    require_gateway(lab.settings, "people")
    return [LABEL_STUDIO, NEXTCLOUD if lab.settings.profile == "lab" else (FILES_LITE,)]


def _check(name: str, mail: str, password: str) -> None:
    if not NAME.fullmatch(name):
        raise UsageError(f"the name is {name!r}, expected letters, digits and . _ -")
    if mail and not MAIL.fullmatch(mail):
        raise UsageError(f"the mail address is {mail!r}, expected name@host")
    if len(password) < LEAST_LENGTH:
        raise UsageError(f"the password has {len(password)} letters, expected {LEAST_LENGTH}")


def _everywhere(lab: Lab, words: tuple[str, ...], password: str | None, say: Say) -> None:
    failed: list[str] = []
    for service, *command in services(lab):
        try:
            said = _call(lab, (service, *command), words, password)
        except PeopleError as error:
            failed.append(str(error))
        else:
            say(f"{service}: {said.strip()}")
    if failed:
        raise PeopleError("; ".join(failed))


def _call(lab: Lab, service: tuple[str, ...], words: tuple[str, ...], password: str | None) -> str:
    if service[0] == FILES_LITE:
        return _files_lite(lab, words, password or "")
    given = None if password is None else f"{password}\n"
    try:
        return lab.compose.execute(*service, *words, input_text=given)
    except ComposeFailedError as error:
        raise PeopleError(f"{service[0]}: {error.tail}") from error


def _files_lite(lab: Lab, words: tuple[str, ...], password: str) -> str:
    """Its accounts are a file of names and hashes, which it reads when it starts."""
    try:
        text = dealing.read_accounts_file(lab.home)
        known = accounts.read_accounts(text).hashes
        verb, *name = words
        if verb == "list":
            return "\n".join(f"{one}\t\tenabled" for one in sorted(known))
        if verb == "add" and name[0] in known:
            return f"{name[0]} was there, the password is as it was"
        if verb != "add" and name[0] not in known:
            raise PeopleError(f"{FILES_LITE}: there is no account {name[0]}")
        changed = (
            accounts.remove_account(text, name[0])
            if verb == "disable"
            else accounts.add_account(text, name[0], password)
        )
    except (OSError, accounts.AccountsError) as error:
        raise PeopleError(f"{FILES_LITE}: {error}") from error
    dealing.write_accounts(lab.home, changed)
    deal_again(lab, FILES_LITE)
    lab.compose.run("restart", FILES_LITE)
    return {"add": f"{name[0]} was added", "disable": f"{name[0]} is let in no more"}.get(
        verb, f"the password of {name[0]} was changed"
    )


def deal_again(lab: Lab, service: str) -> None:
    """Hand a service its secrets anew, after one of them was changed."""
    stack = described(lab, read_env_file(lab.compose.env_file))
    needs = [one for one in dealing.needs_of(stack, lab.settings.lab_uid) if one.service == service]
    image = str(stack.containers["gateway"].image)
    with Engine.connected() as engine:
        dealing.deal_out(engine, image, lab.home, needs)
