"""Opening volume files: regular files only, gzip or not, never more bytes than were asked for.

isal inflates in 0.4 of zlib's time. It is read as a stream, so that a small file that claims or
holds terabytes costs no more memory than the voxels that its checked header speaks of.
"""

import errno
import gzip
import io
import os
import stat
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
from isal import igzip, isal_zlib
from numpy.typing import NDArray

from imaging.errors import VolumeError
from imaging.io.volume_checks import VolumeLimits

GZIP = b"\x1f\x8b"
MAX_REST = 1 << 20  # bytes behind the voxels, which some programs leave there
READ_AT_ONCE = 1 << 14
INFLATED_AT_ONCE = 1 << 19  # stays in the cache: a fifth faster than all at once
# What damaged gzip raises, depending on where the damage lies.
ISAL_ERROR = cast(type[Exception], isal_zlib.error)  # its stub says otherwise
DAMAGE = (EOFError, zlib.error, gzip.BadGzipFile, ISAL_ERROR)


class _ClippedReader(io.BufferedReader):
    """Allocates no more than the file has: Python sets aside what is asked for, gigabytes too."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and size > MAX_REST:
            size = min(size, max(os.fstat(self.fileno()).st_size - self.tell(), 0))
        return super().read(size)


def checked_size(stream: BinaryIO, limits: VolumeLimits) -> int:
    """Bytes of an open file.

    Raises:
        VolumeError: reason `empty` or `too-large`.
    """
    size = os.fstat(stream.fileno()).st_size
    if size == 0:
        raise VolumeError("a file without content (0 bytes)", reason="empty")
    if size > limits.max_bytes:
        raise VolumeError(f"a file of {size} bytes", reason="too-large")
    return size


@contextmanager
def opened(path: Path, limits: VolumeLimits) -> Iterator[tuple[BinaryIO, int, bool]]:
    """A regular file, inflated where it is gzip; with its size on disk and whether it is gzip.

    Raises:
        VolumeError: reason `symlink`, `not-a-file`, `empty`, `too-large`, or `truncated` where
            reading meets damage.
        OSError: the file cannot be read.
    """
    with regular_file(path) as stream:
        size = checked_size(stream, limits)
        is_gzip = stream.read(2) == GZIP
        stream.seek(0)
        try:
            if is_gzip:
                with igzip.open(stream) as inflated:
                    yield cast(BinaryIO, inflated), size, True
            else:
                yield stream, size, False
        except DAMAGE as error:
            raise VolumeError(f"a damaged gzip file ({error})", reason="truncated") from error


def regular_file(path: Path) -> BinaryIO:
    """An open file that is neither a link nor a pipe, which would never end.

    Raises:
        VolumeError: reason `symlink` or `not-a-file`.
        OSError: the file cannot be read.
    """
    try:
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        descriptor = os.open(path, flags)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise VolumeError("a symbolic link", reason="symlink") from error
        if error.errno == errno.ENXIO:
            raise VolumeError("a socket or device", reason="not-a-file") from error
        raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise VolumeError("a pipe, device or folder", reason="not-a-file")
    return cast(BinaryIO, _ClippedReader(io.FileIO(descriptor, "rb")))


def read_exactly(stream: BinaryIO, count: int) -> NDArray[np.uint8]:
    """The next bytes of a stream, in an array that can be written to.

    Raises:
        VolumeError: reason `truncated`: the stream ends before.
    """
    buffer = np.empty(count, dtype=np.uint8)
    view, filled = memoryview(buffer.data), 0
    raw = cast(io.BufferedIOBase, stream)
    while filled < count:
        got = raw.readinto(view[filled : filled + INFLATED_AT_ONCE])
        if not got:
            raise VolumeError(
                f"the file ends after {filled} of {count} bytes of voxels", reason="truncated"
            )
        filled += got
    return buffer


def check_end(stream: BinaryIO) -> None:
    """Read to the end, where gzip keeps its checksum.

    Raises:
        VolumeError: reason `broken`: much more follows than the header spoke of.
    """
    rest = 0
    while part := stream.read(READ_AT_ONCE):
        rest += len(part)
        if rest > MAX_REST:
            raise VolumeError("more bytes than the header speaks of", reason="broken")
