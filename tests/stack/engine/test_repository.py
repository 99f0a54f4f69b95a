"""What goes into a backup, where it goes, and what restic's failures mean."""

from pathlib import Path

import pytest

from stack.engine.repository import (
    BackupError,
    Backups,
    BackupSettings,
    DamagedError,
    NoRepositoryError,
    RepositoryFullError,
    RepositoryGoneError,
    RepositoryLockedError,
    Snapshot,
    WrongPasswordError,
    backup_words,
    explain,
    manifest_tags,
    pair_up,
)
from stack.errors import UsageError
from stack.runtime.settings import SettingsError


def snapshot(name: str, *tags: str, host: str = "lab") -> Snapshot:
    return Snapshot(name, f"2026-03-1{name[0]}T09:15:00Z", host, tags, 1, 1, 1)


@pytest.mark.parametrize(
    ("given", "kind", "override"),
    [
        ({}, "nas", None),
        ({"BACKUP_REPOSITORY": "/mnt/disk"}, "folder", "backup-folder"),
        ({"BACKUP_REPOSITORY": "rest:https://box:8000/lab"}, "remote", "backup-remote"),
        ({"BACKUP_REPOSITORY": "s3:https://s3.lan/bucket"}, "remote", "backup-remote"),
    ],
)
def test_a_repository_is_on_the_share_in_a_folder_or_elsewhere(
    given: dict[str, str], kind: str, override: str | None
) -> None:
    settings = BackupSettings.from_env(given)
    assert (settings.kind, settings.override) == (kind, override)
    assert not settings.with_rawdata


@pytest.mark.parametrize(
    ("place", "reason"),
    [
        ("rest:https://me:secret@box/", "expected them in the file"),
        ("sftp:me@box:/lab", "is on sftp"),
        ("backups", "expected a path from / on"),
    ],
)
def test_a_repository_that_cannot_be_used_is_refused(place: str, reason: str) -> None:
    with pytest.raises(SettingsError, match=reason) as caught:
        BackupSettings.from_env({"BACKUP_REPOSITORY": place})
    assert "secret" not in str(caught.value)


def test_raw_data_is_saved_when_it_is_asked_for() -> None:
    rawdata = "--exclude=/saved/nas/dataset/*/rawdata/*"
    assert rawdata in backup_words(with_rawdata=False)
    assert rawdata not in backup_words(with_rawdata=True)


def test_what_is_left_out_comes_after_what_is_taken_back() -> None:
    words = backup_words(with_rawdata=False)
    taken_back = [words.index(word) for word in words if word.startswith("--exclude=!")]
    assert max(taken_back) < words.index("--exclude=/saved/nas/**/.staging/*")
    assert words[-1] == "/saved"


def test_credentials_of_a_server_are_a_file(tmp_path: Path) -> None:
    given = {"BACKUP_ENVIRONMENT": str(tmp_path / "none")}
    with pytest.raises(SettingsError, match="expected a file"):
        BackupSettings.from_env(given)


def test_a_backup_counts_once_its_manifest_is_there() -> None:
    tags = manifest_tags("1a").split(",")
    found = pair_up(
        [
            snapshot("1a", "labloop"),
            snapshot("1b", *tags),
            snapshot("2a", "labloop"),
            snapshot("3b", *manifest_tags("gone").split(",")),
            snapshot("4", "somebody-else"),
        ]
    )
    assert [(one.id, two.id) for one, two in found.complete] == [("1a", "1b")]
    assert {one.id for one in found.rest} == {"2a", "3b"}


def test_a_backup_is_chosen_by_name_or_as_the_latest() -> None:
    pairs = [(snapshot(name, "labloop"), snapshot(name)) for name in ("1a", "1b", "2a")]
    found = Backups(pairs, [])
    assert found.choose("latest")[0].id == "2a"
    assert found.choose("1b")[0].id == "1b"
    for wanted, count in (("1", 2), ("9", 0)):
        with pytest.raises(UsageError, match=f"^{count} backups are called"):
            found.choose(wanted)
    with pytest.raises(UsageError, match="no complete backup"):
        Backups([], []).choose("latest")


def test_of_several_labs_one_must_be_named() -> None:
    pairs = [(snapshot(f"{n}a", host=host), snapshot(f"{n}b")) for n, host in ((1, "x"), (2, "y"))]
    found = Backups(pairs, [])
    assert [one.id for one, _ in found.of("x").complete] == ["1a"]
    with pytest.raises(UsageError, match="expected one whose backups are there: x, y"):
        found.of("z")
    assert Backups(pairs[:1], []).of("rehearsal").complete == pairs[:1]


@pytest.mark.parametrize(
    ("code", "said", "kind", "shell"),
    [
        (10, "", NoRepositoryError, 2),
        (12, "", WrongPasswordError, 2),
        (11, "repository is already locked exclusively", RepositoryLockedError, 3),
        (1, "write /nas/x: no space left on device", RepositoryFullError, 1),
        (1, "dial tcp: connection refused", RepositoryGoneError, 1),
        (1, "Fatal: repository contains errors", DamagedError, 1),
        (1, "something else", BackupError, 1),
    ],
)
def test_failures_are_explained(code: int, said: str, kind: type, shell: int) -> None:
    error = explain(code, said, "/nas/backups")
    assert type(error) is kind and error.exit_code == shell and error.hint
