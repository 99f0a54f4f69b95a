import errno
import logging
import shutil
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from imaging.dataset.annotations import (
    AnnotationRecord,
    current_answers,
    newest_revisions,
)
from imaging.errors import NasGoneError
from imaging.labelstudio.results import results_from_classes
from imaging.layout import Nas, TaskFolder
from services.watchdog.memory import FILE, Memory
from services.watchdog.reconcile import OVERLAP_S, Reconciler, Tools
from services.watchdog.source import TaskRow
from stack.runtime.label_studio import LabelStudioDownError
from tests.imaging.dataset.lab import TASK, answer, make_case, make_nas
from tests.services.watchdog.fake_source import PROJECT, FakeSource, FakeTime

NORMAL, PNEUMONIA = results_from_classes(["normal"]), results_from_classes(["pneumonia"])
IMPORT_KEY = "import-0123456789ab"


class Desk:
    """A reconciler over a small lab; `restart` forgets all but disk."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.nas: Nas = make_nas(root / "nas")
        self.task: TaskFolder = self.nas.task(TASK)
        self.time = FakeTime()
        self.source = FakeSource(TASK, self.time)
        self.memory: Memory | None = None
        self.restart()

    def restart(self, *, forget: bool = False) -> None:
        if self.memory:
            self.memory.close()
        if forget:
            (self.root / "state" / FILE).unlink()
        self.memory = Memory(self.root / "state")
        tools = Tools(self.nas, self.source, self.memory, lambda: None, self.time.clock)
        self.reconciler = Reconciler(self.task, tools)
        self.reconciler.landed.look(lambda: None, everywhere=True)

    def catch_up(self) -> int:
        self.time.wait(10)
        return self.reconciler.catch_up(PROJECT)

    def compare(self) -> int:
        self.time.wait(10)
        return self.reconciler.compare(PROJECT)

    def case(self, number: int, imported: Any = None) -> tuple[str, int]:
        case = make_case(self.task, number)
        if imported is not None:
            answer(
                self.task,
                case,
                imported,
                key=IMPORT_KEY,
                origin="import",
                annotator="import",
                updated_at="2020-01-01T00:00:00.000000Z",
            )
        return case, self.source.add_task(case, imported)

    def files(self) -> list[str]:
        return sorted(path.name for path in self.task.annotations.rglob("*.json"))


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    (tmp_path / "nas").mkdir()
    desk = Desk(tmp_path)
    yield desk
    assert desk.memory is not None
    desk.memory.close()


def only(desk: Desk, case: str) -> AnnotationRecord:
    (record,) = newest_revisions(desk.task, case)
    return record


def test_a_new_answer_lands_with_all_that_is_known_about_it(desk: Desk) -> None:
    case, task = desk.case(1)
    desk.source.versions[9] = "model-1"
    number = desk.source.annotate(task, NORMAL, by=7, parent_prediction=9, lead_time=12.5)
    assert desk.catch_up() == 1
    record = only(desk, case)
    assert record.key == f"{task}-{number}" and record.results == tuple(NORMAL)
    assert (record.annotator, record.lead_time_s, record.model_version) == ("7", 12.5, "model-1")
    assert record.updated_at == desk.source.tasks[task].annotations[number]["updated_at"]
    assert record.landed_at > record.updated_at


def test_the_same_answer_never_lands_twice(desk: Desk) -> None:
    _, task = desk.case(1)
    number = desk.source.annotate(task, NORMAL)
    assert desk.catch_up() == 1
    assert desk.catch_up() == desk.compare() == 0
    desk.source.edit(task, number, result=NORMAL)  # saved again, unchanged
    assert desk.catch_up() == desk.compare() == 0
    desk.restart(forget=True)
    assert desk.catch_up() == desk.compare() == 0
    assert desk.files() == [f"{task}-{number}.json"]


def test_an_edit_a_skip_and_a_deletion_are_revisions(desk: Desk) -> None:
    case, task = desk.case(1)
    number = desk.source.annotate(task, NORMAL, by=3)
    desk.catch_up()
    desk.source.edit(task, number, result=PNEUMONIA, by=4)
    assert desk.catch_up() == 1
    assert current_answers(desk.task, case)[0].results == tuple(PNEUMONIA)
    assert only(desk, case).annotator == "4"
    desk.source.edit(task, number, was_cancelled=True)
    assert desk.catch_up() == 1
    assert only(desk, case).skipped and current_answers(desk.task, case) == []
    desk.source.delete(task, number)
    assert desk.catch_up() == 1
    assert only(desk, case).deleted and only(desk, case).revision == 4
    assert desk.catch_up() == desk.compare() == 0


def test_a_skip_lands_and_is_no_answer(desk: Desk) -> None:
    case, task = desk.case(1)
    desk.source.annotate(task, [], was_cancelled=True)
    assert desk.catch_up() == 1
    assert only(desk, case).skipped and current_answers(desk.task, case) == []
    assert desk.compare() == 0


def test_an_annotation_that_a_list_leaves_out_is_asked_for_and_not_called_deleted(
    desk: Desk,
) -> None:
    case, task = desk.case(1)
    number = desk.source.annotate(task, NORMAL)
    desk.catch_up()
    desk.source.hidden = {number}
    desk.source.edit(task, number, result=PNEUMONIA)
    assert desk.catch_up() == 1
    assert current_answers(desk.task, case)[0].results == tuple(PNEUMONIA)


def test_everything_done_while_the_watchdog_was_away_is_seen(desk: Desk) -> None:
    (first, task_1), (second, task_2), (third, task_3) = (desk.case(n) for n in range(3))
    kept = desk.source.annotate(task_1, NORMAL)
    gone = desk.source.annotate(task_2, NORMAL)
    desk.catch_up()
    desk.source.edit(task_1, kept, result=PNEUMONIA)
    desk.source.delete(task_2, gone)
    desk.source.annotate(task_3, NORMAL)
    desk.time.wait(86400)
    desk.restart()
    assert desk.catch_up() == 3
    assert [len(current_answers(desk.task, case)) for case in (first, second, third)] == [1, 0, 1]


def test_the_label_that_came_with_the_image_does_not_land_again(desk: Desk) -> None:
    case, _ = desk.case(1, imported=NORMAL)
    assert desk.catch_up() == desk.compare() == 0
    assert desk.files() == [f"{IMPORT_KEY}.json"]
    assert current_answers(desk.task, case)[0].origin == "import"


def test_a_corrected_import_lands_as_the_answer_of_whoever_corrected_it(desk: Desk) -> None:
    case, task = desk.case(1, imported=NORMAL)
    (copy,) = desk.source.tasks[task].annotations
    desk.catch_up()
    desk.source.edit(task, copy, result=PNEUMONIA, by=5)
    assert desk.catch_up() == 1
    (counted,) = current_answers(desk.task, case)
    assert counted.annotator == "5" and counted.results == tuple(PNEUMONIA)


def test_a_skip_that_is_deleted_again_leaves_the_imported_label_as_it_is(desk: Desk) -> None:
    case, task = desk.case(1, imported=NORMAL)
    skip = desk.source.annotate(task, [], was_cancelled=True)
    desk.catch_up()
    assert [one.key for one in current_answers(desk.task, case)] == [IMPORT_KEY]
    desk.source.delete(task, skip)
    assert desk.catch_up() == 1
    assert [one.key for one in current_answers(desk.task, case)] == [IMPORT_KEY]


@pytest.mark.parametrize("restart", [False, True])
def test_deleting_the_copy_of_an_import_takes_the_label_away(desk: Desk, restart: bool) -> None:
    case, task = desk.case(1, imported=NORMAL)
    (copy,) = desk.source.tasks[task].annotations
    desk.catch_up()
    if restart:
        desk.restart()
    desk.source.delete(task, copy)
    assert desk.catch_up() == 1
    assert current_answers(desk.task, case) == []
    assert desk.catch_up() == desk.compare() == 0


def test_a_label_imported_later_is_recognised(desk: Desk) -> None:
    case, task = desk.case(1)
    desk.catch_up()
    answer(desk.task, case, NORMAL, key=IMPORT_KEY, origin="import", annotator="import")
    desk.source.annotate(task, NORMAL, by=1)  # ingest hands it over
    assert desk.catch_up() == 0
    assert desk.files() == [f"{IMPORT_KEY}.json"]


def test_tasks_that_are_not_ours_are_kept_out_and_logged_once(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    for case in ("", "case-unknown", "../../../etc"):
        desk.source.annotate(desk.source.add_task(case), NORMAL)
    for _ in range(3):
        assert desk.catch_up() == desk.compare() == 0
    assert len([one for one in caplog.records if "belongs to no case" in one.message]) == 3
    assert not desk.task.annotations.exists()
    desk.source.tasks.clear()
    desk.compare()
    assert desk.reconciler.set_aside == {}


def test_a_case_that_comes_back_gets_its_answers(desk: Desk) -> None:
    case, task = desk.case(1)
    away = desk.task.cases / ".away"
    desk.task.case(case).rename(away)
    desk.source.annotate(task, NORMAL)
    assert desk.catch_up() == 0
    away.rename(desk.task.case(case))
    assert desk.compare() == 1
    assert desk.reconciler.set_aside == {}


@pytest.mark.parametrize("payload", [{"a": 1}, "text", None, [1], [{"text": "\ud800"}], []])
def test_whatever_was_submitted_lands(desk: Desk, payload: Any) -> None:
    case, task = desk.case(1)
    desk.source.annotate(task, payload)
    assert desk.catch_up() == 1
    results = only(desk, case).results
    assert list(results) == payload or results[0]["raw"] == payload
    desk.restart(forget=True)
    assert desk.catch_up() == 0


def test_one_task_that_cannot_be_read_stops_nobody_else(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    tasks = [desk.case(number) for number in range(3)]
    for _, task in tasks:
        desk.source.annotate(task, NORMAL)
    broken = tasks[1][1]
    read = desk.source.annotations
    with monkeypatch.context() as patch:
        patch.setattr(
            desk.source,
            "annotations",
            lambda project, row: [{"id": "x"}] if row.id == broken else read(project, row),
        )
        assert desk.catch_up() == 2
        assert desk.compare() == 0
        assert list(desk.reconciler.set_aside) == [broken]
    assert len([one for one in caplog.records if one.levelno == logging.WARNING]) == 1
    assert desk.compare() == 1
    assert desk.reconciler.set_aside == {}


def test_a_change_that_is_committed_late_is_seen(desk: Desk) -> None:
    (_, task_1), (second, task_2) = desk.case(1), desk.case(2)
    number = desk.source.annotate(task_2, NORMAL)
    hidden = desk.source.tasks.pop(task_2)  # its transaction is still open
    desk.source.annotate(task_1, NORMAL)
    assert desk.catch_up() == 1
    desk.source.tasks[task_2] = hidden
    assert desk.catch_up() == 1
    assert only(desk, second).key == f"{task_2}-{number}"


def test_unchanged_tasks_are_neither_listed_nor_read_for_ever(desk: Desk) -> None:
    _, task = desk.case(1)
    desk.source.annotate(task, NORMAL)
    desk.catch_up()
    since: list[str | None] = []
    changed = desk.source.changed

    def spy(project: int, moment: str | None) -> Iterator[TaskRow]:
        since.append(moment)
        return changed(project, moment)

    desk.source.changed = spy  # type: ignore[method-assign]
    desk.catch_up()
    desk.time.wait(OVERLAP_S)
    desk.catch_up()
    updated_at = desk.source.tasks[task].updated_at
    assert since[0] is not None and since[0] < updated_at and since[1] == updated_at
    assert desk.source.reads == [task]


def test_the_labels_of_a_task_deleted_in_label_studio_stay(desk: Desk) -> None:
    case, task = desk.case(1)
    desk.source.annotate(task, NORMAL)
    desk.catch_up()
    del desk.source.tasks[task]
    assert desk.catch_up() == desk.compare() == 0
    assert len(current_answers(desk.task, case)) == 1


def test_a_label_studio_restored_from_an_older_backup_takes_no_label_away(desk: Desk) -> None:
    case, task = desk.case(1)
    before = desk.source.tasks[task].updated_at
    number = desk.source.annotate(task, NORMAL)
    desk.catch_up()
    desk.source.tasks[task].updated_at = before
    del desk.source.tasks[task].annotations[number]
    assert desk.catch_up() == desk.compare() == 0
    desk.restart(forget=True)
    assert desk.catch_up() == desk.compare() == 0
    assert len(current_answers(desk.task, case)) == 1


def test_a_label_studio_set_up_anew_takes_no_label_away(desk: Desk) -> None:
    (first, task_1), (second, task_2) = desk.case(1), desk.case(2)
    for task in (task_1, task_2):
        desk.source.annotate(task, NORMAL)
    desk.catch_up()
    desk.time.wait(1000)
    desk.source.tasks.clear()
    desk.source._last = 0
    # The same numbers, once for the same case and once for another.
    assert desk.source.add_task(first) == task_1 and desk.source.add_task("case-x") == task_2
    assert desk.catch_up() == desk.compare() == 0
    desk.restart(forget=True)
    assert desk.catch_up() == desk.compare() == 0
    assert all(len(current_answers(desk.task, case)) == 1 for case in (first, second))


@pytest.mark.parametrize("restart", [False, True])
def test_labels_missing_on_the_nas_land_again(desk: Desk, restart: bool) -> None:
    case, task = desk.case(1)
    desk.source.annotate(task, NORMAL)
    desk.catch_up()
    shutil.rmtree(desk.task.case_annotations(case))  # a share restored from yesterday's backup
    if restart:
        desk.restart()
    assert desk.catch_up() == 0
    desk.reconciler.landed.look(lambda: None, everywhere=True)
    assert desk.compare() == 1
    assert len(current_answers(desk.task, case)) == 1


def test_an_unreadable_file_on_the_nas_is_healed_by_a_revision(desk: Desk) -> None:
    case, task = desk.case(1)
    desk.source.annotate(task, NORMAL)
    desk.catch_up()
    next(desk.task.annotations.rglob("*.json")).write_bytes(b"")
    desk.restart(forget=True)
    assert desk.catch_up() == 1
    assert only(desk, case).revision == 2
    assert only(desk, case).results == tuple(NORMAL)


def test_changes_with_a_clock_that_was_wrong_are_found_by_comparing(desk: Desk) -> None:
    _, task = desk.case(1)
    number = desk.source.annotate(task, NORMAL)
    desk.catch_up()
    desk.source.edit(task, number, result=PNEUMONIA)
    desk.source.tasks[task].updated_at = "2020-01-01T00:00:00.000000Z"
    assert desk.catch_up() == 0
    assert desk.compare() == 1


def test_when_the_nas_goes_nothing_is_written_and_all_lands_later(desk: Desk) -> None:
    _, task = desk.case(1)
    desk.source.annotate(task, NORMAL)
    desk.nas.marker.unlink()
    with pytest.raises(NasGoneError):
        desk.catch_up()
    assert desk.files() == []
    desk.nas.marker.touch()
    assert desk.catch_up() == 1


def test_when_the_disk_is_full_nothing_is_forgotten(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    tasks = [desk.case(number) for number in range(3)]
    for _, task in tasks:
        desk.source.annotate(task, NORMAL)
    land = desk.reconciler.landed.land
    calls: list[AnnotationRecord] = []

    def fill(record: AnnotationRecord) -> None:
        calls.append(record)
        if len(calls) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        land(record)

    monkeypatch.setattr(desk.reconciler.landed, "land", fill)
    with pytest.raises(OSError, match="No space"):
        desk.catch_up()
    assert desk.catch_up() == 2
    assert all(len(current_answers(desk.task, case)) == 1 for case, _ in tasks)


def test_when_label_studio_goes_in_the_middle_nothing_is_forgotten(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    tasks = [desk.case(number) for number in range(4)]
    for _, task in tasks:
        desk.source.annotate(task, NORMAL)
    read = desk.source.annotations

    def break_down(project: int, row: TaskRow) -> Any:
        desk.source.down = row.id == tasks[2][1]
        return read(project, row)

    with monkeypatch.context() as patch:
        patch.setattr(desk.source, "annotations", break_down)
        with pytest.raises(LabelStudioDownError):
            desk.catch_up()
    desk.source.down = False
    desk.restart()
    assert desk.catch_up() == 2
    assert all(len(current_answers(desk.task, case)) == 1 for case, _ in tasks)


def test_a_broken_memory_costs_reading_and_nothing_else(desk: Desk) -> None:
    _, task = desk.case(1)
    desk.source.annotate(task, NORMAL)
    desk.catch_up()
    assert desk.memory is not None
    desk.memory.close()
    (desk.root / "state" / FILE).write_bytes(b"this is no database at all, but long enough" * 50)
    desk.memory = None
    desk.restart()
    assert desk.catch_up() == 0 and desk.source.reads == [task, task]


def test_many_tasks_are_read_in_batches(desk: Desk) -> None:
    tasks = [desk.case(number)[1] for number in range(120)]
    for task in tasks:
        desk.source.annotate(task, NORMAL)
    assert desk.catch_up() == 120
    assert desk.source.batches == [tasks[:50], tasks[50:100], tasks[100:]]
    assert desk.source.reads == []
    assert desk.catch_up() == desk.compare() == 0
    assert len(desk.source.batches) == 3


def test_several_annotators_of_one_case_land_apart(desk: Desk) -> None:
    case, task = desk.case(1)
    desk.source.annotate(task, NORMAL, by=3)
    desk.source.annotate(task, NORMAL, by=4)
    desk.source.annotate(task, PNEUMONIA, by=5)
    assert desk.catch_up() == 3
    assert sorted(one.annotator for one in current_answers(desk.task, case)) == ["3", "4", "5"]


def lose(desk: Desk, name: str, *, unreadable: bool) -> None:
    """A share that comes back without a file, or with nothing in it."""
    path = next(desk.task.annotations.rglob(name))
    path.write_bytes(b"") if unreadable else path.unlink()
    desk.restart()


@pytest.mark.parametrize("unreadable", [False, True])
def test_an_edit_missing_on_the_nas_lands_again(desk: Desk, unreadable: bool) -> None:
    case, task = desk.case(1)
    number = desk.source.annotate(task, NORMAL)
    desk.catch_up()
    desk.source.edit(task, number, result=PNEUMONIA)
    desk.catch_up()
    lose(desk, f"{task}-{number}.r2.json", unreadable=unreadable)
    assert desk.compare() == 1
    assert only(desk, case).results == tuple(PNEUMONIA)
    assert desk.compare() == 0


@pytest.mark.parametrize("others", [0, 1])
def test_a_deletion_missing_on_the_nas_lands_again(desk: Desk, others: int) -> None:
    case, task = desk.case(1)
    number = desk.source.annotate(task, NORMAL)
    for _ in range(others):
        desk.source.annotate(task, PNEUMONIA, by=4)
    desk.catch_up()
    desk.source.delete(task, number)
    desk.catch_up()
    for _ in range(2):  # … however often, in one life of the process
        next(desk.task.annotations.rglob(f"{task}-{number}.r2.json")).unlink()
        desk.reconciler.landed.look(lambda: None, everywhere=True)
        assert desk.compare() == 1
        assert len(current_answers(desk.task, case)) == others
        assert desk.compare() == 0


def test_an_imported_label_missing_on_the_nas_lands_from_its_copy(desk: Desk) -> None:
    case, _ = desk.case(1, imported=NORMAL)
    assert desk.catch_up() == 0
    lose(desk, f"{IMPORT_KEY}.json", unreadable=False)
    assert desk.compare() == 1
    assert [list(one.results) for one in current_answers(desk.task, case)] == [NORMAL]
    assert desk.compare() == 0


def test_an_answer_that_is_no_result_list_is_not_read_at_every_comparison(desk: Desk) -> None:
    _, task = desk.case(1)
    desk.source.annotate(task, {"a": 1})
    desk.catch_up()
    desk.restart()
    desk.source.reads.clear()
    assert desk.compare() == 0
    assert desk.source.reads == []


def test_the_deletion_of_an_import_missing_on_the_nas_lands_again(desk: Desk) -> None:
    case, task = desk.case(1, imported=NORMAL)
    (copy,) = desk.source.tasks[task].annotations
    desk.catch_up()
    desk.source.delete(task, copy)
    assert desk.catch_up() == 1
    lose(desk, f"{task}-{copy}.json", unreadable=False)
    assert len(current_answers(desk.task, case)) == 1
    assert desk.compare() == 1
    assert current_answers(desk.task, case) == []
    assert desk.catch_up() == desk.compare() == 0


def test_an_answer_that_says_what_the_import_said_lands(desk: Desk) -> None:
    """Only the annotation that ingest made is a copy; what a person submits is an answer."""
    case, task = desk.case(1, imported=NORMAL)
    desk.catch_up()
    desk.source.annotate(task, NORMAL, by=3)
    assert desk.catch_up() == 1
    (counted,) = current_answers(desk.task, case)
    assert counted.annotator == "3"
    assert desk.catch_up() == desk.compare() == 0


def test_an_answer_that_says_what_the_import_said_lands_when_both_are_met_at_once(
    desk: Desk,
) -> None:
    case, task = desk.case(1, imported=NORMAL)
    desk.source.annotate(task, NORMAL, by=3)
    assert desk.catch_up() == 1
    assert [one.annotator for one in current_answers(desk.task, case)] == ["3"]


def test_the_same_answer_again_after_the_copy_was_deleted_lands(desk: Desk) -> None:
    case, task = desk.case(1, imported=NORMAL)
    (copy,) = desk.source.tasks[task].annotations
    desk.catch_up()
    desk.source.delete(task, copy)
    desk.catch_up()
    desk.source.annotate(task, NORMAL, by=3)
    assert desk.catch_up() == 1
    assert [one.annotator for one in current_answers(desk.task, case)] == ["3"]


@pytest.mark.parametrize("results", [NORMAL, PNEUMONIA])
def test_a_copy_is_still_known_for_one_when_the_memory_is_lost(desk: Desk, results: Any) -> None:
    case, task = desk.case(1, imported=NORMAL)
    desk.catch_up()
    desk.source.annotate(task, results, by=3)
    assert desk.catch_up() == 1
    desk.restart(forget=True)
    assert desk.catch_up() == desk.compare() == 0
    assert [one.annotator for one in current_answers(desk.task, case)] == ["3"]


def test_in_a_label_studio_set_up_anew_no_answer_passes_for_a_copy(desk: Desk) -> None:
    case, task = desk.case(1, imported=NORMAL)
    desk.source.annotate(task, PNEUMONIA, by=3)
    desk.catch_up()
    del desk.source.tasks[task]
    anew = desk.source.add_task(case)  # ingest gives it no label, as people have answered
    desk.source.annotate(anew, NORMAL, by=4)
    assert desk.catch_up() == 1


@pytest.mark.parametrize("others", [0, 1])
def test_a_deletion_after_the_clock_was_set_back_is_told_until_it_can_be_believed(
    desk: Desk, caplog: pytest.LogCaptureFixture, others: int
) -> None:
    right = desk.time.start
    desk.time.start = right + timedelta(days=1)
    case, task = desk.case(1)
    number = desk.source.annotate(task, NORMAL)
    for _ in range(others):
        desk.source.annotate(task, PNEUMONIA, by=4)
    desk.catch_up()
    desk.time.start = right
    desk.source.delete(task, number)  # by its times, a Label Studio restored from a backup
    for _ in range(3):
        assert desk.catch_up() == desk.compare() == 0
        assert list(desk.reconciler.set_aside) == [task]
        assert len(current_answers(desk.task, case)) == 1 + others
    assert len([one for one in caplog.records if "a clock was set back" in one.message]) == 1
    desk.restart()
    assert desk.compare() == 0
    assert list(desk.reconciler.set_aside) == [task]
    desk.time.wait(2 * 86400)
    answer = desk.source.annotate(task, NORMAL, by=5)
    desk.source.delete(task, answer)
    assert desk.catch_up() + desk.compare() == 1
    assert len(current_answers(desk.task, case)) == others
    assert desk.reconciler.set_aside == {}


def test_an_annotation_with_a_time_ahead_of_its_task_is_asked_for(desk: Desk) -> None:
    case, task = desk.case(1)
    number = desk.source.annotate(task, NORMAL)
    desk.catch_up()
    before = desk.source.tasks[task].updated_at
    desk.source.edit(task, number, result=PNEUMONIA)
    desk.source.tasks[task].updated_at = before[:-4] + "001Z"
    desk.source.hidden = {number}
    assert desk.compare() == 1
    assert current_answers(desk.task, case)[0].results == tuple(PNEUMONIA)
    assert desk.reconciler.set_aside == {}
