"""The log files of a home: kept small by rotation, shown by `labloop logs`.

Services write to their file themselves, so that not a line is lost when a supervisor dies.
"""

import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

ROTATE_BYTES = 10 * 1024 * 1024
KEPT = 3  # old files beside the current one: <name>.log.1 is the youngest
TAIL_BYTES = 256 * 1024
FOLLOW_EVERY_S = 0.2


def rotate(log: Path, limit_bytes: int = ROTATE_BYTES) -> bool:
    """Put a log that has grown too big aside; whether it had.

    The file is copied and emptied, not renamed: its writer holds it open for appending. Lines
    written between the two steps are lost, which takes milliseconds every 10 MiB.
    """
    try:
        if log.stat().st_size <= limit_bytes:
            return False
    except FileNotFoundError:
        return False
    for number in range(KEPT - 1, 0, -1):
        older = log.with_name(f"{log.name}.{number}")
        if older.is_file():
            older.replace(log.with_name(f"{log.name}.{number + 1}"))
    shutil.copyfile(log, log.with_name(f"{log.name}.1"))
    with log.open("r+b") as stream:
        stream.truncate(0)
    return True


def last_lines(log: Path, count: int, since: int = 0) -> list[str]:
    """The last lines of a log, none from before the byte `since`."""
    try:
        with log.open("rb") as stream:
            size = stream.seek(0, 2)
            since = since if since <= size else 0  # rotated meanwhile
            start = max(since, size - TAIL_BYTES)
            stream.seek(start)
            lines = stream.read().decode("utf-8", "replace").splitlines()
    except FileNotFoundError:
        return []
    if start > since:
        lines = lines[1:]  # the first one is cut
    return lines[-count:] if count > 0 else []


def follow(logs: Mapping[str, Path], stop: Callable[[], bool]) -> Iterator[tuple[str, str]]:
    """New lines of several logs as (name, line), until `stop` says so."""
    positions = {name: _size(path) for name, path in logs.items()}
    rests = dict.fromkeys(logs, b"")
    while not stop():
        quiet = True
        for name, path in logs.items():
            size = _size(path)
            if size < positions[name]:  # rotated
                positions[name], rests[name] = 0, b""
            if size > positions[name]:
                quiet = False
                with path.open("rb") as stream:
                    stream.seek(positions[name])
                    data = rests[name] + stream.read(size - positions[name])
                positions[name] = size
                *whole, rests[name] = data.split(b"\n")
                for line in whole:
                    yield name, line.decode("utf-8", "replace")
        if quiet:
            time.sleep(FOLLOW_EVERY_S)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
