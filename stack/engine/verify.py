"""Holds what was put back against the manifest of the backup: files, owners, secrets, champions."""

from dataclasses import replace

from imaging.publish import sha256_of
from stack.credentials import BACKUP_PASSWORD
from stack.engine.lab import Lab
from stack.engine.manifest import Entry, Manifest, area_of, champion_version, compare, is_odd
from stack.engine.repository import BackupError
from stack.engine.restic import Restic

SECRETS_AREA = "secrets"  # the home's own, written by this process


class NotVerifiedError(BackupError):
    """What was put back is not what the manifest says."""

    hint = "`labloop backup --verify` reads the repository; another SNAPSHOT may be whole."


def verify_files(lab: Lab, restic: Restic, manifest: Manifest, notes: list[str]) -> None:
    """Hold every file, folder and link against the manifest; restic's own check came before.

    Raises:
        NotVerifiedError: something is not as it was saved.
    """
    expected = expected_on_disk(manifest)
    paths = list(expected)
    hashes = restic.hashes([path for path in paths if expected[path].kind == "file"], "restore")
    wrong = compare(expected, hashes, restic.rights(paths, "restore"))
    if wrong.rights and lab.settings.nas.kind in ("nfs", "smb"):
        # Such a share decides itself who owns what.
        on_nas = [path for path in wrong.rights if area_of(path) == "nas"]
        wrong = replace(wrong, rights=[path for path in wrong.rights if path not in on_nas])
        if on_nas:
            notes.append(f"the share gave {len(on_nas)} files another owner or mode")
    if wrong:
        raise NotVerifiedError(wrong.words)
    odd = [path for path in manifest.files if is_odd(path)]
    if odd:
        notes.append(f"{len(odd)} files with line breaks in their names: verified by restic alone")
    for name, text in _secrets_as_saved(manifest).items():
        if name != BACKUP_PASSWORD and text != sha256_of(lab.home.secret(name)):
            raise NotVerifiedError(f"secret {name} is not what was saved")


def expected_on_disk(manifest: Manifest) -> dict[str, Entry]:
    """What the volumes and the share must hold now; the secrets lie in the home."""
    return {
        path: entry
        for path, entry in manifest.entries.items()
        if area_of(path) != SECRETS_AREA and not is_odd(path)
    }


def _secrets_as_saved(manifest: Manifest) -> dict[str, str]:
    return {
        path.partition("/")[2]: entry.sha256
        for path, entry in manifest.files.items()
        if area_of(path) == SECRETS_AREA
    }


def verify_champions(restic: Restic, manifest: Manifest) -> None:
    if not manifest.champions:
        return
    for task, version in manifest.champions.items():
        text = restic.shell('cat "/saved/nas/models/$1/champion.json"', task, service="restore")
        if champion_version(text) != version:
            raise NotVerifiedError(f"champion of {task}: {champion_version(text)}, not {version}")
