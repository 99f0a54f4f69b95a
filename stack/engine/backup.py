"""`labloop backup`, told whole: dumps, a snapshot of the files, the manifest that makes it count.

All services keep running. A backup is two snapshots: that of the files, and that of its manifest,
which comes last. A snapshot without a manifest is what a failed backup left; the next removes it.
"""

import fcntl
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from imaging.errors import NasGoneError
from imaging.ids import utc_now
from stack.engine import dumps
from stack.engine.engine import Engine
from stack.engine.hashes import with_hashes
from stack.engine.lab import OVERRIDES, Lab, record_file, revision
from stack.engine.manifest import ROOT, Manifest, champion_version, shortened
from stack.engine.repository import (
    BackupError,
    BackupSettings,
    DamagedError,
    IncompleteError,
    RepositoryLockedError,
    Snapshot,
    backup_words,
)
from stack.engine.restic import INCOMPLETE, PATIENCE, Restic
from stack.environments import Checkout
from stack.errors import RefusedError, StackError, UsageError
from stack.home import Home
from stack.install_tool import pinned

POSTGRES_USER = "999:999"
SERVICES = ("backup", "restore")
SETTINGS = "env"  # the lab's .env, among the dumps
RECORD = "engine.json"
Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Outcome:
    """A backup that counts."""

    manifest: Manifest
    snapshot: Snapshot
    kept: int  # complete backups in the repository, this one included


@contextmanager
def only_one(home: Home) -> Iterator[None]:
    """Hold the lock of a home's backups and restores; the kernel lets go however we end.

    Raises:
        RefusedError: another process holds it.
    """
    home.run.mkdir(parents=True, exist_ok=True)
    with (home.run / "backup.lock").open("ab") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise RefusedError(
                f"another backup or restore of {home.root} is running",
                hint="Wait until it is done; a later one takes little time.",
            ) from error
        yield


def open_repository(lab: Lab, settings: BackupSettings) -> Restic:
    """The lab's repository, seen through the containers `backup` and `restore`."""
    files = lab.compose.files
    if settings.override:
        files = (*files, OVERRIDES / f"{settings.override}.yaml")
    compose = replace(lab.compose, profile="tools", files=files)
    return Restic(compose, settings.place, host=lab.settings.stack_name)


def back_up(lab: Lab, env_text: str, tell: Tell) -> Outcome:
    """Save everything.

    Args:
        lab: the stack; its database must be running.
        env_text: the lab's settings, as the person wrote them.
        tell: what is happening right now.

    Raises:
        StackError: it failed; earlier backups are as good as they were.
    """
    settings = BackupSettings.from_env(lab.settings.values)
    restic = open_repository(lab, settings)
    with only_one(lab.home):
        make_ready(lab, restic, tell)
        tell("looks for the last backup")
        earlier = restic.backups()
        restic.forget([one.id for one in earlier.rest])  # what failed backups left
        before = restic.manifest(earlier.complete[-1][1]) if earlier.complete else None
        databases = {}
        for name in dumps.DATABASES:
            tell(f"database {name}")
            databases[name] = dumps.dump(lab.compose, name)
        _save_settings(lab, env_text)
        words = backup_words(with_rawdata=settings.with_rawdata)
        snapshot, notes = _save_files(restic, words, tell)
        tell("hashes what is new")
        entries = with_hashes(restic, snapshot, before, words)
        manifest = Manifest(
            stack=lab.settings.stack_name,
            created=utc_now(),
            snapshot=snapshot,
            image_tag=lab.image_tag,
            label_studio=pinned("label-studio", Checkout()),
            revision=revision(),
            databases=databases,
            champions=_champions(restic, snapshot, entries),
            entries=entries,
            notes=notes,
        )
        tell("writes the manifest")
        restic.store_manifest(manifest)
        tell("forgets what no rule keeps")
        kept = restic.retain()
        files, _ = kept.choose(snapshot)
        return Outcome(manifest, files, len(kept.complete))


def make_ready(lab: Lab, restic: Restic, tell: Tell) -> None:
    """See that nobody else is at it, that the share is there, and that the repository opens."""
    with Engine.connected() as engine:
        refuse_running(engine, lab)
        ensure_volumes(engine, lab, tools_image(lab))
    tell("looks at the share and the repository")
    marker = "[ -f /saved/nas/.labloop ] && echo found || true"
    if "found" not in restic.shell(marker, service="backup"):
        raise NasGoneError(lab.home.nas_folder)
    if restic.ensure_repository():
        tell(f"made the repository {restic.place}")
    clear_locks(restic, tell)


def tools_image(lab: Lab) -> str:
    """The image that restic is in."""
    compose = replace(lab.compose, profile="tools")
    document = json.loads(compose.run("config", "--format", "json"))
    return str(document["services"]["backup"]["image"])


def refuse_running(engine: Engine, lab: Lab) -> None:
    """A backup whose command line was killed goes on in its container.

    Raises:
        RefusedError: there is such a container.
    """
    found = engine.one_offs(lab.compose.project)
    running = [one.name for one in found if one.service in SERVICES and one.status == "running"]
    if running:
        raise RefusedError(
            f"the container {', '.join(running)} of an earlier backup or restore is still at work",
            hint=f"Wait for it, or end it: docker stop {' '.join(running)}",
        )


def ensure_volumes(engine: Engine, lab: Lab, image: str) -> None:
    """All that the tools mount, also what this profile has no use for."""
    compose = replace(lab.compose, profile="tools")
    document = json.loads(compose.run("config", "--format", "json"))
    for volume in document["services"]["backup"]["volumes"]:
        name = str(volume["source"])
        if volume["type"] == "volume" and engine.volume_options(lab.volume(name)) is None:
            if name == "nas":
                raise StackError(
                    f"there is no volume {lab.volume(name)}", hint="`labloop up` makes it."
                )
            engine.make_volume(lab.volume(name), lab.settings.stack_name, {})
    give = f"chown {POSTGRES_USER} /dumps && chmod 0700 /dumps"
    engine.run_as_root(image, give, {lab.volume("dumps"): "/dumps"})


def clear_locks(restic: Restic, tell: Tell) -> None:
    """Take away locks that dead processes of this very lab left; nobody else of it is at work.

    Raises:
        RepositoryLockedError: another machine works on the repository.
    """
    locks = restic.locks()
    others = [lock for lock in locks if lock.get("hostname") != restic.host]
    if others:
        hosts = ", ".join(sorted({str(lock.get("hostname")) for lock in others}))
        since = min(str(lock.get("time")) for lock in others)[:19]
        raise RepositoryLockedError(f"{restic.place} is locked by {hosts} since {since}Z")
    if locks:
        tell("removes the lock of a backup that was killed")
        restic.unlock()


def _save_settings(lab: Lab, env_text: str) -> None:
    record = record_file(lab.home).read_text(encoding="utf-8")
    for name, text in ((SETTINGS, env_text), (RECORD, record)):
        script = f"umask 077; cat >{dumps.FOLDER}/{name}"
        lab.compose.execute("db", "sh", "-c", script, input_text=text)


def _save_files(restic: Restic, words: list[str], tell: Tell) -> tuple[str, list[str]]:
    """The new snapshot, and what a person should know about it.

    Raises:
        IncompleteError: something could not be read. Files that vanished meanwhile are no loss.
    """
    errors: list[tuple[str, str]] = []
    made: list[str] = []

    def read(record: Mapping[str, Any]) -> None:
        kind = record.get("message_type")
        if kind == "status":
            tell(progress_words(record))
        elif kind == "error":
            message = str((record.get("error") or {}).get("message", ""))
            errors.append((str(record.get("item", "")), message))
        elif kind == "summary":
            made.append(str(record["snapshot_id"]))

    result = restic.stream(*words, *PATIENCE, on_record=read)
    if not made:
        raise BackupError(f"{restic.place}: restic made no snapshot")
    lost = [f"{item}: {message}" for item, message in errors if "no such file" not in message]
    if lost or (result == INCOMPLETE and not errors):
        restic.forget(made)
        reasons = shortened(lost) or "restic names no file"
        raise IncompleteError(f"not everything could be read: {reasons}")
    vanished = [item.removeprefix(ROOT) for item, _ in errors]
    return made[0], [f"vanished meanwhile: {name}" for name in vanished]


def progress_words(record: Mapping[str, Any]) -> str:
    """restic's status, for people."""
    share = f"{100 * float(record.get('percent_done', 0)):.0f} %"
    size = int(record.get("bytes_done", record.get("bytes_restored", 0)))
    return f"files {share}, {size / 1e9:.2f} GB"


def _champions(restic: Restic, snapshot: str, entries: Mapping[str, Any]) -> dict[str, str]:
    found = {}
    for path in entries:
        parts = path.split("/")
        if len(parts) == 4 and parts[:2] == ["nas", "models"] and parts[3] == "champion.json":
            found[parts[2]] = champion_version(restic.stored_text(snapshot, path))
    return found


# --- looking at backups ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Verified:
    """What `labloop backup --verify` found to be well."""

    backups: int
    files: int
    size_bytes: int


def verify(lab: Lab, tell: Tell) -> Verified:
    """Read the whole repository, and hold every backup's manifest against its snapshot.

    Raises:
        DamagedError: something is not what was stored; all that is wrong is named.
    """
    restic = open_repository(lab, BackupSettings.from_env(lab.settings.values))
    with only_one(lab.home):
        with Engine.connected() as engine:
            refuse_running(engine, lab)
            ensure_volumes(engine, lab, tools_image(lab))
        restic.probe()
        clear_locks(restic, tell)
        tell("reads the whole repository")
        restic.check()
        found = restic.backups()
        files, size = 0, 0
        for snapshot, record in found.complete:
            tell(f"compares {snapshot.short_id}")
            manifest = restic.manifest(record)
            wrong = compare_listing(manifest, restic.listing(snapshot.id))
            if wrong:
                raise DamagedError(f"backup {snapshot.short_id} of {snapshot.time}: {wrong}")
            files, size = len(manifest.files), snapshot.size_bytes
    if not found.complete:
        raise UsageError(f"{restic.place} holds no complete backup", hint="`labloop backup`")
    return Verified(len(found.complete), files, size)


def compare_listing(manifest: Manifest, found: Mapping[str, Any]) -> str:
    """What a snapshot holds other than its manifest says; empty when nothing."""
    wrong = [
        path
        for path in sorted(manifest.entries.keys() | found.keys())
        if path not in found
        or path not in manifest.entries
        or replace(manifest.entries[path], sha256="") != found[path]
    ]
    return f"other than in its manifest: {shortened(wrong)}" if wrong else ""
