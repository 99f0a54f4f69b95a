"""File events, as hints that shorten a service's wait. What is true, its scan says.

SMB and NFS clients see no events of what other machines write, and FUSE mounts none of what
happens beneath them, so events are used on local filesystems only.
"""

import logging
import os
import threading
from collections.abc import Iterable
from pathlib import Path

from watchdog.events import FileSystemEvent, FileSystemEventHandler
from watchdog.observers import Observer
from watchdog.observers.api import ObservedWatch

log = logging.getLogger(__name__)

MOUNTS = Path("/proc/self/mountinfo")
LOCAL = frozenset(
    {"ext2", "ext3", "ext4", "xfs", "btrfs", "zfs", "f2fs", "bcachefs", "tmpfs", "overlay"}
)


def filesystem_of(folder: Path, mounts: str) -> str:
    """The type of the filesystem that a folder lies on; empty when it cannot be told.

    Args:
        folder: absolute, without links.
        mounts: the text of /proc/self/mountinfo.
    """
    best: tuple[int, str] = (-1, "")
    for line in mounts.splitlines():
        before, _, after = line.partition(" - ")
        fields = before.split()
        if len(fields) < 5 or not after:
            continue
        point = fields[4].encode().decode("unicode_escape")  # a space is \\040
        if folder == Path(point) or Path(point) in folder.parents:
            # Of mounts on one point, the later one covers the earlier.
            best = max(best, (len(point), after.split()[0]), key=lambda one: one[0])
    return best[1]


def has_events(folder: Path) -> bool:
    """Whether events tell of every change below a folder."""
    try:
        mounts = MOUNTS.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return False
    return filesystem_of(folder.resolve(), mounts) in LOCAL


def wants_events(choice: str, folder: Path) -> bool:
    """Whether to use events: `on`, `off`, or `auto` for wherever they tell of every change."""
    return choice == "on" or (choice == "auto" and has_events(folder))


class Alarm(FileSystemEventHandler):
    """Wakes the loop when something changes in the folders it watches."""

    def __init__(self, rung: threading.Event | None = None, *, keeps_paths: bool = False) -> None:
        """Make an alarm that watches nothing yet.

        Args:
            rung: set when something changes; None makes one.
            keeps_paths: remember what changed until `take_changed` asks. Whoever scans anyway
                does not ask, and would gather paths for as long as it lives.
        """
        self.rung = rung or threading.Event()
        self._keeps_paths = keeps_paths
        self._changed: set[Path] = set()
        self._lock = threading.Lock()
        self._observer = Observer()
        self._watches: dict[tuple[Path, bool], ObservedWatch] = {}
        self._is_off = False

    def start(self) -> None:
        self._observer.start()

    def stop(self) -> None:
        self._observer.stop()
        self._observer.join()

    def on_any_event(self, event: FileSystemEvent) -> None:
        if event.event_type in ("opened", "closed_no_write"):  # our own reading
            return
        if self._keeps_paths:
            self._remember(event)
        self.rung.set()

    def _remember(self, event: FileSystemEvent) -> None:
        with self._lock:
            self._changed |= {Path(os.fsdecode(p)) for p in (event.src_path, event.dest_path) if p}

    def is_watching(self, folder: Path) -> bool:
        """Whether events of this folder arrive."""
        return any(
            folder == path or (recursive and path in folder.parents)
            for path, recursive in self._watches.copy()
        )

    def take_changed(self) -> set[Path]:
        """The paths that have changed since this was asked last."""
        with self._lock:
            changed, self._changed = self._changed, set()
        return changed

    def watch(self, folders: Iterable[tuple[Path, bool]]) -> None:
        """Watch exactly these folders, (path, with all below); at a limit, polling has to do."""
        wanted = set(folders)
        for gone in self._watches.keys() - wanted:
            self._observer.unschedule(self._watches.pop(gone))
        for folder, recursive in wanted - self._watches.keys():
            if self._is_off or not folder.is_dir():
                continue
            try:
                watch = self._observer.schedule(self, str(folder), recursive=recursive)
            except OSError as error:
                self._is_off = True
                log.warning("file events are not to be had (%s): polling only", error.strerror)
            else:
                self._watches[(folder, recursive)] = watch
