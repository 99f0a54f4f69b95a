"""Label schemes: which structures or classes a task knows, in which order and colour.

The order is part of the meaning: a label's index is its place (from 1; 0 is background), and
where two regions overlap the label with the higher index wins, so "tumour" is listed after
the "kidney" it lies in.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from imaging.errors import RecordError

# Twenty colours that stay apart on grey images, also for most colour-blind readers.
# Source: S. Trubetskoy, "List of 20 simple, distinct colors" (2017).
PALETTE = (
    "#e6194b", "#3cb44b", "#ffe119", "#4363d8", "#f58231", "#911eb4", "#46f0f0", "#f032e6",
    "#bcf60c", "#fabebe", "#008080", "#e6beff", "#9a6324", "#fffac8", "#800000", "#aaffc3",
    "#808000", "#ffd8b1", "#000075", "#a9a9a9",
)  # fmt: skip
COLOR = re.compile(r"#[0-9a-fA-F]{6}")
MAX_LABELS = 255  # label maps of pictures are uint8


@dataclass(frozen=True, slots=True)
class Label:
    """A named structure or class. `index` is its value in a label map."""

    name: str
    index: int
    color: str

    @property
    def rgb(self) -> tuple[int, int, int]:
        return int(self.color[1:3], 16), int(self.color[3:5], 16), int(self.color[5:7], 16)


@dataclass(frozen=True, slots=True)
class LabelScheme:
    """The ordered set of labels of one task; build it with `label_scheme`."""

    labels: tuple[Label, ...]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(label.name for label in self.labels)

    def find(self, name: str) -> Label | None:
        """The label of that name, or None."""
        return next((label for label in self.labels if label.name == name), None)


def label_scheme(names: Sequence[str], colors: Sequence[str | None] = ()) -> LabelScheme:
    """A scheme with indices 1, 2, … in the order given.

    Args:
        names: label names, unique, as annotators will see them.
        colors: `#rrggbb` per name; absent or None takes the next colour of the palette.

    Raises:
        RecordError: no names, too many, a duplicate, an empty name or a bad colour.
    """
    if not 0 < len(names) <= MAX_LABELS:
        raise RecordError(f"found {len(names)} labels, expected 1 to {MAX_LABELS}")
    labels = []
    for position, name in enumerate(names):
        color = colors[position] if position < len(colors) else None
        color = color or PALETTE[position % len(PALETTE)]
        if not name.strip() or name != name.strip() or not name.isprintable():
            raise RecordError(f"label {position + 1} is {name!r:.60}, expected a plain name")
        if not COLOR.fullmatch(color):
            raise RecordError(f"label {name!r:.60} has color {color!r:.60}, expected #rrggbb")
        labels.append(Label(name, position + 1, color))
    if len(set(names)) != len(names):
        raise RecordError(f"labels repeat: {', '.join(names):.200}")
    return LabelScheme(tuple(labels))


def indices_in(labels: NDArray[np.uint8]) -> list[int]:
    """The indices that a label map holds, ascending, background among them.

    Slice by slice: numpy's bincount makes eight bytes of every voxel.
    """
    counts = np.zeros(MAX_LABELS + 1, dtype=np.int64)
    for part in labels:
        counts += np.bincount(part.ravel(), minlength=len(counts))
    return [int(index) for index in np.flatnonzero(counts)]
