"""Lands what people answered: compares Label Studio with the NAS and writes what is new.

Nothing is concluded from an event. `catch_up` reads the tasks that changed since the last time,
`compare` looks at every annotated task. Both may be repeated, interrupted and run after any time
away: the same answer lands once, an edit as the next revision, a deletion as a revision too.
"""

import logging
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any

from imaging.dataset.annotations import AnnotationRecord, as_results
from imaging.errors import NasGoneError, UnsafeNameError
from imaging.ids import parse_utc
from imaging.layout import Nas, TaskFolder
from services.watchdog.items import items_answered
from services.watchdog.landed import Landed
from services.watchdog.memory import Memory
from services.watchdog.source import Answers, AnswerSource, TaskRow, stamp
from stack.runtime.label_studio import LabelStudioDownError

log = logging.getLogger(__name__)

# A change gets its time before it is committed and shown. Imports of 500 tasks take 4 s.
OVERLAP_S = 30.0
BATCH = 50
MANY = 10  # from so many tasks on, one call for all is cheaper than one for each
NOBODY = "unknown"  # the annotator whose account is gone


@dataclass(frozen=True, slots=True)
class Clock:
    """The two times there are: one for people, one that never jumps."""

    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    seconds: Callable[[], float] = time.monotonic


REAL_CLOCK = Clock()


@dataclass(frozen=True, slots=True)
class Tools:
    """What every task folder is reconciled with."""

    nas: Nas
    source: AnswerSource
    memory: Memory
    beat: Callable[[], None]  # called after each item; it may raise StoppedError
    clock: Clock


class Reconciler:
    """One task folder and its project."""

    def __init__(self, task: TaskFolder, tools: Tools) -> None:
        self.task, self.nas, self.source = task, tools.nas, tools.source
        self.memory, self.beat, self.clock = tools.memory, tools.beat, tools.clock
        self.landed = Landed(task)
        self.set_aside: dict[int, str] = {}  # task in Label Studio → why its answers did not land
        self._settled: dict[int, tuple[str, float]] = {}  # project → cursor, seen first when
        self._asked_for: dict[int, int] = {}  # unlisted task → its files on the NAS then

    def __str__(self) -> str:
        return self.task.name

    def catch_up(self, project: int) -> int:
        """Land what changed since the last time; how many revisions."""
        cursor = self.memory.cursor(project)
        newest = cursor or ""

        def unread() -> Iterator[TaskRow]:
            nonlocal newest
            for row in self.source.changed(project, self._since(project, cursor)):
                newest = max(newest, row.updated_at)
                if self._may_have_answers(project, row) and not self._was_seen(project, row):
                    yield row
                self.beat()

        count = self._read_all(project, unread())
        if newest and newest != self._settled.get(project, ("", 0.0))[0]:
            self._settled[project] = newest, self.clock.seconds()
        if newest and newest != cursor:
            self.memory.move_cursor(project, newest)
        return count

    def compare(self, project: int) -> int:
        """Compare every annotated task with what has landed; how many revisions that brought.

        Finds what `catch_up` cannot: changes that were committed late or made while Label Studio's
        clock was wrong, answers that are missing on the NAS, and tasks that were set aside. Tasks
        that lost their last annotation are asked for once in a process's life, and again when
        what the NAS has of them changes.
        """
        listed: set[int] = set()

        def doubtful() -> Iterator[TaskRow]:
            for row in self.source.annotated(project):
                listed.add(row.id)
                if not (self._was_seen(project, row) and self._has_landed(project, row)):
                    yield row
                self.beat()

        count = self._read_all(project, doubtful())
        candidates = self.landed.live_tasks() | self.memory.tasks_with_copies(project)
        there = listed | candidates
        self.set_aside = {task: why for task, why in self.set_aside.items() if task in there}
        for ls_task in sorted(candidates - listed):
            if self._asked_for.get(ls_task) == self.landed.files_of(ls_task):
                continue
            lost = self.source.row(project, ls_task)
            if lost is None:
                log.warning("%s: task %d is gone from Label Studio; its labels stay", self, ls_task)
                self.set_aside.pop(ls_task, None)
            else:
                count += self._read_all(project, iter([lost]))
            self._asked_for[ls_task] = self.landed.files_of(ls_task)
            self.beat()
        return count

    # --- which tasks to read ------------------------------------------------------------------

    def _since(self, project: int, cursor: str | None) -> str | None:
        """The cursor; for a while a little earlier, for changes that were committed late."""
        if cursor is None:
            return None
        newest, first_seen_s = self._settled.get(project, (cursor, self.clock.seconds()))
        self._settled.setdefault(project, (newest, first_seen_s))
        if newest == cursor and self.clock.seconds() - first_seen_s > OVERLAP_S:
            return cursor
        return stamp((parse_utc(cursor) - timedelta(seconds=OVERLAP_S)).isoformat())

    def _may_have_answers(self, project: int, row: TaskRow) -> bool:
        return bool(
            row.answers
            or row.skipped
            or self.landed.live_keys(row.case, row.id)
            or self.memory.copies(project, row.id)
        )

    def _was_seen(self, project: int, row: TaskRow) -> bool:
        return self.memory.seen(project, row.id) == row.updated_at

    def _has_landed(self, project: int, row: TaskRow) -> bool:
        """Whether every annotation can be read on the NAS, and none of its revisions is missing."""
        if row.annotations is None:
            return False
        if self.landed.files_of(row.id) < self.memory.files(project, row.id):
            return False
        landed = self.landed.cases.get(row.case, {})
        keys = {key for key, known in landed.items() if not known.broken}
        if self.landed.has_import(row.case):
            keys |= {f"{row.id}-{number}" for number in self.memory.copies(project, row.id)}
        return all(f"{row.id}-{number}" in keys for number in row.annotations)

    # --- tasks --------------------------------------------------------------------------------

    def _read_all(self, project: int, rows: Iterator[TaskRow]) -> int:
        """Land the answers of these tasks, a batch at a time; how many revisions."""
        count = 0
        while batch := list(islice(rows, BATCH)):
            ours = [row for row in batch if self._is_ours(row)]
            pictures = [row for row in ours if not row.is_stack]
            answers = self.source.many(project, pictures) if len(pictures) >= MANY else {}
            for row in ours:
                count += self._read(project, row, answers.pop(row.id, None))
                self.beat()
        return count

    def _read(self, project: int, row: TaskRow, answers: Answers | None) -> int:
        """Land a task's answers; one that cannot be read is set aside and stops nobody else."""
        try:
            if answers is None:
                answers = self.source.annotations(project, row)
            if answers is None:
                return 0  # the task was deleted just now; its labels stay
            count, doubt = self._land_task(project, row, answers)
            if doubt:
                self._set_aside(row.id, doubt)
            else:
                self.memory.saw(project, row.id, row.updated_at, self.landed.files_of(row.id))
                self.set_aside.pop(row.id, None)
            return count
        except (NasGoneError, LabelStudioDownError, OSError, sqlite3.Error):
            raise
        except Exception as error:
            self._set_aside(row.id, f"{type(error).__name__}: {str(error)[:300]}")
            return 0

    def _set_aside(self, ls_task: int, reason: str) -> None:
        if self.set_aside.get(ls_task) != reason:
            self.set_aside[ls_task] = reason
            log.warning("%s: task %d of Label Studio was set aside: %s", self, ls_task, reason)

    def _is_ours(self, row: TaskRow) -> bool:
        try:
            is_ours = self.task.case_record(row.case).is_file()
        except UnsafeNameError:
            is_ours = False
        if not is_ours:
            self.nas.require_marker()
            self._set_aside(row.id, "it belongs to no case on the NAS")
        return is_ours

    def _land_task(self, project: int, row: TaskRow, answers: Answers) -> tuple[int, str]:
        """How many revisions that made, and what could not be decided."""
        self.landed.look_at(row.case)
        present, count = set[str](), 0
        for answer in sorted(answers, key=lambda answer: int(answer["id"])):
            present.add(f"{row.id}-{int(answer['id'])}")
            count += self._land(project, row, answer)
        missing = [key for key in self.landed.live_keys(row.case, row.id) if key not in present]
        copies = self.memory.copies(project, row.id)
        missing += [
            f"{row.id}-{number}" for number in copies if f"{row.id}-{number}" not in present
        ]
        doubts = ""
        for key in missing:
            landed, doubt = self._land_missing(project, row, key)
            count, doubts = count + landed, doubts or doubt
        return count, doubts

    def _land_missing(self, project: int, row: TaskRow, key: str) -> tuple[int, str]:
        """An annotation is on the NAS and not in a list: ask for it before calling it deleted."""
        number = int(key.split("-")[1])
        known = self.landed.newest(row.case, key)
        if known and known.record.deleted:
            return 0, ""
        copies = self.memory.copies(project, row.id)
        updated_at = known.record.updated_at if known else copies[number]
        if updated_at < row.created_at and not (known and known.broken):
            return 0, ""
        answer = self.source.annotation(number)
        if answer is not None and answer.get("task") == row.id:
            return self._land(project, row, answer), ""
        if not _was_deleted(updated_at, row):
            return 0, (
                f"annotation {number} is not there any more, but by its times it was not deleted: "
                "a clock was set back, or a backup restored; its label stays until the task "
                "changes at a later time"
            )
        # A copy stays in memory: should the deletion go missing, nothing else would know of it.
        self._land_deletion(row.case, key, known.record if known else None)
        return 1, ""

    def _land(self, project: int, row: TaskRow, answer: Mapping[str, Any]) -> int:
        """Land one answer if it says anything new; how many revisions that made, 0 or 1."""
        number = int(answer["id"])
        known = self.landed.newest(row.case, f"{row.id}-{number}")
        record = _record(row, answer, known.record.revision + 1 if known else 1)
        if known and known.digest == record.digest:
            return 0
        if not known and self._is_copy(project, row, number, record):
            # Ingest gave Label Studio the label that came with the image: it is here already.
            self.memory.saw_copy(project, row.id, number, record.updated_at)
            return 0
        if not record.skipped:
            is_copy = number in self.memory.copies(project, row.id)
            before = () if is_copy else known.record.items if known else None
            items = items_answered(
                self.task, row, record, lambda: self.source.row(project, row.id), before
            )
            record = replace(record, items=items)
        self._write(record, self._model_version(answer))
        self.memory.forget_copy(project, row.id, number)
        return 1

    def _is_copy(self, project: int, row: TaskRow, number: int, record: AnnotationRecord) -> bool:
        """Whether ingest made an annotation from the label that came with the image.

        It makes one for each task, and none once people have answered; whoever says the same
        later gives an answer. Later answers are no proof: the memory may have been lost.
        """
        if not self.landed.is_import(row.case, record.digest):
            return False
        has_copy = bool(self.memory.copies(project, row.id).keys() - {number})
        return not has_copy and not any(
            task != row.id or earlier < number for task, earlier in self.landed.numbers(row.case)
        )

    def _model_version(self, answer: Mapping[str, Any]) -> str | None:
        prediction = answer.get("parent_prediction")
        return self.source.model_version(prediction) if isinstance(prediction, int) else None

    def _land_deletion(self, case: str, key: str, known: AnnotationRecord | None) -> None:
        self._write(
            AnnotationRecord(
                case=case,
                key=key,
                origin="label_studio",
                annotator=known.annotator if known else NOBODY,
                updated_at=self._now(),
                results=(),
                revision=known.revision + 1 if known else 1,
                deleted=True,
                skipped=known is not None and known.skipped,
            )
        )

    def _write(self, record: AnnotationRecord, model_version: str | None = None) -> None:
        self.nas.require_marker()
        self.landed.land(replace(record, landed_at=self._now(), model_version=model_version))
        log.info(
            "case %s: annotation %s landed, revision %d%s",
            record.case,
            record.key,
            record.revision,
            ", deleted" if record.deleted else ", skipped" if record.skipped else "",
        )

    def _now(self) -> str:
        return stamp(self.clock.now().isoformat())


def _record(row: TaskRow, answer: Mapping[str, Any], revision: int) -> AnnotationRecord:
    lead_time = answer.get("lead_time")
    return AnnotationRecord(
        case=row.case,
        key=f"{row.id}-{int(answer['id'])}",
        origin="label_studio",
        annotator=_person(answer),
        updated_at=stamp(str(answer["updated_at"])),
        results=as_results(answer.get("result")),
        revision=revision,
        skipped=bool(answer.get("was_cancelled")),
        lead_time_s=float(lead_time) if isinstance(lead_time, int | float) else None,
    )


def _person(answer: Mapping[str, Any]) -> str:
    """Whoever edited last, else whoever answered: of an imported label, the token's owner."""
    for field in ("updated_by", "completed_by"):
        person = answer.get(field)
        if isinstance(person, Mapping):
            person = person.get("id")
        if isinstance(person, int):
            return str(person)
    return NOBODY


def _was_deleted(updated_at: str, row: TaskRow) -> bool:
    """Whether an annotation that Label Studio lacks was deleted there, and not only forgotten.

    Deleting moves the task's time. A task that is older than the annotation comes from a restored
    backup, unless a clock was set back, and one that was made after it from a Label Studio that
    was set up anew: there the label on the NAS is the only one left.
    """
    return row.created_at <= updated_at < row.updated_at
