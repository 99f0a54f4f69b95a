"""The verbs about a stack in Docker: what `up`, `down`, `status` and `logs` do there, and more.

`labloop up` without --local lands here; the others do when the home's stack is in Docker.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING

from stack import console
from stack.home import Home

if TYPE_CHECKING:
    from stack.engine.lab import Lab
    from stack.engine.start import Outcome
    from stack.status import Overview


def register(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add this module's own verbs to the command line."""
    destroy = verbs.add_parser("destroy", help="remove the stack in Docker with its databases")
    destroy.add_argument("--yes", metavar="STACK_NAME", help="do not ask; say its name instead")
    destroy.set_defaults(act=destroy_stack)
    upgrade = verbs.add_parser("upgrade", help="to the checkout's version, behind a backup")
    upgrade.add_argument(
        "--env-file",
        type=Path,
        metavar="FILE",
        help="settings (default: as the stack was started, else .env)",
    )
    upgrade.set_defaults(act=upgrade_stack)
    compose = verbs.add_parser("compose", help="docker compose, with this stack's files")
    compose.add_argument("words", nargs=argparse.REMAINDER, metavar="WORDS")
    compose.set_defaults(act=call_compose)


# --- up and down ------------------------------------------------------------------------------


def bring_up(args: argparse.Namespace, home: Home) -> int:
    from stack.engine.start import start
    from stack.engine.up import UpWishes

    begun = time.monotonic()
    outcome = start(home, UpWishes(args.env_file, args.offline, args.bundle))
    for finding in outcome.warnings:
        advice = f"; {finding.advice}" if finding.advice else ""
        console.warn(f"{finding.what}: {finding.found}{advice}")
    if not outcome.has_changed:
        took_s = time.monotonic() - begun
        console.say(f"all is as it should be, nothing to do ({took_s:.0f} s)")
    welcome(outcome)
    return 0


def welcome(outcome: Outcome) -> None:
    """The last screen: where to go, as whom, and what to do next."""
    from stack.credentials import ADMIN_PASSWORD, BACKUP_PASSWORD, FILES_ADMIN_PASSWORD
    from stack.engine.trust import authority

    lab, settings = outcome.lab, outcome.lab.settings
    home = lab.home
    rows: list[tuple[str, str]] = []
    if settings.has_gateway:
        admin = settings.values.get("LABEL_STUDIO_USERNAME", "admin@labloop.local")
        rows += [
            ("the lab's page", settings.url("portal")),
            ("Label Studio", settings.url("label")),
            ("", f"log in as {admin}, password in {home.secret(ADMIN_PASSWORD)}"),
            ("files", settings.url("files")),
            ("", f"log in as admin, password in {home.secret(FILES_ADMIN_PASSWORD)}"),
            ("TensorBoard", f"{settings.url('board')} (for whoever is logged in to Label Studio)"),
            *authority(outcome.lab),
        ]
    rows.append(("GPU", lab.trains_on))
    rows.append(("drop images in", f"{home.nas.dataset}/TaskNNN_what/rawdata/"))
    if settings.has_gateway:
        rows.append(("write down", f"{home.secret(BACKUP_PASSWORD)}: no backup opens without it"))
    if outcome.has_changed and settings.has_gateway:
        rows.append(("next", "`labloop users add NAME MAIL` for everybody who annotates"))
    console.say()
    for name, words in rows:
        console.say(f"  {name:<15} {words}")
    console.say()


def down(args: argparse.Namespace, home: Home) -> int:
    """Stop and remove the containers; volumes, secrets and the NAS stay."""
    from stack.engine.lab import open_lab

    begun = time.monotonic()
    lab = open_lab(home)
    progress = console.Progress("the stack stops", "20 s")
    lab.compose.stream("down", "--remove-orphans", on_line=progress.tell)
    progress.finish("down")
    console.say(f"no data was removed; `labloop up` goes on ({time.monotonic() - begun:.0f} s)")
    return 0


def upgrade_stack(args: argparse.Namespace, home: Home) -> int:
    from stack.engine.upgrade import upgrade

    upgraded = upgrade(home, args.env_file)
    if not upgraded.has_changed:
        console.say(f"{upgraded.before} runs already, nothing to do")
        return 0
    console.say(f"{upgraded.before} became {upgraded.lab.image_tag}; backup {upgraded.backup[:8]}")
    return 0


def destroy_stack(args: argparse.Namespace, home: Home) -> int:
    from stack.engine.engine import Engine
    from stack.engine.lab import open_lab, record_file
    from stack.errors import RefusedError

    lab = open_lab(home)
    name = lab.settings.stack_name
    with Engine.connected() as engine:
        volumes = engine.volumes(name)
        console.say("This removes for good, with everything in them:")
        for volume in volumes:
            console.say(
                f"  {volume}{'  (the share itself stays)' if volume == lab.volume('nas') else ''}"
            )
        console.say(f"It keeps the NAS ({home.nas.root}), {home.secrets}, .env and the images.")
        answer = args.yes if args.yes is not None else console.ask(f"Type {name} to go on: ")
        if answer != name:
            raise RefusedError(
                f"the answer was {answer!r}, expected {name!r}; nothing was removed",
                hint="`labloop backup` first, if in doubt.",
            )
        lab.compose.stream("down", "--remove-orphans", on_line=lambda _: None)
        for volume in volumes:
            engine.remove_volume(volume)
    record_file(home).unlink(missing_ok=True)
    console.say("the stack and its databases are gone")
    return 0


def call_compose(args: argparse.Namespace, home: Home) -> int:
    from stack.engine.lab import open_lab

    words = args.words[1:] if args.words[:1] == ["--"] else args.words
    return open_lab(home).compose.call_through(words)


# --- looking ----------------------------------------------------------------------------------


def find_overview(home: Home) -> Overview:
    """What `labloop status` shows of a stack in Docker."""
    from stack.engine.engine import Engine
    from stack.engine.lab import open_lab
    from stack.engine.look import overview
    from stack.engine.up import wanted_services

    lab = open_lab(home)
    with Engine.connected() as engine:
        return overview(lab, engine, wanted_services(lab))


def show_logs(args: argparse.Namespace, home: Home) -> int:
    from stack.engine.lab import open_lab
    from stack.engine.up import wanted_services
    from stack.errors import UnknownServiceError

    lab: Lab = open_lab(home)
    names = wanted_services(lab)
    if args.service is not None and args.service not in names:
        raise UnknownServiceError(args.service, names)
    words = ["logs", "--tail", str(args.lines), *["--follow"] * args.follow]
    return lab.compose.call_through([*words, *([args.service] if args.service else [])])
