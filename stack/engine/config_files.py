"""The files that containers mount from the repository, as a copy in the home.

A container must not change because somebody runs `git pull`, and one that is rolled back needs the
files it came with. So each state of them is a folder of its own, named by its content; and what a
strict umask has made of the checkout does not count.
"""

import hashlib
import shutil
from collections.abc import Iterator
from pathlib import Path

from stack.home import Home

# Folder in services/ → what of it is not for containers.
FOLDERS = ("gateway", "db", "nextcloud")
NOT_MOUNTED = ("README.md", "__pycache__")
DIGITS = 12


def config_folder(home: Home, checkout: Path) -> Path:
    """Where the copy lies, or will lie; nothing is written."""
    digest = hashlib.sha256()
    for path in _files(checkout):
        name = path.relative_to(checkout).as_posix()
        digest.update(f"{name} {_mode(path):o}\n".encode())
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return home.run / "config" / digest.hexdigest()[:DIGITS]


def ensure_config(home: Home, checkout: Path) -> Path:
    """Make the copy unless it is there; it appears in one step."""
    final = config_folder(home, checkout)
    if final.is_dir():
        return final
    part = final.with_name(f".{final.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    for path in _files(checkout):
        target = part / path.relative_to(checkout / "services")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
        target.chmod(_mode(path))
    for folder in (part, *(path for path in part.rglob("*") if path.is_dir())):
        folder.chmod(0o755)
    part.rename(final)
    return final


def _files(checkout: Path) -> Iterator[Path]:
    for name in FOLDERS:
        for path in sorted((checkout / "services" / name).rglob("*")):
            if path.is_file() and not set(path.parts) & set(NOT_MOUNTED):
                yield path


def _mode(path: Path) -> int:
    return 0o755 if path.stat().st_mode & 0o100 else 0o644
