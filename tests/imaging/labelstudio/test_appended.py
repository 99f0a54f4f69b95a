from datetime import UTC, datetime, timedelta

import pytest

from imaging.errors import CodecError
from imaging.ids import utc_now
from imaging.labelstudio.appended import highest_item, items_seen, with_slices
from imaging.labelstudio.stack import items_of, slice_url

TASK, CASE = "Task001_heart", "case-0123456789abcdef"
NOON = datetime(2026, 3, 14, 12, tzinfo=UTC)


def stack(*items: int) -> dict[str, object]:
    return {"case": CASE, "slices": [slice_url(TASK, CASE, index) for index in items]}


def test_places_of_slices_that_were_there_keep_their_meaning() -> None:
    longer = with_slices(stack(0, 4, 9), TASK, (2, 6), utc_now())
    assert items_of(longer) == (0, 4, 9, 2, 6)
    assert longer["appended"]["from"] == 3


def test_a_task_of_one_picture_has_no_slices() -> None:
    assert items_seen({"image": "x.png"}, [], NOON, 5.0) is None


def test_without_anything_appended_all_slices_were_seen() -> None:
    assert items_seen(stack(0, 4, 9), [], NOON, None) == (0, 4, 9)


@pytest.mark.parametrize(
    ("lead_time_s", "item", "seen"),
    [(None, 0, 3), (300.0, 0, 3), (45.0, 0, 3), (20.0, 0, 5), (-5.0, 0, 5), (300.0, 3, 5)],
)
def test_appended_slices_count_for_whoever_opened_the_task_later_or_drew_on_one(
    lead_time_s: float | None, item: int, seen: int
) -> None:
    at = (NOON - timedelta(seconds=60)).isoformat()
    longer = with_slices(stack(0, 4, 9), TASK, (2, 6), at)
    results = [{"type": "brushlabels", "item_index": item}]
    assert items_seen(longer, results, NOON, lead_time_s) == (0, 4, 9, 2, 6)[:seen]


@pytest.mark.parametrize(
    "appended", [None, {}, {"from": 0, "at": "2026-03-14T12:00:00Z"}, {"from": 1, "at": "noon"}]
)
def test_what_says_nothing_about_the_slices_is_refused(appended: object) -> None:
    with pytest.raises(CodecError, match="appended"):
        items_seen(stack(0, 4) | {"appended": appended}, [], NOON, 1.0)


def test_the_last_place_an_answer_speaks_of() -> None:
    assert highest_item([]) == -1
    assert highest_item([{"item_index": 2}, {"type": "choices"}, {"item_index": "9"}]) == 2
