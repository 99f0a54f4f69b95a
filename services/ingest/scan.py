"""Looks at rawdata: which files are new or look different from what the ledger remembers.

Two tempos. The frequent look asks each known folder for its modification time and lists only
those that changed: a hundred thousand files cost a few milliseconds. The full look asks every
file, and so also sees files that were rewritten in place. Nothing is concluded from a file's
absence, except by the caller of a full look, who is told how many known files were there.
"""

import os
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from services.ingest.ledger import Stamp
from services.ingest.names import is_paper, is_passed_over, name_trouble

# Servers with time stamps of one second hide a second change within the same second, so a
# changed folder is listed again until it has been still for this long.
HOT_S = 3.0
MAX_DEPTH = 32
Trouble = Literal["symlink", "not-a-file", "too-deep", "bad-name"]


@dataclass(frozen=True, slots=True)
class Found:
    """A file in rawdata that has not been dealt with as it looks now."""

    path: str  # below rawdata; may hold surrogates when the name is no UTF-8
    stamp: Stamp
    trouble: Trouble | None = None  # what is wrong with it before it is even opened
    note: str = ""  # … in words


@dataclass(slots=True)
class Look:
    """What one look saw."""

    found: list[Found] = field(default_factory=list)
    known_seen: int = 0  # full look: files that the ledger knows and that are there
    known_missed: int = 0  # frequent look: files that the ledger knows and that are not
    unreadable: int = 0  # folders that could not be listed, or whose files cannot be looked at


@dataclass(slots=True)
class _Folder:
    mtime_ns: int
    hot_until: float
    unreadable: bool = False


class RawdataScan:
    """Remembers the folders of one rawdata between looks."""

    def __init__(self, root: Path, known: Callable[[str], Mapping[str, Stamp]]) -> None:
        """Args: the rawdata folder; the ledger's files of one folder in it."""
        self.root, self.known = root, known
        self._folders: dict[str, _Folder] = {}

    def look(self, now_s: float, *, full: bool) -> Look:
        """Files that are new, or (with `full`) look different; folders are followed, links not.

        Args:
            now_s: a monotonic clock.
            full: list every folder and compare every file with the ledger.
        """
        look = Look()
        if full or not self._folders:
            self._folders.clear()
            self._enter("", look, now_s, full=True)
            return look
        for path, folder in list(self._folders.items()):
            try:
                mtime_ns = self._mtime_ns(path)
            except OSError:  # gone, or a link now
                del self._folders[path]
                look.known_missed += len(self.known(path)) if name_trouble(path) is None else 0
                continue
            if mtime_ns != folder.mtime_ns:
                folder.mtime_ns, folder.hot_until = mtime_ns, now_s + HOT_S
            elif now_s > folder.hot_until and not folder.unreadable:
                continue
            self._list(path, look, now_s, full=False)
        return look

    def _mtime_ns(self, path: str) -> int:
        if not path:
            return self.root.stat().st_mtime_ns  # the admin may have linked rawdata itself
        status = (self.root / path).lstat()
        if not stat.S_ISDIR(status.st_mode):
            raise NotADirectoryError(path)
        return status.st_mtime_ns

    def _enter(self, path: str, look: Look, now_s: float, *, full: bool) -> None:
        try:
            mtime_ns = self._mtime_ns(path)
        except (FileNotFoundError, NotADirectoryError):
            return
        self._folders[path] = _Folder(mtime_ns, now_s + HOT_S)
        self._list(path, look, now_s, full=full)

    def _list(self, path: str, look: Look, now_s: float, *, full: bool) -> None:
        folder = self._folders[path]
        folder.unreadable = False
        try:
            with os.scandir(self.root / path) as entries:
                listed = list(entries)
        except OSError:
            folder.unreadable = True
            look.unreadable += 1
            return
        known = self.known(path) if name_trouble(path) is None else {}
        look.known_missed += len(known.keys() - {entry.name for entry in listed})
        for entry in listed:
            if is_passed_over(entry.name) or (entry.name in known and not full):
                continue
            below = f"{path}/{entry.name}" if path else entry.name
            try:
                self._meet(entry, below, known.get(entry.name), look, now_s)
            except FileNotFoundError:
                continue  # renamed or removed between the listing and now
            except PermissionError:  # a folder that may be listed, but not entered
                folder.unreadable = True
        look.unreadable += folder.unreadable

    def _meet(
        self, entry: "os.DirEntry[str]", path: str, known: Stamp | None, look: Look, now_s: float
    ) -> None:
        is_folder = entry.is_dir(follow_symlinks=False)
        too_deep = is_folder and path.count("/") >= MAX_DEPTH
        if is_folder and not too_deep:
            if path not in self._folders:
                self._enter(path, look, now_s, full=True)
            return
        status = entry.stat(follow_symlinks=False)
        stamp = Stamp(status.st_size, status.st_mtime_ns)
        if known is not None:
            look.known_seen += 1
        if not (known is not None and stamp.matches(known)) and not is_paper(path):
            trouble, note = _trouble(path, status.st_mode, too_deep)
            look.found.append(Found(path, stamp, trouble, note))


def _trouble(path: str, mode: int, too_deep: bool) -> tuple[Trouble | None, str]:
    if too_deep:
        return "too-deep", f"a folder more than {MAX_DEPTH} levels deep"
    if stat.S_ISLNK(mode):
        return "symlink", "a symbolic link"
    if not stat.S_ISREG(mode):
        return "not-a-file", "a pipe, socket or device"
    note = name_trouble(path)
    return ("bad-name", note) if note else (None, "")
