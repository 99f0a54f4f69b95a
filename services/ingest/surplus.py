"""Removes tasks that a case has too many of, as far as nobody has touched them.

Two come of an import that Label Studio committed after it was given up and repeated. What people
did in a task is never thrown away: a task with an answer, a skip or a draft stays.
"""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from stack.runtime.label_studio import LabelStudio

log = logging.getLogger(__name__)


def remove_surplus(client: LabelStudio, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The task to go on with, of all that one case has; further untouched ones are deleted.

    Args:
        client: Label Studio.
        rows: the case's tasks as a listing without annotations shows them; at least one.

    Raises:
        LabelStudioError: a call failed.
    """
    first, *others = sorted(rows, key=lambda row: (not _is_answered(row), int(row["id"])))
    for row in others:
        path = f"/api/tasks/{row['id']}/"
        # A listing shows nobody's drafts; this does, and it is fresh.
        if not _is_answered(row) and _is_untouched(client.call("GET", path)):
            client.call("DELETE", path)
            log.info("task %s of Label Studio was a second one for its case; removed", row["id"])
    return first


def _is_answered(row: Mapping[str, Any]) -> bool:
    return bool(row.get("total_annotations") or row.get("cancelled_annotations"))


def _is_untouched(task: Mapping[str, Any]) -> bool:
    is_empty = not _is_answered(task) and not task.get("annotations")
    return is_empty and task.get("draft_exists") is False
