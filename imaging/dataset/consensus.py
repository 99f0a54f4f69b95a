"""One answer out of several people's answers about the same case.

The rule is called *majority*: each pixel, or each class, is what most annotators said. A tie goes
to the label that is later in the scheme, as overlaps do everywhere else; background is first of
all, so of two annotators who disagree the one who drew something wins, and nothing that anybody
saw is dropped by an even vote. The answer of a single annotator is taken as it is.
"""

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from imaging.errors import GridMismatchError
from imaging.labels import LabelScheme

RULE = "majority"


def majority_label_map(maps: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """What most annotators drew, pixel by pixel.

    Args:
        maps: one label map `labels_HW` per annotator, at least one, all on one grid.

    Returns:
        A label map on that grid; where two labels have equally many votes, the higher index.

    Raises:
        GridMismatchError: the maps do not have one shape.
    """
    first = maps[0]
    for other in maps[1:]:
        if other.shape != first.shape:
            raise GridMismatchError(first.shape, other.shape)
    if len(maps) == 1:
        return first
    stack_NHW = np.stack(maps)
    winner_HW = np.zeros(first.shape, dtype=np.uint8)
    most_HW = np.zeros(first.shape, dtype=np.uint16)
    for index in np.unique(stack_NHW):  # ascending, so that ">=" gives a tie to the higher index
        votes_HW = (stack_NHW == index).sum(axis=0, dtype=np.uint16)
        wins_HW = votes_HW >= most_HW
        winner_HW[wins_HW] = index
        most_HW[wins_HW] = votes_HW[wins_HW]
    return winner_HW


def majority_classes(
    answers: Sequence[tuple[str, ...]], scheme: LabelScheme, *, multi_label: bool
) -> tuple[str, ...]:
    """What most annotators chose, in the scheme's order.

    With `multi_label` each class that at least half of them chose; otherwise the one class, or
    none, with the most votes.
    """
    if len(answers) == 1:
        return answers[0]
    if multi_label:
        votes = Counter(name for answer in answers for name in set(answer))
        return tuple(name for name in scheme.names if 2 * votes[name] >= len(answers))
    ballots = Counter(answers)
    return max(ballots, key=lambda answer: (ballots[answer], _place(answer, scheme)))


def _place(answer: tuple[str, ...], scheme: LabelScheme) -> tuple[int, ...]:
    """Sorts answers by their labels' places in the scheme; no label comes first."""
    return tuple(scheme.names.index(name) for name in answer if name in scheme.names)
