"""What a recipe needs to know about a snapshot's pictures before it can be planned."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np

from imaging.dataset.snapshot import Snapshot, SnapshotCase
from imaging.errors import SnapshotError
from imaging.io.picture import read_picture

SAMPLE = 64  # pictures looked at; more would tell the same


@dataclass(frozen=True, slots=True)
class SnapshotFacts:
    """Sizes and pixel types of the pictures that train."""

    train_cases: int
    median_H: int
    median_W: int
    same_aspect: bool  # all within a few per cent of the median's aspect ratio
    colour: bool  # at least one picture is truly in colour
    bits: int | None  # 8 or 16; None when mixed


def measure_facts(snapshot: Snapshot) -> SnapshotFacts:
    """Look at up to 64 training pictures, evenly spread over the snapshot.

    Raises:
        SnapshotError: there is nothing to train on.
        PictureError: a picture of the snapshot cannot be read.
    """
    cases = [case for case in snapshot.cases if case.split == "train"]
    if not cases:
        raise SnapshotError(
            f"snapshot {snapshot.id} has no training cases",
            hint="Label cases of more patients: some are held out for validation and test.",
        )
    pixels = [read_picture(case.image) for case in spread(cases, SAMPLE)]
    heights, widths = [one.shape[0] for one in pixels], [one.shape[1] for one in pixels]
    aspect = median(heights) / median(widths)
    aspects = [height / width / aspect for height, width in zip(heights, widths, strict=True)]
    depths = Counter(one.dtype == np.uint16 for one in pixels)
    return SnapshotFacts(
        train_cases=len(cases),
        median_H=int(median(heights)),
        median_W=int(median(widths)),
        same_aspect=max(aspects) <= 1.1 and min(aspects) >= 1 / 1.1,
        colour=any(one.ndim == 3 for one in pixels),
        bits=None if len(depths) > 1 else 16 if depths[True] else 8,
    )


def spread(cases: Sequence[SnapshotCase], most: int) -> list[SnapshotCase]:
    """At most so many of the cases, evenly spread over them."""
    count = min(len(cases), most)
    return [cases[place * len(cases) // count] for place in range(count)]
