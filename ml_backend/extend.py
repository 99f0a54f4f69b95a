"""Shows annotators more of a volume: the slices where the model is least sure.

A long volume's task offers every k-th slice. Before anybody has answered or drafted, the slices
that the model finds hardest are appended to it, once in the task's life. The list is only ever
appended to, and the task's data say what came when: `imaging.labelstudio.appended` tells why.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from imaging.ids import utc_now
from imaging.labelstudio.appended import APPENDED, with_slices
from imaging.labelstudio.key_slices import unsure_slices
from imaging.labelstudio.stack import SLICES
from ml_backend.model import VolumePrediction
from ml_backend.pictures import Stack
from ml_backend.stored import OpenTask, StoredPredictions

MOST = 10  # each is one more that somebody looks at


@dataclass(frozen=True, slots=True)
class Guess:
    """A prediction to be pushed."""

    payload: dict[str, Any]
    # Of a volume: slices to append to its task first. The payload has regions for these, too, at
    # the places after the `shown` ones.
    more: tuple[int, ...] = ()
    shown: int = 0


def with_unsure_slices(
    stack: Stack, data: Mapping[str, Any], prediction: VolumePrediction
) -> Stack:
    """The stack with the slices that are to be appended to it; itself when none are."""
    if APPENDED in data or len(stack.items) >= stack.plane.count:
        return stack
    sureness_S = prediction.sureness[stack.plane.axis]
    more = unsure_slices(sureness_S, stack.items, MOST)
    return replace(stack, items=(*stack.items, *more))


def pushed_payload(
    task_name: str, stored: StoredPredictions, one: OpenTask, guess: Guess
) -> dict[str, Any]:
    """What to push for a task, after its further slices were appended where that may be.

    Raises:
        LabelStudioError: Label Studio refused.
    """
    if not guess.more:
        return guess.payload
    now = stored.unanswered_data(one.id)
    if now is not None and APPENDED not in now and now.get(SLICES) == one.data[SLICES]:
        stored.change_data(one.id, with_slices(now, task_name, guess.more, utc_now()))
        return guess.payload
    results = [each for each in guess.payload["result"] if each["item_index"] < guess.shown]
    return guess.payload | {"result": results}
