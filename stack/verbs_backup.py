"""The verbs about backups of a stack in Docker: `backup`, `restore`."""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from stack import console
from stack.home import Home

if TYPE_CHECKING:
    from stack.engine.manifest import Manifest

# Tables that people know → what they call their rows.
KEY_TABLES = {
    "label-studio": {
        "project": "projects",
        "task": "tasks",
        "task_completion": "annotations",
        "prediction": "predictions",
        "htx_user": "users of Label Studio",
    },
    "nextcloud": {"oc_users": "users of Nextcloud"},
}


def register(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add this module's verbs to the command line."""
    backup = verbs.add_parser("backup", help="save the lab: databases, labels, models, settings")
    which = backup.add_mutually_exclusive_group()
    which.add_argument("--list", action="store_true", help="show the backups there are")
    which.add_argument("--verify", action="store_true", help="read the whole repository back")
    which.add_argument(
        "--unlock", action="store_true", help="remove locks of machines that are gone"
    )
    backup.add_argument("--env-file", type=Path, metavar="FILE", help="default: .env")
    backup.set_defaults(act=back_up)
    restore = verbs.add_parser("restore", help="put a backup back, onto an empty box, too")
    restore.add_argument("snapshot", nargs="?", default="latest", help="default: latest")
    restore.add_argument("--from", dest="source", metavar="REPOSITORY", default="")
    restore.add_argument("--password-file", type=Path, metavar="FILE")
    restore.add_argument("--env-file", type=Path, metavar="FILE", help="default: .env")
    restore.add_argument("--replace", action="store_true", help="replace what is there; asks")
    restore.set_defaults(act=put_back)


def back_up(args: argparse.Namespace, home: Home) -> int:
    if args.list:
        return show_backups(home)
    if args.verify:
        return verify(home)
    if args.unlock:
        return unlock(home)
    from stack.engine import backup
    from stack.engine.lab import open_lab, settings_file
    from stack.engine.settings import require_gateway

    lab = open_lab(home)
    require_gateway(lab.settings, "databases to save")
    env_file = settings_file(home, args.env_file)
    env_text = env_file.read_text(encoding="utf-8") if env_file.is_file() else ""
    progress = console.Progress("backup", "1 minute, the first time as long as copying")
    outcome = backup.back_up(lab, env_text, progress.tell)
    progress.finish(f"{outcome.snapshot.short_id} is complete")
    _show_content(outcome.manifest)
    added = outcome.snapshot.added_bytes / 1e6
    console.say(f"new in the repository: {added:.1f} MB; it holds {outcome.kept} backups")
    return 0


def _show_content(manifest: Manifest) -> None:
    rows = [
        (area, f"{files}", f"{size / 1e6:.1f}") for area, (files, size) in manifest.areas().items()
    ]
    console.table(("SAVED", "FILES", "MB"), sorted(rows))
    console.say(_counts(manifest))
    for task, version in manifest.champions.items():
        console.say(f"champion of {task}: {version}")
    for note in manifest.notes:
        console.warn(note)


def _counts(manifest: Manifest) -> str:
    words = []
    for name, database in manifest.databases.items():
        tables: Mapping[str, str] = KEY_TABLES.get(name, {})
        words += [
            f"{database.rows[table]} {what}"
            for table, what in tables.items()
            if table in database.rows
        ]
    return ", ".join(words) or "the databases are empty"


def show_backups(home: Home) -> int:
    from stack.engine.backup import open_repository
    from stack.engine.lab import open_lab
    from stack.engine.repository import BackupSettings

    lab = open_lab(home)
    restic = open_repository(lab, BackupSettings.from_env(lab.settings.values))
    restic.probe()
    found = restic.backups()
    rows = [
        (
            one.short_id,
            one.time,
            f"{one.files}",
            f"{one.size_bytes / 1e6:.1f}",
            f"{one.added_bytes / 1e6:.1f}",
        )
        for one, _ in found.complete
    ]
    console.table(("BACKUP", "TIME", "FILES", "MB", "NEW MB"), rows)
    if found.rest:
        console.warn(f"{len(found.rest)} unfinished; the next backup removes them")
    return 0


def verify(home: Home) -> int:
    from stack.engine import backup
    from stack.engine.lab import open_lab

    progress = console.Progress("verification", "as long as reading all of it")
    found = backup.verify(open_lab(home), progress.tell)
    size = found.size_bytes / 1e6
    progress.finish("all is well")
    console.say(
        f"{found.backups} backups can be read and are as their manifests say; "
        f"the latest has {found.files} files, {size:.1f} MB"
    )
    return 0


def unlock(home: Home) -> int:
    from stack.engine.backup import only_one, open_repository
    from stack.engine.lab import open_lab
    from stack.engine.repository import BackupSettings

    lab = open_lab(home)
    restic = open_repository(lab, BackupSettings.from_env(lab.settings.values))
    with only_one(home):
        locks = restic.locks()
        restic.unlock()
    console.say(f"{len(locks)} locks were removed")
    return 0


def put_back(args: argparse.Namespace, home: Home) -> int:
    from stack.engine.restore import RestoreWishes, restore

    begun = time.monotonic()
    source = Path(args.source).expanduser() if args.source else None
    wishes = RestoreWishes(
        args.snapshot,
        str(source.absolute()) if source and source.is_dir() else args.source,
        args.password_file,
        args.env_file,
        args.replace,
    )
    progress = console.Progress("restore", "as long as copying")
    report = restore(home, wishes, _ask, progress.tell)
    progress.finish("done")
    manifest = report.manifest
    console.say(f"backup {manifest.snapshot[:8]} of {manifest.created} is back. Verified:")
    console.say(
        f"  {report.files} files, {report.size_bytes / 1e6:.1f} MB, byte for byte against the "
        f"manifest, with {report.folders} folders, owners and modes"
    )
    for name, rows in report.rows.items():
        tables = len(manifest.databases[name].rows)
        console.say(f"  {rows} rows in {tables} tables of {name}")
    console.say(f"  {_counts(manifest)}")
    for task, version in manifest.champions.items():
        console.say(f"  champion of {task}: {version}")
    if report.kept:
        console.say(f"  {report.kept} files on the NAS were there already")
    for note in report.notes:
        console.warn(note)
    console.say(f"next: `labloop up` ({time.monotonic() - begun:.0f} s)")
    return 0


def _ask(question: str) -> str:
    console.say()
    console.say(question)
    return console.ask("")
