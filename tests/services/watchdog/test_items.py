"""Answers about volumes land with the slices that whoever answered was shown."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from imaging.dataset.annotations import AnnotationRecord, current_answers, newest_revisions
from imaging.dataset.request import freeze_and_request
from imaging.labelstudio.stack import slice_url
from imaging.task import save_task
from services.watchdog.retrain import Desk as Counter
from services.watchdog.source import TaskRow
from tests.imaging.dataset.lab import (
    SHAPE_XYZ,
    VOLUMES,
    block,
    import_label_map,
    make_case,
    make_volume,
)
from tests.services.watchdog.test_reconcile import Desk
from tests.services.watchdog.test_source import ROW, source_over, task

DRAWN = {"type": "brushlabels", "item_index": 1, "value": {"brushlabels": ["liver"]}}


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    (tmp_path / "nas").mkdir()
    desk = Desk(tmp_path)
    yield desk
    assert desk.memory is not None
    desk.memory.close()


def volume(desk: Desk, items: tuple[int, ...], imported: Any = None) -> tuple[str, int]:
    """A case of eight slices, and its task, which shows some of them."""
    number = len(desk.source.tasks)
    case = make_volume(desk.task, number)
    ls_task = desk.source.add_task(case, imported)
    desk.source.change_data(ls_task, case=case, slices=urls(desk, case, items))
    return case, ls_task


def urls(desk: Desk, case: str, items: tuple[int, ...]) -> list[str]:
    return [slice_url(desk.task.name, case, index) for index in items]


def extend(desk: Desk, case: str, ls_task: int, more: tuple[int, ...]) -> None:
    shown = desk.source.tasks[ls_task].data["slices"]
    appended = {"from": len(shown), "at": desk.time.now().isoformat()}
    desk.source.change_data(ls_task, slices=shown + urls(desk, case, more), appended=appended)


def landed(desk: Desk, case: str) -> Any:
    (record,) = newest_revisions(desk.task, case)
    return record


def test_an_answer_lands_with_the_slices_that_its_task_shows(desk: Desk) -> None:
    case, ls_task = volume(desk, (0, 3, 7))
    desk.source.annotate(ls_task, [DRAWN])
    assert desk.catch_up() == 1
    assert landed(desk, case).items == (0, 3, 7)


def test_an_answer_about_a_picture_has_no_slices(desk: Desk) -> None:
    case, ls_task = desk.case(1)
    desk.source.annotate(ls_task, [])
    desk.catch_up()
    assert landed(desk, case).items is None


def test_slices_appended_after_an_answer_do_not_touch_it(desk: Desk) -> None:
    case, ls_task = volume(desk, (0, 3, 7))
    number = desk.source.annotate(ls_task, [DRAWN])
    desk.catch_up()
    extend(desk, case, ls_task, (4, 5))
    assert desk.catch_up() == desk.compare() == 0
    assert desk.files() == [f"{ls_task}-{number}.json"]
    assert landed(desk, case).items == (0, 3, 7)


@pytest.mark.parametrize(
    ("results", "lead_time", "seen"),
    [
        ([DRAWN], 5, True),  # opened afterwards
        ([DRAWN], 600, False),  # the editor was open already: nobody saw what was appended …
        ([DRAWN], None, False),
        ([DRAWN | {"item_index": 4}], 600, True),  # … unless they drew on it
    ],
)
def test_an_editor_that_was_open_when_slices_were_appended_did_not_show_them(
    desk: Desk, results: Any, lead_time: float | None, seen: bool
) -> None:
    case, ls_task = volume(desk, (0, 3, 7))
    extend(desk, case, ls_task, (4, 5))
    desk.time.wait(300)
    desk.source.annotate(ls_task, results, lead_time=lead_time)
    desk.catch_up()
    assert landed(desk, case).items == ((0, 3, 7, 4, 5) if seen else (0, 3, 7))


def test_an_edit_is_about_the_slices_that_counted_before_and_those_it_draws_on(
    desk: Desk,
) -> None:
    case, ls_task = volume(desk, (0, 3, 7))
    extend(desk, case, ls_task, (4, 5))
    number = desk.source.annotate(ls_task, [DRAWN], lead_time=600)
    desk.catch_up()
    for results, items in (
        ([], (0, 3, 7)),
        ([DRAWN | {"item_index": 4}], (0, 3, 7, 4, 5)),
        ([DRAWN], (0, 3, 7, 4, 5)),
    ):
        desk.time.wait(300)
        desk.source.edit(ls_task, number, result=results, lead_time=1)
        desk.catch_up()
        assert landed(desk, case).items == items


def test_the_copy_of_a_label_map_says_nothing_about_slices_appended_to_its_task(
    desk: Desk,
) -> None:
    """The label map came later than the slices; its copy shows nothing on them."""
    case, ls_task = volume(desk, (0, 3, 7), imported=[DRAWN])
    extend(desk, case, ls_task, (4, 5))
    old = "2020-01-01T00:00:00.000000Z"
    digest = _digest_of([DRAWN])
    import_label_map(desk.task, case, block(2), shown_digest=digest, updated_at=old)
    desk.compare()
    desk.time.wait(300)
    (copy,) = desk.source.tasks[ls_task].annotations
    desk.source.edit(ls_task, copy, result=[DRAWN | {"item_index": 2}], lead_time=1)
    assert desk.catch_up() == 1
    assert current_answers(desk.task, case)[0].items == (0, 3, 7)


def test_slices_appended_and_answered_after_the_listing_are_read_again(desk: Desk) -> None:
    case, ls_task = volume(desk, (0, 3, 7))
    listed = desk.source.row(1, ls_task)
    extend(desk, case, ls_task, (4, 5))
    desk.source.annotate(ls_task, [DRAWN | {"item_index": 4}])
    desk.source.changed = lambda project, since: iter([listed])  # type: ignore[assignment,method-assign]
    listed = replace(listed, answers=1, updated_at="2026-03-14T12:00:09.000000Z")  # type: ignore[type-var]
    assert desk.catch_up() == 1
    assert landed(desk, case).items == (0, 3, 7, 4, 5)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        ({"slices": "gone"}, "slices is 'gone'"),
        ({"slices": ["/data/local-files/?d=x/slices/a.png"]}, "a slice is"),
        ({"slices": [f"/x/slices/000{SHAPE_XYZ[2]}.png"]}, "shows slice 8, expected 0 to 7"),
        ({"appended": {"from": 9, "at": "2026-03-14T09:15:02Z"}}, "appended.from is 9"),
        ({"appended": 3}, "appended is 3"),
    ],
)
def test_a_task_whose_slices_cannot_be_read_is_set_aside_and_lands_once_mended(
    desk: Desk, data: dict[str, Any], reason: str
) -> None:
    case, ls_task = volume(desk, (0, 3, 7))
    sound = dict(desk.source.tasks[ls_task].data)
    desk.source.change_data(ls_task, **data)
    number = desk.source.annotate(ls_task, [DRAWN | {"item_index": 0}])
    assert desk.catch_up() == desk.compare() == 0
    assert reason in desk.reconciler.set_aside[ls_task] and desk.files() == []
    desk.source.tasks[ls_task].data.clear()
    desk.source.change_data(ls_task, **sound)
    assert desk.compare() == 1
    assert desk.reconciler.set_aside == {} and desk.files() == [f"{ls_task}-{number}.json"]
    assert landed(desk, case).items == (0, 3, 7)


def test_a_volume_shown_as_a_picture_and_a_picture_shown_as_slices_are_set_aside(
    desk: Desk,
) -> None:
    _, shown_whole = volume(desk, (0,))
    desk.source.tasks[shown_whole].data = {"image": "x.png"}
    desk.source.annotate(shown_whole, [])
    case = make_case(desk.task, 1)
    sliced = desk.source.add_task(case)
    desk.source.change_data(sliced, slices=urls(desk, case, (0, 1)))
    desk.source.annotate(sliced, [])
    desk.catch_up()
    assert "its case is a volume" in desk.reconciler.set_aside[shown_whole]
    assert "its case is a picture" in desk.reconciler.set_aside[sliced]


def test_what_label_studio_repeats_of_an_imported_label_map_does_not_land_again(
    desk: Desk,
) -> None:
    case, ls_task = volume(desk, (0, 3, 7), imported=[DRAWN])
    shown = {"updated_at": "2020-01-01T00:00:00.000000Z", "items": (0, 3, 7)}
    digest = _digest_of([DRAWN])
    import_label_map(desk.task, case, block(2), shown_digest=digest, **shown)
    assert desk.compare() == 0
    (answer,) = current_answers(desk.task, case)
    assert answer.origin == "import"
    (copy,) = desk.source.tasks[ls_task].annotations
    desk.source.edit(ls_task, copy, result=[DRAWN | {"item_index": 2}], by=5)
    assert desk.catch_up() == 1
    (answer,) = current_answers(desk.task, case)
    assert (answer.origin, answer.annotator, answer.items) == ("label_studio", "5", (0, 3, 7))


def test_an_empty_answer_is_no_copy_of_an_imported_label_map(desk: Desk) -> None:
    """A label map's record holds no results, as the answer that nothing is there."""
    case, ls_task = volume(desk, (0, 3, 7))
    import_label_map(desk.task, case, block(2), updated_at="2020-01-01T00:00:00.000000Z")
    desk.source.annotate(ls_task, [])
    assert desk.compare() == 1
    assert current_answers(desk.task, case)[0].origin == "label_studio"


def test_a_case_counts_as_new_only_until_its_answer_is_frozen(desk: Desk, tmp_path: Path) -> None:
    save_task(desk.task.config, VOLUMES)
    for _ in range(4):
        case, _ = volume(desk, tuple(range(SHAPE_XYZ[2])))
        import_label_map(desk.task, case, block(2))
    desk.reconciler.landed.look(lambda: None, everywhere=True)
    counter = Counter(desk.nas, desk.reconciler, tmp_path / "report.json")
    now = desk.time.now()
    counter.look(now, lambda: None)
    assert counter.report.new == 4
    freeze_and_request(desk.nas, desk.task, VOLUMES, requested_by="person", reason="test")
    counter.look(now, lambda: None)
    assert (counter.report.new, counter.report.labelled) == (0, 4)


def _digest_of(results: list[Any]) -> str:
    return AnnotationRecord("c", "1-1", "import", "import", "", tuple(results)).digest


# --- reading them -----------------------------------------------------------------------------


def test_answers_to_a_stack_that_are_too_large_together_are_read_one_by_one() -> None:
    answers = {number: {"id": number, "result": ["x" * 600]} for number in (7, 8)}

    def serve(request: httpx.Request) -> httpx.Response:
        match request.url.path.strip("/").split("/"):
            case ["api", "tasks", "1", "annotations"]:
                return httpx.Response(200, json=list(answers.values()))
            case ["api", "annotations", number]:
                return httpx.Response(200, json=answers[int(number)])
        last = "greater" in json.dumps(json.loads(request.url.params["query"]))
        return httpx.Response(200, json={"tasks": [task(1)] if last else []})

    source = source_over(serve, max_answers_bytes=1000)
    stack = replace(ROW, data={"slices": ["a"]})
    found = source.annotations(1, stack)
    assert found is not None and [one["id"] for one in found] == [7, 8]


def test_stacks_are_not_read_in_batches(desk: Desk) -> None:
    for _ in range(12):
        _, ls_task = volume(desk, (0, 3, 7))
        desk.source.annotate(ls_task, [DRAWN])
    assert desk.compare() == 12
    assert desk.source.batches == [] and len(desk.source.reads) == 12


def test_a_row_says_what_its_task_shows() -> None:
    stack = TaskRow(1, "case-1", "", "", 1, 0, data={"slices": []})
    assert stack.is_stack and not ROW.is_stack
