"""Keeps one Label Studio project equal to one task folder's cases.

The truth is a listing of the project, taken once per process and again after any failure; only
cases that it lacks are imported. An import whose answer was lost is therefore seen before it
could be repeated; one that Label Studio commits when nobody expects it any more is put right.
"""

import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from imaging.dataset.annotations import AnnotationRecord, newest_revisions
from imaging.dataset.cases import CaseRecord, load_case
from imaging.dataset.label_maps import shown_results
from imaging.errors import ImagingError, RecordError
from imaging.labels import LabelScheme
from imaging.labelstudio.tasks import task_payload
from imaging.layout import TaskFolder
from services.ingest.surplus import remove_surplus
from services.ingest.take import published_cases
from stack.runtime.label_studio import LabelStudio, LabelStudioError, ProjectRef

log = logging.getLogger(__name__)

CHUNK_TASKS = 100
# Label Studio refuses bodies of 250 MB; masks of large pictures are about a megabyte each.
CHUNK_BYTES = 16 << 20
# A busy Label Studio commits an import of many masks 20 s after its caller has died.
CALM_S = 60.0
LOOK_AGAIN_S = 600.0  # … and should it take longer still, surplus tasks are found this much later


class TaskSync:
    """What one project holds, and what it still lacks."""

    def __init__(
        self,
        client: LabelStudio,
        task: TaskFolder,
        clock: Callable[[], float],
    ) -> None:
        self.client, self.task, self.clock = client, task, clock
        self.cases = {folder.name for folder in published_cases(task)}
        self.known: dict[str, int] | None = None  # case → task number; None = to be listed
        self.labelled: set[str] = set()  # cases whose label landed after their task was made
        # Another process may have died in the middle of an import: then the project must be calm
        # before what it lacks is imported.
        self._cautious = bool(self.cases)
        self._counted: tuple[int, float] | None = None  # tasks, and since when there are so many
        self._look_again_s = math.inf

    @property
    def is_settled(self) -> bool:
        """Whether Label Studio has every case and every label that came with one."""
        return self.known is not None and not self.labelled and self.cases <= self.known.keys()

    def add(self, case: str, *, labelled: bool) -> None:
        """A case is there, and perhaps a label that came with it."""
        self.cases.add(case)
        if labelled and self.known is not None and case in self.known:
            self.labelled.add(case)

    def push(self, project: ProjectRef, scheme: LabelScheme, beat: Callable[[], None]) -> int:
        """Bring what the project lacks; how many tasks were made.

        Args:
            project: the task's project.
            scheme: its labels, to show label maps by.
            beat: says that the loop is alive.

        Raises:
            LabelStudioError: a call failed; the project will be listed anew before the next try.
        """
        if self.clock() >= self._look_again_s:
            self.known, self._look_again_s = None, math.inf
        if self.is_settled:
            return 0
        try:
            if self.known is None and self._is_calm(project):
                self.known = self._list(project, beat)
            if self.known is None:
                return 0
            shown = _Shown(self.task, scheme)
            made = self._import(project, self.known, shown, beat)
            self._answer(self.known, shown)
            return made
        except LabelStudioError:
            self.known, self._counted, self._cautious = None, None, True
            raise

    def _is_calm(self, project: ProjectRef) -> bool:
        """Whether a listing may be tried: at first, and once no task came for long enough."""
        if self._counted is None:
            return True
        params = {"project": project.id, "page": 1, "page_size": 1, "fields": "task_only"}
        count = int(self.client.call("GET", "/api/tasks", params=params)["total"])
        if count != self._counted[0]:
            self._counted = (count, self.clock())
        return self.clock() >= self._counted[1] + CALM_S

    def _list(self, project: ProjectRef, beat: Callable[[], None]) -> dict[str, int] | None:
        """Every case of the project; None while one that is missing may still be on its way."""
        found: dict[str, list[dict[str, Any]]] = {}
        count = 0
        for row in self.client.tasks(project.id, whole=False):
            count += 1
            found.setdefault(str(row["data"].get("case", "")), []).append(row)
            beat()
        if self._cautious and self._counted is None and not self.cases <= found.keys():
            self._counted = (count, self.clock())
            return None
        if self._counted is not None:
            self._look_again_s = self.clock() + LOOK_AGAIN_S
        self._cautious, self._counted = False, None
        kept = {
            case: remove_surplus(self.client, rows) if case in self.cases else rows[0]
            for case, rows in found.items()
        }
        self.labelled = {
            case for case in self.cases & kept.keys() if not kept[case].get("total_annotations")
        }
        return {case: int(row["id"]) for case, row in kept.items()}

    def _import(
        self,
        project: ProjectRef,
        known: dict[str, int],
        shown: "_Shown",
        beat: Callable[[], None],
    ) -> int:
        made = 0
        for cases, payloads in self._chunks(sorted(self.cases - known.keys()), shown, beat):
            numbers = self.client.import_tasks(project.id, payloads)
            if len(numbers) != len(cases):
                raise LabelStudioError(f"{len(numbers)} of {len(cases)} tasks were imported")
            known.update(zip(cases, numbers, strict=True))
            made += len(cases)
            log.info("task %s: %d tasks were made in Label Studio", self.task.name, len(cases))
            beat()
        return made

    def _chunks(
        self, cases: list[str], shown: "_Shown", beat: Callable[[], None]
    ) -> Iterator[tuple[list[str], list[dict[str, Any]]]]:
        names: list[str] = []
        payloads: list[dict[str, Any]] = []
        size_bytes = 0
        for case in cases:
            try:
                payload = shown.payload(case)
            except ImagingError as error:
                log.error("case %s of %s cannot be read: %s", case, self.task.name, error)
                self.cases.discard(case)
                continue
            names.append(case)
            payloads.append(payload)
            size_bytes += sum(_size_bytes(one["result"]) for one in payload["annotations"])
            beat()
            if len(names) == CHUNK_TASKS or size_bytes > CHUNK_BYTES:
                yield names, payloads
                names, payloads, size_bytes = [], [], 0
        if names:
            yield names, payloads

    def _answer(self, known: dict[str, int], shown: "_Shown") -> None:
        """Give tasks that are there already the labels that landed later (a mask copied last)."""
        for case in sorted(self.labelled):
            try:
                answers = shown.imported(case)
            except ImagingError as error:
                log.error("case %s of %s cannot be read: %s", case, self.task.name, error)
                answers = []
            for results in answers:
                self.client.create_annotation(known[case], results)
                log.info("case %s of %s got its imported label", case, self.task.name)
            self.labelled.discard(case)


class _Shown:
    """What Label Studio gets of a task's cases."""

    def __init__(self, task: TaskFolder, scheme: LabelScheme) -> None:
        self.task, self.scheme = task, scheme

    def payload(self, case: str) -> dict[str, Any]:
        """Raises: ImagingError: the case, or a label that came with it, cannot be read."""
        record = load_case(self.task.case(case))
        answers = _imported(self.task, case)
        return task_payload(self.task.name, record, answers, results_of=partial(self._of, record))

    def imported(self, case: str) -> list[list[Mapping[str, Any]]]:
        """The labels that came with a case, as results."""
        record = load_case(self.task.case(case))
        return [list(self._of(record, answer)) for answer in _imported(self.task, case)]

    def _of(self, record: CaseRecord, answer: AnnotationRecord) -> Sequence[Mapping[str, Any]]:
        if answer.label_map is None:
            return answer.results
        try:
            return shown_results(self.task, answer, record, self.scheme)
        except FileNotFoundError as error:
            raise RecordError(f"the label map {answer.label_map} is gone") from error


def _imported(task: TaskFolder, case: str) -> list[AnnotationRecord]:
    """The labels that came with a case, unless people have answered since."""
    newest = newest_revisions(task, case)
    if any(record.origin == "label_studio" for record in newest):
        return []
    return [record for record in newest if record.counts]


def _size_bytes(results: Sequence[Mapping[str, Any]]) -> int:
    """Roughly, of an answer as JSON: an RLE is a list of numbers of up to three digits."""
    rles = (result.get("value", {}).get("rle", ()) for result in results)
    return 1000 + sum(5 * len(rle) for rle in rles)
