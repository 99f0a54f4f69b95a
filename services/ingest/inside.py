"""Reaches files below rawdata without passing a symbolic link on the way.

People write to rawdata, so what was a folder at one look may be a link at the next, and what lies
behind it is not theirs to give away: landed annotations, another task's pictures. A folder that is
held open stays the same one whatever happens to its name meanwhile. rawdata itself may be a link:
that is the admin's doing.
"""

import errno
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO

DESCRIPTORS = Path("/proc/self/fd")  # Linux only
MOST_HELD = 200  # folders at a time: a process may have 1024 files open
FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


@contextmanager
def opened_folder(root: Path, path: str) -> Iterator[tuple[int, str]]:
    """The folder that a path below `root` lies in, as a descriptor, and the path's last part.

    Raises:
        NotADirectoryError: a link, or no folder, is on the way.
        OSError: the way cannot be walked for another reason.
    """
    *folders, name = path.split("/")
    descriptor = os.open(root, FOLDER)
    try:
        for folder in folders:
            inner = _step(folder, descriptor)
            os.close(descriptor)
            descriptor = inner
        yield descriptor, name
    finally:
        os.close(descriptor)


@contextmanager
def opened_file(root: Path, path: str) -> Iterator[BinaryIO]:
    """A plain file below `root`, for reading.

    Raises:
        NotADirectoryError: a link, or no folder, is on the way.
        OSError: it is a link itself, or cannot be opened for another reason.
    """
    with opened_folder(root, path) as (folder, name):
        # Nothing blocks: a pipe that nobody writes to would hold everything up.
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        descriptor = os.open(name, flags, dir_fd=folder)
    with os.fdopen(descriptor, "rb") as stream:
        yield stream


@contextmanager
def held_paths(root: Path, paths: Sequence[str]) -> Iterator[list[Path]]:
    """Paths of files below `root` for readers that want paths; no link is on the way to any.

    On Linux each leads through its folder as it is held open, so that it stays that file's.

    Raises:
        NotADirectoryError: a link, or no folder, is on the way to one, or it is a link itself.
        OSError: one cannot be looked at.
    """
    with ExitStack() as stack:
        folders: dict[str, Path] = {}
        held = []
        for path in paths:
            folder, _, name = path.rpartition("/")
            if folder not in folders:
                folders[folder] = _held_folder(stack, root, folder, len(folders))
            file = folders[folder] / name
            if not stat.S_ISREG(file.lstat().st_mode):
                raise NotADirectoryError(errno.ENOTDIR, "no plain file")
            held.append(file)
        yield held


def _held_folder(stack: ExitStack, root: Path, folder: str, number: int) -> Path:
    inner = opened_folder(root, f"{folder}/." if folder else ".")
    if number < MOST_HELD and DESCRIPTORS.is_dir():
        descriptor, _ = stack.enter_context(inner)
        return DESCRIPTORS / str(descriptor)
    with inner:  # checked, then reached by name
        return root / folder


def is_inside(root: Path, folder: str) -> bool:
    """Whether a folder below `root` (empty for `root`) is there, and no link leads to it."""
    try:
        with opened_folder(root, f"{folder}/." if folder else "."):
            return True
    except OSError:
        return False


def may_be_there(root: Path, path: str) -> bool:
    """Whether a file lies below `root`, as far as can be told: not being let look is no absence."""
    try:
        os.lstat(root / path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True
    return True


def _step(folder: str, descriptor: int) -> int:
    try:
        return os.open(folder, FOLDER | os.O_NOFOLLOW, dir_fd=descriptor)
    except OSError as error:
        if error.errno == errno.ELOOP:  # systems disagree about what a link is here
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR)) from error
        raise
