"""Keeps one Label Studio project equal to one task folder's cases.

The truth is a listing of the project, taken once per process and again after any failure; only
cases that it lacks are imported. An import whose answer was lost is therefore seen before it
could be repeated.
"""

import logging
from collections.abc import Callable, Iterator
from typing import Any

from imaging.dataset.annotations import AnnotationRecord, newest_revisions
from imaging.dataset.cases import load_case
from imaging.errors import RecordError
from imaging.labelstudio.tasks import task_payload
from imaging.layout import TaskFolder
from services.ingest.take import published_cases
from stack.runtime.label_studio import LabelStudio, LabelStudioError, ProjectRef

log = logging.getLogger(__name__)

CHUNK_TASKS = 100
# Label Studio refuses bodies of 250 MB; masks of large pictures are about a megabyte each.
CHUNK_BYTES = 16 << 20


class TaskSync:
    """What one project holds, and what it still lacks."""

    def __init__(
        self,
        client: LabelStudio,
        task: TaskFolder,
        clock: Callable[[], float],
        calm_s: float,
    ) -> None:
        """Args: calm_s: how long an import of a process that died may go on in Label Studio."""
        self.client, self.task, self.clock, self.calm_s = client, task, clock, calm_s
        self.cases = {folder.name for folder in published_cases(task)}
        self.known: dict[str, int] | None = None  # case → task number; None = to be listed
        self.labelled: set[str] = set()  # cases whose label landed after their task was made
        # Another process may have died in the middle of an import: then two listings must agree.
        self._cautious = bool(self.cases)
        self._counted: tuple[int, float] | None = None

    @property
    def is_settled(self) -> bool:
        """Whether Label Studio has every case and every label that came with one."""
        return self.known is not None and not self.labelled and self.cases <= self.known.keys()

    def add(self, case: str, *, labelled: bool) -> None:
        """A case is there, and perhaps a label that came with it."""
        self.cases.add(case)
        if labelled and self.known is not None and case in self.known:
            self.labelled.add(case)

    def push(self, project: ProjectRef, beat: Callable[[], None]) -> int:
        """Bring what the project lacks; how many tasks were made.

        Raises:
            LabelStudioError: a call failed; the project will be listed anew before the next try.
        """
        if self.is_settled:
            return 0
        try:
            if self.known is None:
                self.known = self._list(project, beat)
            if self.known is None:
                return 0
            made = self._import(project, self.known, beat)
            self._answer(self.known)
            return made
        except LabelStudioError:
            self.known, self._counted, self._cautious = None, None, True
            raise

    def _list(self, project: ProjectRef, beat: Callable[[], None]) -> dict[str, int] | None:
        """Every case of the project; None while its size may still be changing."""
        if self._counted is not None and self.clock() < self._counted[1] + self.calm_s:
            return None
        known: dict[str, int] = {}
        count = 0
        self.labelled.clear()
        for row in self.client.tasks(project.id, whole=False):
            count += 1
            case = str(row["data"].get("case", ""))
            known.setdefault(case, int(row["id"]))
            if case in self.cases and not row.get("total_annotations"):
                self.labelled.add(case)
            beat()
        if self._cautious and (self._counted is None or self._counted[0] != count):
            self._counted = (count, self.clock())
            return None
        return known

    def _import(self, project: ProjectRef, known: dict[str, int], beat: Callable[[], None]) -> int:
        made = 0
        for cases, payloads in self._chunks(sorted(self.cases - known.keys())):
            numbers = self.client.import_tasks(project.id, payloads)
            if len(numbers) != len(cases):
                raise LabelStudioError(f"{len(numbers)} of {len(cases)} tasks were imported")
            known.update(zip(cases, numbers, strict=True))
            made += len(cases)
            log.info("task %s: %d tasks were made in Label Studio", self.task.name, len(cases))
            beat()
        return made

    def _chunks(self, cases: list[str]) -> Iterator[tuple[list[str], list[dict[str, Any]]]]:
        names: list[str] = []
        payloads: list[dict[str, Any]] = []
        size_bytes = 0
        for case in cases:
            try:
                record = load_case(self.task.case(case))
                answers = _imported(self.task, case)
            except RecordError as error:
                log.error("case %s of %s cannot be read: %s", case, self.task.name, error)
                self.cases.discard(case)
                continue
            names.append(case)
            payloads.append(task_payload(self.task.name, record, answers))
            size_bytes += sum(_size_bytes(answer) for answer in answers)
            if len(names) == CHUNK_TASKS or size_bytes > CHUNK_BYTES:
                yield names, payloads
                names, payloads, size_bytes = [], [], 0
        if names:
            yield names, payloads

    def _answer(self, known: dict[str, int]) -> None:
        """Give tasks that are there already the labels that landed later (a mask copied last)."""
        for case in sorted(self.labelled):
            for answer in _imported(self.task, case):
                self.client.create_annotation(known[case], answer.results)
                log.info("case %s of %s got its imported label", case, self.task.name)
            self.labelled.discard(case)


def _imported(task: TaskFolder, case: str) -> list[AnnotationRecord]:
    """The labels that came with a case, unless people have answered since."""
    newest = newest_revisions(task, case)
    if any(record.origin == "label_studio" for record in newest):
        return []
    return [record for record in newest if record.counts]


def _size_bytes(answer: AnnotationRecord) -> int:
    """Roughly, of an answer as JSON: an RLE is a list of numbers of up to three digits."""
    rles = (result.get("value", {}).get("rle", ()) for result in answer.results)
    return 1000 + sum(5 * len(rle) for rle in rles)
