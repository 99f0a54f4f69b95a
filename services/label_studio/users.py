"""Label Studio's accounts, for people and for `labloop users`. Run in the container:

    python -m services.label_studio.users add NAME MAIL    < password
                                          password NAME    < password
                                          disable NAME | list

Passwords come on standard input, where no `ps` shows them. An account that is there keeps its
password. Exit codes: 0 done, 1 failed, 2 wrong usage or settings.
"""

import argparse
import os
import sys
from collections.abc import Callable, Mapping

from services.label_studio import django_app
from services.label_studio.settings import LabelStudioSettings
from stack.runtime.log import start_logging
from stack.runtime.settings import SettingsError

LEAST_LENGTH = 8  # as Label Studio's own pages ask for


class InputError(Exception):
    """What was given cannot be used."""


def main() -> int:
    args = build_parser().parse_args()
    start_logging("WARNING")
    try:
        settings = LabelStudioSettings.from_env(os.environ)
        password = read_password() if args.verb in ("add", "password") else ""
    except (SettingsError, InputError) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    django_app.set_up(
        settings.data_dir, settings.nas_root, settings.secret_key, database=settings.database
    )
    try:
        sys.stdout.write(ACTS[args.verb](args, password) + "\n")
    except django_app.PersonError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="users", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    add = verbs.add_parser("add", help="let a person in; the password of a new one on stdin")
    add.add_argument("name")
    add.add_argument("mail")
    for verb in ("password", "disable"):
        verbs.add_parser(verb).add_argument("name")
    verbs.add_parser("list", help="name, mail address, enabled or disabled; between tabs")
    return parser


def read_password() -> str:
    """The first line of standard input.

    Raises:
        InputError: it is too short to be a password.
    """
    password = sys.stdin.readline().rstrip("\n")
    if len(password) < LEAST_LENGTH:
        raise InputError(
            f"a password of {len(password)} letters on standard input, expected {LEAST_LENGTH} "
            "at least"
        )
    return password


def add(args: argparse.Namespace, password: str) -> str:
    if django_app.add_person(args.name, args.mail, password):
        return f"{args.name} was added"
    return f"{args.name} was there and is let in, the password is as it was"


def password(args: argparse.Namespace, password: str) -> str:
    django_app.set_password(args.name, password)
    return f"the password of {args.name} was changed"


def disable(args: argparse.Namespace, password: str) -> str:
    django_app.disable_person(args.name)
    return f"{args.name} is let in no more"


def list_people(args: argparse.Namespace, password: str) -> str:
    return "\n".join(
        f"{name}\t{mail}\t{'enabled' if active else 'disabled'}"
        for name, mail, active in django_app.people()
    )


ACTS: Mapping[str, Callable[[argparse.Namespace, str], str]] = {
    "add": add,
    "password": password,
    "disable": disable,
    "list": list_people,
}

if __name__ == "__main__":
    sys.exit(main())
