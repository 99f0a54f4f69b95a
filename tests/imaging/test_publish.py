import os
from pathlib import Path

import pytest

from imaging.errors import (
    AlreadyPublishedError,
    CorruptFolderError,
    IncompleteFolderError,
    RecordError,
)
from imaging.publish import (
    MANIFEST,
    manifest_files,
    publish,
    read_json,
    staging_folder,
    verify_folder,
    write_bytes,
    write_json,
)


def make_published(final: Path) -> Path:
    with staging_folder(final) as staging:
        write_bytes(staging / "sub" / "a.bin", b"abc")
        write_json(staging / MANIFEST, {"files": manifest_files(staging)})
        publish(staging, final)
    return final


def test_a_published_folder_verifies_and_leaves_no_staging(tmp_path: Path) -> None:
    final = make_published(tmp_path / "case-1")
    assert verify_folder(final)["files"].keys() == {"sub/a.bin"}
    assert list((tmp_path / ".staging").iterdir()) == []


@pytest.mark.parametrize("damage", ["change", "remove", "add"])
def test_a_damaged_folder_is_named_with_the_file(tmp_path: Path, damage: str) -> None:
    final = make_published(tmp_path / "case-1")
    if damage == "change":
        (final / "sub" / "a.bin").write_bytes(b"abd")
    elif damage == "remove":
        (final / "sub" / "a.bin").unlink()
    else:
        (final / "extra.bin").write_bytes(b"x")
    with pytest.raises(
        CorruptFolderError, match=r"extra\.bin" if damage == "add" else r"sub/a\.bin"
    ):
        verify_folder(final)


LITTER = [
    ".DS_Store", "sub/._a.bin", "sub/@eaDir/a.bin/thumb.jpg", "Thumbs.db", "sub/desktop.ini",
    ".nfs000000001", ".Trash-1000/files/a.bin",
]  # fmt: skip


@pytest.mark.parametrize("name", LITTER)
def test_litter_of_file_managers_and_nas_systems_does_no_harm(tmp_path: Path, name: str) -> None:
    final = make_published(tmp_path / "case-1")
    (final / name).parent.mkdir(parents=True, exist_ok=True)
    (final / name).touch()
    assert verify_folder(final)["files"].keys() == {"sub/a.bin"}


def test_litter_that_appears_while_a_folder_is_made_is_not_part_of_it(tmp_path: Path) -> None:
    (tmp_path / "@eaDir").mkdir()
    (tmp_path / "@eaDir" / "a.bin").touch()
    (tmp_path / "a.bin").touch()
    assert manifest_files(tmp_path).keys() == {"a.bin"}


def test_a_folder_without_manifest_is_not_shown(tmp_path: Path) -> None:
    with staging_folder(tmp_path / "x") as staging, pytest.raises(IncompleteFolderError):
        publish(staging, tmp_path / "x")
    assert not (tmp_path / "x").exists()
    with pytest.raises(IncompleteFolderError):
        verify_folder(tmp_path)


def test_a_published_folder_is_never_replaced(tmp_path: Path) -> None:
    final = make_published(tmp_path / "x")
    with pytest.raises(AlreadyPublishedError):
        make_published(tmp_path / "x")
    assert verify_folder(final)


def test_a_failed_writer_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), staging_folder(tmp_path / "x") as staging:
        write_bytes(staging / "a", b"1")
        raise ZeroDivisionError
    assert list((tmp_path / ".staging").iterdir()) == []


def test_a_full_disk_leaves_the_old_file_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"value": 1})

    def full(_: int) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr("imaging.publish.os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_json(path, {"value": 2})
    assert read_json(path) == {"value": 1}
    assert [one.name for one in tmp_path.iterdir()] == ["a.json"]


@pytest.mark.parametrize("text", ["", "{", "[1]", "null"])
def test_a_file_that_is_no_record_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(RecordError, match=r"a\.json"):
        read_json(tmp_path / "a.json")
