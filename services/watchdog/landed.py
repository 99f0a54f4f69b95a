"""What has landed in one task folder: an index of its annotations, without their results.

The files are the truth; the index spares reading them again. Only ingest writes here besides the
watchdog: `look_at` finds its files where they matter at once, `look` everywhere, now and then.
"""

import logging
import os
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime

from imaging.dataset.annotations import (
    FILE_NAME,
    UNREADABLE,
    AnnotationRecord,
    land,
    parse_annotation,
)
from imaging.dataset.base import files_behind
from imaging.errors import RecordError
from imaging.ids import SAFE_NAME, parse_utc
from imaging.layout import TaskFolder
from imaging.publish import read_json

log = logging.getLogger(__name__)

# What stands for a file that cannot be read. An answer that was no result list has its content.
BROKEN = ({"type": UNREADABLE},)


@dataclass(frozen=True, slots=True)
class Known:
    """The newest revision of an annotation; `record` is without its results."""

    record: AnnotationRecord
    digest: str  # of what it says; of an imported label map, of what Label Studio was given
    broken: bool = False  # the file is there and cannot be read


class Landed:
    """The annotations of one task folder, by case and key."""

    def __init__(self, task: TaskFolder) -> None:
        self.task = task
        self.cases: dict[str, dict[str, Known]] = {}
        self.changes = 0  # moves whenever something is added
        self._newest_landed_at: datetime | None = None
        self._files: dict[str, set[str]] = {}
        self._broken: set[tuple[str, str]] = set()  # case and file
        self._of_task: dict[int, set[str]] = {}  # task in Label Studio → cases it answered

    def look(self, progress: Callable[[], None], *, everywhere: bool) -> None:
        """Take in new cases, or with `everywhere` whatever has changed in any case."""
        if not self.task.annotations.is_dir():
            return
        with os.scandir(self.task.annotations) as entries:
            names = {entry.name for entry in entries if SAFE_NAME.fullmatch(entry.name)}
        known = self._files.keys()
        for name in sorted(names | known if everywhere else names - known):
            self.look_at(name)
            progress()

    def look_at(self, case: str) -> None:
        """Take in what has changed in one case: files appear, and vanish in a restored share."""
        known = self._files.setdefault(case, set())
        folder = self.task.case_annotations(case)
        found = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
        if not known <= found:
            self._broken -= {(case, name) for name in known}
            known.clear()
            self.cases.pop(case, None)
            self.changes += 1
        for name in found - known:
            if match := FILE_NAME.fullmatch(name):
                self._add(case, name, self._read(case, match))

    def land(self, record: AnnotationRecord) -> None:
        """Write one revision and remember it."""
        path = land(self.task, record)
        self._add(record.case, path.name, record)

    def newest(self, case: str, key: str) -> Known | None:
        return self.cases.get(case, {}).get(key)

    def live_keys(self, case: str, ls_task: int) -> list[str]:
        """The annotations of a task in Label Studio that are on the NAS and not deleted."""
        known = self.cases.get(case, {})
        start = f"{ls_task}-"
        return [
            key for key, one in known.items() if key.startswith(start) and not one.record.deleted
        ]

    def files_of(self, ls_task: int) -> int:
        """How many readable files tell of a task in Label Studio: revisions and deletions."""
        start = f"{ls_task}-"
        return sum(
            name.startswith(start) and (case, name) not in self._broken
            for case in self._of_task.get(ls_task, ())
            for name in self._files.get(case, ())
        )

    def has_import(self, case: str) -> bool:
        """Whether a label that came with the image is there."""
        return any(
            one.record.origin == "import" and not one.broken
            for one in self.cases.get(case, {}).values()
        )

    def is_import(self, case: str, digest: str) -> bool:
        """Whether this was said by a label that came with the image."""
        return any(
            one.digest == digest and one.record.origin == "import"
            for one in self.cases.get(case, {}).values()
        )

    def numbers(self, case: str) -> Iterator[tuple[int, int]]:
        """Task and annotation of everything that people did in Label Studio."""
        for key, one in self.cases.get(case, {}).items():
            if one.record.origin == "label_studio" and not key.startswith("import"):
                task, number = key.split("-")
                yield int(task), int(number)

    def live_tasks(self) -> set[int]:
        """Tasks in Label Studio that have annotations on the NAS that are not deleted."""
        return {
            task
            for task, cases in self._of_task.items()
            if any(self.live_keys(case, task) for case in cases)
        }

    def landed_at(self, now: datetime) -> datetime | None:
        """When a label landed last; what a clock that was ahead has dated later than `now`, is now.

        From then on it is measured from there, so that labels to come are later.
        """
        if self._newest_landed_at is not None:
            self._newest_landed_at = min(self._newest_landed_at, now)
        return self._newest_landed_at

    def answers(self) -> Iterator[tuple[str, frozenset[str]]]:
        """Case → files of the answers that count now, for cases that have any."""
        for case, known in self.cases.items():
            if files := files_behind(one.record for one in known.values()):
                yield case, frozenset(files)

    def _read(self, case: str, match: re.Match[str]) -> AnnotationRecord:
        path = self.task.case_annotations(case) / match.string
        try:
            return parse_annotation(read_json(path), where=f"{case}/{match.string}")
        except RecordError as error:
            # Its place is taken, so that what Label Studio still has lands as the next revision.
            log.error("case %s: annotation %s cannot be read: %s", case, match["key"], error)
            revision = int(match["revision"] or 1)
            return AnnotationRecord(case, match["key"], "label_studio", "", "", BROKEN, revision)

    def _add(self, case: str, name: str, record: AnnotationRecord) -> None:
        self._files.setdefault(case, set()).add(name)
        is_broken = record.results == BROKEN
        if is_broken:
            self._broken.add((case, name))
        known = self.cases.setdefault(case, {})
        before = known.get(record.key)
        if before is None or before.record.revision < record.revision:
            digest = record.shown_digest or record.digest
            known[record.key] = Known(replace(record, results=()), digest, is_broken)
        task = record.key.split("-")[0]
        if task.isdigit():
            self._of_task.setdefault(int(task), set()).add(case)
        with suppress(ValueError):
            landed_at = parse_utc(record.landed_at)
            self._newest_landed_at = max(self._newest_landed_at or landed_at, landed_at)
        self.changes += 1
