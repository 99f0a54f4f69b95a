"""Which slices of a volume annotators are offered: all of few, key slices of many."""

from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray


def key_slices(count: int, most: int) -> tuple[int, ...]:
    """At most so many slices, evenly spread, the first and the last among them.

    Args:
        count: how many slices the volume has, at least 1.
        most: how many may be offered, at least 2.
    """
    if count < 1 or most < 2:
        raise ValueError(f"{count} slices of which {most}, expected at least 1 and 2")
    if count <= most:
        return tuple(range(count))
    return tuple(np.linspace(0, count - 1, most).round().astype(int).tolist())


def unsure_slices(
    sureness_S: NDArray[np.floating], shown: Collection[int], most: int
) -> tuple[int, ...]:
    """The slices where a model is least sure, of those that nobody is shown yet; ascending.

    Neighbours look alike and are unsure together, so that of two neighbours only one is taken.

    Args:
        sureness_S: one number per slice, low = unsure; NaN = not known, which is never taken.
        shown: slices that are offered already.
        most: how many to take.
    """
    taken: list[int] = []
    for index in np.argsort(sureness_S, kind="stable").tolist():
        if len(taken) >= most:
            break
        is_near = any(abs(index - other) <= 1 for other in taken)
        if index not in shown and not is_near and not np.isnan(sureness_S[index]):
            taken.append(index)
    return tuple(sorted(taken))
