"""`labloop restore`, told whole: look, refuse or make room, put back, verify. Then: `labloop up`.

Up to `_refuse` nothing of the lab's is touched; what was made until then is taken back.
"""

import json
import shutil
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from imaging.publish import write_text
from stack.credentials import BACKUP_PASSWORD
from stack.engine import dumps, nas, up
from stack.engine.backup import (
    SETTINGS,
    Tell,
    only_one,
    open_repository,
    progress_words,
    refuse_running,
    tools_image,
)
from stack.engine.bare_restic import BareRestic
from stack.engine.docker_call import Docker
from stack.engine.engine import Engine
from stack.engine.images import image_settings
from stack.engine.lab import Lab, save_lab, settings_file
from stack.engine.manifest import (
    Manifest,
    area_of,
    compare_rows,
    shortened,
)
from stack.engine.repository import BackupError, BackupSettings, Snapshot, WrongPasswordError
from stack.engine.restic import Restic
from stack.engine.settings import LabSettings
from stack.engine.start import plan_stack
from stack.engine.verify import SECRETS_AREA, NotVerifiedError, verify_champions, verify_files
from stack.errors import RefusedError
from stack.home import Home

SHOWN = 12
RELEASE = """
cmp -s /usr/src/nextcloud/version.php /var/www/html/version.php || exit 0
cp -rn /usr/src/nextcloud/. /var/www/html/
"""


class NotEmptyError(RefusedError):
    """There is something where the backup would go."""

    hint = "Restore into an empty --home and STACK_NAME, or say --replace."


@dataclass(frozen=True, slots=True)
class RestoreWishes:
    """What the person who calls may choose."""

    snapshot: str = "latest"
    source: str = ""  # the repository, when the settings do not name it
    password_file: Path | None = None
    env_file: Path | None = None
    with_replace: bool = False


@dataclass(frozen=True, slots=True)
class Found:
    """What is to be restored."""

    files: Snapshot
    manifest: Manifest
    secrets: Mapping[str, str]
    env_text: str


@dataclass(frozen=True, slots=True)
class Report:
    """What was put back and held against the manifest."""

    manifest: Manifest
    files: int
    size_bytes: int
    folders: int
    rows: Mapping[str, int]  # database → rows in all its tables
    kept: int  # files on the NAS that were there already, byte for byte
    notes: list[str]


def restore(home: Home, wishes: RestoreWishes, ask: Callable[[str], str], tell: Tell) -> Report:
    """Put a backup back and verify it.

    Args:
        home: empty, or not there.
        wishes: which backup, from where.
        ask: shows a person a question; used with `with_replace` only.
        tell: what is happening right now.

    Raises:
        RefusedError: the target holds data; nothing was changed.
        StackError: it failed; what was put back so far is there.
    """
    with only_one(home):
        settings = _settings(home, wishes, wishes.env_file)
        tell("looks into the repository")
        found = _look(home, settings, wishes)
        notes, env_file = [], settings_file(home, wishes.env_file)
        is_new = not env_file.is_file()
        if is_new:
            _write_env(env_file, found.env_text)
            notes.append(f"the lab's settings were put back as {env_file}; look through them")
            settings = _settings(home, wishes, env_file)
        try:
            plan = plan_stack(home, settings, with_gpu=False)
            plan = replace(plan, lab=replace(plan.lab, settings_file=env_file))
            return _restore(plan, found, wishes, ask, tell, notes)
        except RefusedError:
            if is_new:
                env_file.unlink()
            raise


def _settings(home: Home, wishes: RestoreWishes, env_file: Path | None) -> LabSettings:
    settings = up.read_lab_settings(home, up.UpWishes(env_file=env_file))
    values = dict(image_settings(settings.values))
    if wishes.source:
        values["BACKUP_REPOSITORY"] = wishes.source
    return replace(settings, values=values)


def _look(home: Home, settings: LabSettings, wishes: RestoreWishes) -> Found:
    """Read the manifest and the small things out of the repository."""
    password = wishes.password_file or home.secret(BACKUP_PASSWORD)
    if not password.is_file():
        raise WrongPasswordError(f"{password} is not there, expected the backups' password")
    image = tools_image(plan_stack(home, settings, with_gpu=False).lab)
    place = BackupSettings.from_env(settings.values)
    bare = BareRestic(Docker.here(), image, place, password, nas.nas_folder(home, settings))
    restic = Restic(bare, place.place, host="")
    restic.probe()
    # On an empty box nobody may have said yet what the lab is called.
    files, record = (
        restic.backups().of(settings.values.get("STACK_NAME", "")).choose(wishes.snapshot)
    )
    manifest = restic.manifest(record)
    names = [path.partition("/")[2] for path in manifest.files if area_of(path) == SECRETS_AREA]
    secrets = {name: restic.stored_text(files.id, f"{SECRETS_AREA}/{name}") for name in names}
    if wishes.password_file:  # it may have been changed since; this one opens it today
        secrets[BACKUP_PASSWORD] = wishes.password_file.read_text(encoding="utf-8")
    env_text = restic.stored_text(files.id, f"dumps/{SETTINGS}")
    return Found(files, manifest, secrets, env_text)


def _write_env(path: Path, text: str) -> None:
    write_text(path, text)
    path.chmod(0o600)


# --- room ----------------------------------------------------------------------------------------


def holdings(engine: Engine, lab: Lab, image: str, volumes: list[str]) -> list[str]:
    """What is there of a stack: containers, volumes with content, secrets."""
    found = [f"container {one.name}" for one in engine.containers(lab.compose.project)]
    for name in volumes:
        volume = lab.volume(name)
        if name == "nas" or engine.volume_options(volume) is None:
            continue
        if engine.run_as_root(image, "ls -A /v", {volume: "/v"}).strip():
            found.append(f"volume {volume}")
    folder = lab.home.secrets
    names = [path.name for path in folder.iterdir() if path.is_file()] if folder.is_dir() else []
    # The password of the backups may have been put there to open them.
    if set(names) - {BACKUP_PASSWORD}:
        found.append(f"{len(names)} secrets in {folder}")
    return found


def _refuse(found: list[str], lab: Lab, wishes: RestoreWishes, ask: Callable[[str], str]) -> None:
    if not found:
        return
    if not wishes.with_replace:
        raise NotEmptyError(
            f"the target holds data: {shortened(found, SHOWN)}; nothing was changed"
        )
    name = lab.settings.stack_name
    answer = ask(f"This replaces {shortened(found, SHOWN)}.\nType {name} to go on: ")
    if answer != name:
        raise NotEmptyError(f"the answer was {answer!r}, expected {name!r}; nothing was changed")


def _make_room(engine: Engine, lab: Lab, volumes: list[str]) -> None:
    """Remove the old stack's containers and volumes; its secrets are put aside."""
    lab.compose.run("down", "--remove-orphans")
    for name in volumes:
        if name != "nas" and engine.volume_options(lab.volume(name)) is not None:
            engine.remove_volume(lab.volume(name))
    if lab.home.secrets.is_dir():
        stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime())
        lab.home.secrets.rename(lab.home.secrets.with_name(f"secrets.{stamp}"))


# --- putting back --------------------------------------------------------------------------------


def _restore(
    plan: up.Plan,
    found: Found,
    wishes: RestoreWishes,
    ask: Callable[[str], str],
    tell: Tell,
    notes: list[str],
) -> Report:
    lab = plan.lab
    restic = open_repository(lab, BackupSettings.from_env(lab.settings.values))
    with Engine.connected() as engine, ExitStack() as undo:
        image = tools_image(lab)
        volumes = _volumes(lab)
        refuse_running(engine, lab)
        held = holdings(engine, lab, image, volumes)
        _refuse(held, lab, wishes, ask)
        if held:
            _make_room(engine, lab, volumes)
        _make_targets(engine, plan, found, image, volumes, undo)
        tell("compares the share")
        kept, differing = _compare_nas(restic, found.manifest)
        _refuse([f"other content in {path}" for path in differing], lab, wishes, ask)
        undo.pop_all()
        up.prepare(engine, plan, image)
    _put_back(restic, found, tell)
    _load(lab, found.manifest, tell)
    tell("verifies every file")
    manifest = found.manifest
    verify_files(lab, restic, manifest, notes)
    verify_champions(restic, manifest)
    lab.compose.run("rm", "--stop", "--force", "db")
    if "nextcloud/version.php" in manifest.files:
        complete_nextcloud(lab)
    save_lab(lab, plan.variables)
    files = manifest.files
    return Report(
        manifest=manifest,
        files=len(files),
        size_bytes=sum(entry.size for entry in files.values()),
        folders=sum(entry.kind == "dir" for entry in manifest.entries.values()),
        rows={name: sum(one.rows.values()) for name, one in manifest.databases.items()},
        kept=kept,
        notes=notes,
    )


def _volumes(lab: Lab) -> list[str]:
    """Every volume that may hold something of the stack."""
    compose = replace(lab.compose, profile="*")
    document = json.loads(compose.run("config", "--format", "json"))
    return sorted(document["volumes"])


def _make_targets(
    engine: Engine, plan: up.Plan, found: Found, image: str, volumes: list[str], undo: ExitStack
) -> None:
    """Secrets, the share's folder and empty volumes."""
    lab, home = plan.lab, plan.lab.home
    folder = nas.nas_folder(home, lab.settings)
    if folder is not None and not folder.exists():
        folder.mkdir(parents=True)
        undo.callback(folder.rmdir)
    if lab.settings.nas.kind == "smb":
        nas.make_ready(home, lab.settings)
    if folder is not None:
        is_new = not home.nas_folder.is_symlink()
        nas.link_home(home, folder)
        if is_new and home.nas_folder.is_symlink():
            undo.callback(home.nas_folder.unlink)
    _write_secrets(home, found.secrets, undo)
    for name in volumes:
        volume = lab.volume(name)
        if engine.volume_options(volume) is None:
            options = nas.volume_options(home, lab.settings) if name == "nas" else {}
            engine.make_volume(volume, lab.settings.stack_name, options)
            undo.callback(engine.remove_volume, volume)


def _write_secrets(home: Home, values: Mapping[str, str], undo: ExitStack) -> None:
    is_new = not home.secrets.exists()
    home.secrets.mkdir(parents=True, exist_ok=True, mode=0o700)
    if is_new:
        undo.callback(shutil.rmtree, home.secrets)
    for name, value in values.items():
        path = home.secret(name)
        if not path.exists():
            undo.callback(path.unlink, missing_ok=True)
        path.touch(mode=0o600)
        path.write_text(value, encoding="utf-8")


def _compare_nas(restic: Restic, manifest: Manifest) -> tuple[int, list[str]]:
    """How many files of the share are there as they should be, and which are others."""
    expected = {path: one for path, one in manifest.files.items() if area_of(path) == "nas"}
    there = restic.hashes(list(expected), "restore")
    differing = sorted(path for path, digest in there.items() if digest != expected[path].sha256)
    return len(there) - len(differing), differing


def _put_back(restic: Restic, found: Found, tell: Tell) -> None:
    errors: list[str] = []

    def read(record: Mapping[str, Any]) -> None:
        if record.get("message_type") == "status":
            tell(progress_words(record))
        elif record.get("message_type") == "error":
            message = str((record.get("error") or {}).get("message", ""))
            errors.append(f"{record.get('item', '')}: {message}")

    words = ["restore", found.files.id, "--target", "/", "--json", "--verify"]
    words += ["--exclude", f"/saved/{SECRETS_AREA}", "--exclude-xattr", "security.*"]
    try:
        restic.stream(*words, on_record=read, service="restore")
    except BackupError as error:
        if errors:
            raise NotVerifiedError(f"restic could not put back {shortened(errors)}") from error
        raise


def _load(lab: Lab, manifest: Manifest, tell: Tell) -> None:
    """Start the database alone, which makes roles and empty databases, and fill these."""
    tell("starts the database")
    lab.compose.run("up", "--detach", "--no-deps", "--wait", "--pull", "never", "db")
    for name, expected in manifest.databases.items():
        dumps.check_server(expected, dumps.count(lab.compose, name))
        dumps.load(lab.compose, name, tell)
        wrong = compare_rows(expected.rows, dumps.count(lab.compose, name).rows)
        if wrong:
            raise NotVerifiedError(f"database {name}: {shortened(wrong)}")


def complete_nextcloud(lab: Lab) -> None:
    """Put Nextcloud's release beside its data, where it is of the same version.

    Its image copies the release itself when it is newer than the data, and would take the same
    version for complete.
    """
    if lab.settings.profile == "lab":
        lab.compose.one_shot("nextcloud", "-c", RELEASE, entrypoint="sh")
