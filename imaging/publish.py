"""How files and folders appear on the NAS: whole, or not at all.

A file is written beside its final name, flushed to disk and renamed. A folder is filled under
`.staging/`, gets its manifest last and is renamed. A process that dies leaves either a
`.staging` folder, which is safe to delete, or a complete one.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from imaging.errors import (
    AlreadyPublishedError,
    CorruptFolderError,
    IncompleteFolderError,
    RecordError,
)

MANIFEST = "manifest.json"
STAGING = ".staging"
# What file managers and NAS systems leave wherever they look; dotfiles are litter too.
LITTER = frozenset({"@eadir", "thumbs.db", "ehthumbs.db", "desktop.ini"})


def sha256_of(path: Path) -> str:
    """Hexadecimal SHA-256 of a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file so that readers see the old bytes or the new ones, never a part.

    The data is on disk before the name is: an annotator's label survives a power cut.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """`write_bytes` for UTF-8 text."""
    write_bytes(path, text.encode())


def write_json(path: Path, record: Mapping[str, Any]) -> None:
    """`write_bytes` for a record, indented so that people can read and diff it."""
    write_bytes(path, (json.dumps(record, indent=2, ensure_ascii=False) + "\n").encode())


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a file.

    Raises:
        RecordError: the file is absent, is not JSON, or is not an object.
    """
    try:
        record = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:  # the last: nested too deeply
        raise RecordError(f"{path}: {error}") from error
    if not isinstance(record, dict):
        raise RecordError(f"{path}: found {type(record).__name__}, expected a JSON object")
    return record


def link_or_copy(source: Path, target: Path) -> None:
    """Show a file in a second place: as a hard link where the share has them, else as a copy."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


@contextmanager
def staging_folder(final: Path) -> Iterator[Path]:
    """An empty folder beside `final`, on the same share, removed again if anything fails."""
    folder = final.parent / STAGING / f"{final.name}.{os.getpid()}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def manifest_files(folder: Path) -> dict[str, str]:
    """Relative path → SHA-256 of every file below a folder but the manifest itself and litter."""
    own = sorted(path for path in folder.rglob("*") if not _is_litter(path.relative_to(folder)))
    return {
        path.relative_to(folder).as_posix(): sha256_of(path)
        for path in own
        if path.is_file() and path != folder / MANIFEST
    }


def _is_litter(path: Path) -> bool:
    return any(part.startswith(".") or part.casefold() in LITTER for part in path.parts)


def publish(staging: Path, final: Path) -> None:
    """Show a finished folder to its readers in one step; both lie on the same share.

    Raises:
        IncompleteFolderError: the staging folder has no manifest.
        AlreadyPublishedError: the final folder is there.
    """
    if not (staging / MANIFEST).is_file():
        raise IncompleteFolderError(staging)
    if final.exists():
        raise AlreadyPublishedError(final)
    staging.rename(final)


def verify_folder(folder: Path) -> dict[str, Any]:
    """The manifest of a published folder, after its `files` hashes have been checked.

    Whoever opens a folder on a Mac, or lets a NAS index it, adds litter to it: that is passed over.

    Raises:
        IncompleteFolderError: there is no manifest.
        CorruptFolderError: files are missing, were added or were changed; all are named.
    """
    if not (folder / MANIFEST).is_file():
        raise IncompleteFolderError(folder)
    manifest = read_json(folder / MANIFEST)
    expected, found = manifest.get("files", {}), manifest_files(folder)
    wrong = sorted(name for name in expected | found if expected.get(name) != found.get(name))
    if wrong:
        raise CorruptFolderError(f"{folder}: changed, missing or added: {', '.join(wrong)}")
    return manifest
