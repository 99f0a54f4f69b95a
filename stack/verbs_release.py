"""The verb `release`: a person looks at what may show a name, and decides."""

from __future__ import annotations

import argparse
import getpass
from typing import TYPE_CHECKING

from stack import console
from stack.errors import UsageError
from stack.home import Home
from stack.verbs_data import Parsers, task_folder

if TYPE_CHECKING:
    from imaging.dataset.quarantine import Decision
    from imaging.layout import TaskFolder

OUTCOME = {
    "release": "it goes on as it is",
    "redact": "it goes on with those places blanked",
    "reject": "its files go to rejected/",
}


def register(verbs: Parsers[argparse.ArgumentParser]) -> None:
    """Add this module's verb to the command line."""
    release = verbs.add_parser(
        "release", help="series that may show a name: list them, or decide about one"
    )
    release.add_argument("task")
    release.add_argument(
        "id", metavar="ID", nargs="?", help="q-…, as the list names it; without: the list"
    )
    how = release.add_mutually_exclusive_group()
    how.add_argument("--redact", action="store_true", help="let it go on, those places blanked")
    how.add_argument("--reject", action="store_true", help="do not let it go on")
    release.add_argument("--by", metavar="NAME", help="who decides (default: your login)")
    release.set_defaults(act=release_series)


def release_series(args: argparse.Namespace, home: Home) -> int:
    """List what waits, or write down a decision; ingest acts on it when it next looks."""
    from imaging.dataset.quarantine import decide

    task = task_folder(home, args.task)
    decision: Decision = "redact" if args.redact else "reject" if args.reject else "release"
    if args.id is None:
        if args.redact or args.reject:
            raise UsageError(
                f"found --{decision} without an ID",
                hint=f"`labloop release {task.name}` lists them.",
            )
        return _list(task)
    made = decide(task, args.id, decision, args.by or _login())
    files = "1 file" if len(made.entry.files) == 1 else f"{len(made.entry.files)} files"
    console.say(f"{made.id} ({files}): {decision} by {made.by}; {OUTCOME[decision]}")
    return 0


def _login() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        return "somebody"


def _list(task: TaskFolder) -> int:
    from imaging.dataset.quarantine import quarantined

    waiting = [one for one in quarantined(task) if one.decision is None]
    if not waiting:
        console.say(f"nothing waits in {task.quarantine}")
        return 0
    rows = [(one.id, str(len(one.entry.files)), one.entry.reason) for one in waiting]
    console.table(("id", "files", "why"), rows)
    console.say("\nlook at:")
    for one in waiting:
        console.say(f"  {one.picture}")
    console.say(f"then: labloop release {task.name} ID [--redact | --reject]")
    return 0
