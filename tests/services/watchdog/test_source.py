import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import httpx
import pytest

from services.watchdog import source as source_module
from services.watchdog.errors import TooLargeError
from services.watchdog.source import LabelStudioSource, TaskRow, stamp
from stack.runtime.label_studio import LabelStudio, LabelStudioDownError, LabelStudioError

Handler = Callable[[httpx.Request], httpx.Response]


ROW = TaskRow(1, "case-1", "", "", 1, 0)


def source_over(handler: Handler, **options: Any) -> LabelStudioSource:
    client = LabelStudio("http://label-studio.test", "token")
    client.http.close()
    client.http = httpx.Client(
        base_url=client.url, transport=httpx.MockTransport(handler), verify=False
    )
    return LabelStudioSource(client, **options)


def task(number: int, **fields: Any) -> dict[str, Any]:
    return {
        "id": number,
        "data": {"case": f"case-{number}"},
        "created_at": "2026-03-14T09:15:02Z",
        "updated_at": "2026-03-14T09:15:02.5Z",
        "total_annotations": 1,
        "cancelled_annotations": 1,
        "annotations_ids": "7,8",
    } | fields


class Listing:
    """Serves tasks by number, as Label Studio filters and orders them."""

    def __init__(self, count: int) -> None:
        self.tasks = [task(number) for number in range(1, count + 1)]
        self.queries: list[dict[str, Any]] = []
        self.after_page: Callable[[], None] = lambda: None

    def __call__(self, request: httpx.Request) -> httpx.Response:
        query = json.loads(request.url.params["query"])
        self.queries.append(query)
        assert query["ordering"] == ["tasks:id"] and "page" not in request.url.params
        last = next(
            item["value"]
            for item in query["filters"]["items"]
            if item["filter"] == "filter:tasks:id" and item["operator"] == "greater"
        )
        size = int(request.url.params["page_size"])
        page = [one for one in self.tasks if one["id"] > last][:size]
        self.after_page()
        return httpx.Response(200, json={"tasks": page, "total": len(self.tasks)})


def test_a_listing_is_read_page_by_page_without_results(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source_module, "PAGE_ROWS", 4)
    listing = Listing(10)
    rows = list(source_over(listing).changed(1, None))
    assert [row.id for row in rows] == list(range(1, 11)) and len(listing.queries) == 3
    assert rows[0].case == "case-1" and (rows[0].answers, rows[0].skipped) == (1, 1)
    assert rows[0].annotations == {7, 8}


def test_tasks_deleted_while_paging_hide_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source_module, "PAGE_ROWS", 4)
    listing = Listing(10)

    def delete_the_first() -> None:
        listing.tasks = [one for one in listing.tasks if one["id"] > 2]

    listing.after_page = delete_the_first
    assert [row.id for row in source_over(listing).changed(1, None)][4:] == list(range(5, 11))


def test_changed_tasks_are_asked_for_by_time() -> None:
    listing = Listing(1)
    list(source_over(listing).changed(1, "2026-01-01T00:00:00.000000Z"))
    (first, _) = listing.queries[0]["filters"]["items"]
    assert (first["filter"], first["operator"]) == ("filter:tasks:updated_at", "greater")


def test_a_list_of_numbers_that_was_cut_counts_as_unknown() -> None:
    listing = Listing(1)
    listing.tasks[0]["annotations_ids"] = ("123456," * 100)[:500]
    (row,) = source_over(listing).annotated(1)
    assert row.annotations is None


@pytest.mark.parametrize("data", [None, [], {"case": 7}, {"image": "x"}])
def test_tasks_of_other_people_have_no_case(data: Any) -> None:
    listing = Listing(1)
    listing.tasks[0]["data"] = data
    (row,) = source_over(listing).changed(1, None)
    assert row.case == ""


def test_times_compare_as_texts_also_without_a_fraction() -> None:
    assert stamp("2026-03-14T09:15:02Z") == "2026-03-14T09:15:02.000000Z"
    assert stamp("2026-03-14T10:15:02+01:00") == "2026-03-14T09:15:02.000000Z"


def test_skipped_answers_are_fetched_one_by_one_where_there_are_any() -> None:
    listing = Listing(3)
    listing.tasks[0]["annotations_ids"] = "7,8,9"

    def answer(request: httpx.Request) -> httpx.Response:
        path = request.url.path
        if path == "/api/tasks":
            return listing(request)
        if path == "/api/tasks/1/annotations/":
            return httpx.Response(200, json=[{"id": 8}])
        if path == "/api/annotations/9/":
            return httpx.Response(200, json={"id": 9, "was_cancelled": True})
        return httpx.Response(404)

    source = source_over(answer)
    assert source.annotations(1, ROW) == [{"id": 8}]
    assert listing.queries == []
    found = source.annotations(1, replace(ROW, skipped=1))
    assert found == [{"id": 8}, {"id": 9, "was_cancelled": True}]
    assert source.annotation(7) is None


def test_many_tasks_come_in_one_call() -> None:
    queries: list[dict[str, Any]] = []

    def answer(request: httpx.Request) -> httpx.Response:
        queries.append(json.loads(request.url.params["query"]))
        assert request.url.params["fields"] == "all"
        tasks = [task(number, annotations=[{"id": number * 10}]) for number in (3, 5)]
        return httpx.Response(200, json={"tasks": tasks, "total": 3})

    rows = [replace(ROW, id=number) for number in (5, 3)]
    assert source_over(answer).many(1, rows) == {3: [{"id": 30}], 5: [{"id": 50}]}
    assert [item["value"] for item in queries[0]["filters"]["items"]] == [[5, 3]]


@pytest.mark.parametrize("answer", [httpx.Response(500), httpx.Response(200, content=b"x" * 2000)])
def test_a_batch_that_fails_is_left_to_single_calls(answer: httpx.Response) -> None:
    assert source_over(lambda _: answer, max_answers_bytes=1000).many(1, [ROW]) == {}


def test_answers_beyond_the_limit_are_refused_before_they_are_held() -> None:
    body = json.dumps([{"id": 1, "result": "x" * 5000}]).encode()

    def answer(_: httpx.Request) -> httpx.Response:
        return httpx.Response(200, content=body)

    assert source_over(answer).annotations(1, ROW) is not None
    with pytest.raises(TooLargeError):
        source_over(answer, max_answers_bytes=1000).annotations(1, ROW)


@pytest.mark.parametrize(
    ("status", "error"), [(503, LabelStudioDownError), (500, LabelStudioError)]
)
def test_errors_of_label_studio_are_told_apart(status: int, error: type[Exception]) -> None:
    with pytest.raises(error):
        source_over(lambda _: httpx.Response(status)).annotations(1, ROW)


def test_a_task_that_is_gone_is_no_error() -> None:
    assert source_over(lambda _: httpx.Response(404)).annotations(1, ROW) is None


def test_a_broken_connection_is_a_label_studio_that_is_down() -> None:
    def refuse(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused", request=request)

    with pytest.raises(LabelStudioDownError):
        source_over(refuse).annotations(1, ROW)
    with pytest.raises(LabelStudioDownError):
        source_over(refuse).model_version(1)


def test_a_prediction_that_is_gone_has_no_version() -> None:
    assert source_over(lambda _: httpx.Response(404, json={})).model_version(1) is None
    found = httpx.Response(200, json={"model_version": "model-1"})
    assert source_over(lambda _: found).model_version(1) == "model-1"


def test_a_project_is_known_by_the_first_line_of_its_description() -> None:
    pages = [
        [{"id": 9, "description": "Task001_heart\nmore words"}],
        [{"id": 8, "description": "Task001_heart"}, {"id": 7, "description": None}],
    ]

    def answer(request: httpx.Request) -> httpx.Response:
        page = int(request.url.params["page"])
        found = {"next": "…" if page < len(pages) else None, "results": pages[page - 1]}
        return httpx.Response(200, json=found)

    assert source_over(answer).projects() == {"Task001_heart": 9, "": 7}
