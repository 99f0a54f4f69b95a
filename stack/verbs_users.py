"""The verb `users`: the lab's people, with one password for Label Studio and the files."""

from __future__ import annotations

import argparse
import sys

from stack import console
from stack.home import Home


def register(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add this module's verb to the command line."""
    users = verbs.add_parser("users", help="people: add, list, password, disable (Docker)")
    actions = users.add_subparsers(dest="action", required=True, metavar="ACTION")
    add = actions.add_parser("add", help="let a person in; shows their first password once")
    add.add_argument("name", help="for the files; letters, digits and . _ -")
    add.add_argument("mail", help="for Label Studio")
    add.set_defaults(act=add_person)
    password = actions.add_parser("password", help="a new password, everywhere")
    password.add_argument("name")
    password.set_defaults(act=change_password)
    for parser in (add, password):
        parser.add_argument(
            "--stdin", action="store_true", help="the password is on standard input, not made up"
        )
    disable = actions.add_parser("disable", help="let a person in no more; their work stays")
    disable.add_argument("name")
    disable.set_defaults(act=disable_person)
    actions.add_parser("list", help="everybody").set_defaults(act=list_people)


def add_person(args: argparse.Namespace, home: Home) -> int:
    from stack.engine import users
    from stack.engine.lab import open_lab

    lab = open_lab(home)
    is_known = any(one.name == args.name for one in users.list_people(lab))
    password = _password(args)
    users.add(lab, args.name, args.mail, password, console.say)
    settings = lab.settings
    console.say(f"Label Studio: {settings.url('label')}, log in as {args.mail}")
    console.say(f"files:        {settings.url('files')}, log in as {args.name}")
    if is_known:
        console.say("the password is as it was; `labloop users password NAME` makes a new one")
    elif not args.stdin:
        console.say(f"password:     {password}   (shown this once)")
    return 0


def change_password(args: argparse.Namespace, home: Home) -> int:
    from stack.engine import users
    from stack.engine.lab import open_lab

    password = _password(args)
    users.change_password(open_lab(home), args.name, password, console.say)
    if not args.stdin:
        console.say(f"password: {password}   (shown this once)")
    return 0


def disable_person(args: argparse.Namespace, home: Home) -> int:
    from stack.engine import users
    from stack.engine.lab import open_lab

    users.disable(open_lab(home), args.name, console.say)
    return 0


def list_people(args: argparse.Namespace, home: Home) -> int:
    from stack.engine import users
    from stack.engine.lab import open_lab

    lab = open_lab(home)
    names = [words[0] for words in users.services(lab)]
    rows = [
        (one.name, one.mail, *(one.access.get(name, "-") for name in names))
        for one in users.list_people(lab)
    ]
    console.table(("NAME", "MAIL", *(name.upper() for name in names)), rows)
    return 0


def _password(args: argparse.Namespace) -> str:
    from stack.engine.users import new_password

    return sys.stdin.readline().rstrip("\n") if args.stdin else new_password()
