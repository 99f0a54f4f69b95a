"""Label Studio as the watchdog sees it, in memory; with the time stamps of 1.23.2."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from services.watchdog.reconcile import Clock
from services.watchdog.source import Answers, TaskRow, stamp
from stack.runtime.label_studio import LabelStudioDownError

Results = list[dict[str, Any]]
PROJECT = 1


class FakeTime:
    """A clock that stands still until told."""

    def __init__(self) -> None:
        self.passed_s = 0.0
        self.start = datetime(2026, 3, 14, 12, 0, tzinfo=UTC)

    def now(self) -> datetime:
        return self.start + timedelta(seconds=self.passed_s)

    def wait(self, seconds: float) -> None:
        self.passed_s += seconds

    @property
    def clock(self) -> Clock:
        return Clock(self.now, lambda: self.passed_s)


@dataclass
class FakeTask:
    case: str
    created_at: str
    updated_at: str
    annotations: dict[int, dict[str, Any]] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)


class FakeSource:
    """An `AnswerSource` that annotators can be played on."""

    def __init__(self, task: str, time: FakeTime) -> None:
        self.time = time
        self.names = {task: PROJECT}
        self.tasks: dict[int, FakeTask] = {}
        self.versions: dict[int, str] = {}
        self.down = False
        self.reads: list[int] = []
        self.batches: list[list[int]] = []
        self.hidden: set[int] = set()  # annotations that a task's list does not show
        self._last = 0

    # --- what people do -----------------------------------------------------------------------

    def add_task(self, case: str, imported: Any = None) -> int:
        """A task, perhaps with the label that came with its image."""
        number = self._number()
        self.tasks[number] = FakeTask(case, self._tick(), self._tick())
        if imported is not None:
            self._annotation(number, result=imported, completed_by=1, updated_by=None)
        return number

    def change_data(self, task: int, **data: Any) -> None:
        self.tasks[task].data |= data
        self.tasks[task].updated_at = self._tick()

    def annotate(self, task: int, results: Any, by: int = 3, **fields: Any) -> int:
        number = self._annotation(task, result=results, completed_by=by, updated_by=by, **fields)
        self.tasks[task].updated_at = self._tick()
        return number

    def edit(self, task: int, annotation: int, by: int = 3, **fields: Any) -> None:
        self.tasks[task].annotations[annotation] |= fields | {
            "updated_by": by,
            "updated_at": self._tick(),
        }
        self.tasks[task].updated_at = self._tick()

    def delete(self, task: int, annotation: int) -> None:
        del self.tasks[task].annotations[annotation]
        self.tasks[task].updated_at = self._tick()

    # --- AnswerSource -------------------------------------------------------------------------

    def projects(self) -> dict[str, int]:
        self._answer()
        return self.names

    def changed(self, project: int, since: str | None) -> Iterator[TaskRow]:
        for number in sorted(self.tasks):
            row = self.row(project, number)
            if row is not None and (since is None or row.updated_at > since):
                yield row

    def annotated(self, project: int) -> Iterator[TaskRow]:
        for number in sorted(self.tasks):
            row = self.row(project, number)
            if row is not None and row.annotations:
                yield row

    def row(self, project: int, task: int) -> TaskRow | None:
        self._answer()
        one = self.tasks.get(task)
        if one is None:
            return None
        skipped = sum(answer["was_cancelled"] for answer in one.annotations.values())
        return TaskRow(
            id=task,
            case=one.case,
            created_at=one.created_at,
            updated_at=one.updated_at,
            answers=len(one.annotations) - skipped,
            skipped=skipped,
            annotations=frozenset(one.annotations),
            data=dict(one.data),
        )

    def annotations(self, project: int, row: TaskRow) -> Answers | None:
        self._answer()
        self.reads.append(row.id)
        if row.id not in self.tasks:
            return None
        answers = self.tasks[row.id].annotations.values()
        return [answer for answer in answers if answer["id"] not in self.hidden]

    def many(self, project: int, rows: Sequence[TaskRow]) -> dict[int, Answers]:
        self._answer()
        self.batches.append([row.id for row in rows])
        return {row.id: list(self.tasks[row.id].annotations.values()) for row in rows}

    def annotation(self, number: int) -> Mapping[str, Any] | None:
        self._answer()
        found = [task.annotations.get(number) for task in self.tasks.values()]
        return next((answer for answer in found if answer is not None), None)

    def model_version(self, prediction: int) -> str | None:
        return self.versions.get(prediction)

    # ------------------------------------------------------------------------------------------

    def _annotation(self, task: int, **fields: Any) -> int:
        number = self._number()
        record: dict[str, Any] = {"id": number, "task": task, "updated_at": self._tick()}
        record |= {"was_cancelled": False, "lead_time": 5}
        self.tasks[task].annotations[number] = record | fields
        return number

    def _answer(self) -> None:
        if self.down:
            raise LabelStudioDownError("refused")

    def _number(self) -> int:
        self._last += 1
        return self._last

    def _tick(self) -> str:
        """Now; a moment later than the time before."""
        self.time.wait(0.001)
        return stamp(self.time.now().isoformat())
