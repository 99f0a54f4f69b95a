"""Reaches files below rawdata without passing a symbolic link on the way.

People write to rawdata, so what was a folder at one look may be a link at the next, and what lies
behind it is not theirs to give away: landed annotations, another task's pictures. A folder that is
held open stays the same one whatever happens to its name meanwhile. rawdata itself may be a link:
that is the admin's doing.
"""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

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
