"""Slices that were appended to a task's stack, and who has seen them.

A back end may append the slices where the model is least sure to a task that nobody has answered.
An editor that is open at that moment goes on showing the shorter list, and Label Studio does not
say which list an answer was given with. A slice that was never shown must not count as one on
which nothing is there, so the task's data say what was appended when:

    {"case": "case-…", "slices": […], "appended": {"from": 100, "at": "2026-03-14T09:15:02Z"}}
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from imaging.errors import CodecError
from imaging.ids import parse_utc
from imaging.labelstudio.stack import SLICES, items_of, slice_url

APPENDED = "appended"
# Label Studio's clock dates an answer, the back end's the appending; mostly they are one machine's.
CLOCKS_APART_S = 30.0


def with_slices(
    data: Mapping[str, Any], task_name: str, more: Sequence[int], at: str
) -> dict[str, Any]:
    """A task's data with further slices at the end of its stack.

    Args:
        data: the task's data now.
        task_name: the task folder.
        more: slices that it does not show.
        at: now, ISO 8601 UTC.
    """
    shown = list(data[SLICES])
    urls = [slice_url(task_name, str(data["case"]), index) for index in more]
    return {**data, SLICES: shown + urls, APPENDED: {"from": len(shown), "at": at}}


def items_seen(
    data: Mapping[str, Any],
    results: Sequence[Mapping[str, Any]],
    answered_at: datetime,
    lead_time_s: float | None,
) -> tuple[int, ...] | None:
    """The slices that whoever gave an answer was shown; None for a task of one picture.

    Slices that were appended count where the answer speaks of one of them, or where the editor
    was opened later: it reports how long it was open.

    Args:
        data: the task's data now.
        results: the answer.
        answered_at: when it was given, or changed last.
        lead_time_s: how long that took, all sessions together; None = not known.

    Raises:
        CodecError: the slices, or what was appended to them, cannot be read.
    """
    if SLICES not in data:
        return None
    items = items_of(data)
    if APPENDED not in data:
        return items
    first, at = _appended(data[APPENDED], len(items))
    if any(_item(result) >= first for result in results):
        return items
    if lead_time_s is not None:
        # Time in earlier sessions makes this earlier than it was, never later.
        opened_at = answered_at - timedelta(seconds=max(lead_time_s, 0.0) + CLOCKS_APART_S)
        if opened_at > at:
            return items
    return items[:first]


def highest_item(results: Sequence[Mapping[str, Any]]) -> int:
    """The last place in a stack that an answer speaks of; -1 for none."""
    return max(map(_item, results), default=-1)


def _item(result: Mapping[str, Any]) -> int:
    item = result.get("item_index")
    return item if isinstance(item, int) else -1


def _appended(record: Any, count: int) -> tuple[int, datetime]:
    try:
        first, at = int(record["from"]), parse_utc(str(record["at"]))
    except (KeyError, TypeError, ValueError) as error:
        raise CodecError(f"{APPENDED} is {record!r:.100}, expected from and at") from error
    if not 0 < first <= count:
        raise CodecError(f"{APPENDED}.from is {first}, expected 1 to {count}, a place in {SLICES}")
    return first, at
