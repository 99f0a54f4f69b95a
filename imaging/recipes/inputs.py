"""How pictures of a task become network input: the part of planning that all recipes share."""

from imaging.recipes.facts import SnapshotFacts
from imaging.recipes.recipe import Fit, Normalisation, Preprocessing


def plan_input(
    facts: SnapshotFacts, *, long_side: int, step: int, shortest_side: int
) -> Preprocessing:
    """Input size and intensity scaling for these pictures.

    Args:
        facts: what the pictures look like.
        long_side: longest input side the machine can afford, in pixels.
        step: both sides become multiples of this.
        shortest_side: what the network needs at least, a multiple of `step`.

    Returns:
        The median picture's grid, shrunk to `long_side` but never enlarged by more than
        rounding, tiny pictures excepted. Pictures of one aspect ratio are stretched onto it,
        which then distorts next to nothing; mixed ones are padded to a square, so that anatomy
        keeps its proportions.
    """
    scale = min(1.0, long_side / max(facts.median_H, facts.median_W))
    height = max(shortest_side, _rounded(facts.median_H * scale, step))
    width = max(shortest_side, _rounded(facts.median_W * scale, step))
    fit: Fit = "stretch" if facts.same_aspect else "pad"
    if fit == "pad":
        height = width = max(height, width)
    # In colour the ratio of the channels is the stain: a fixed range keeps it. Grey values of
    # MR, X-ray and microscopes have no common scale, and percentiles survive burnt-in text.
    fixed = facts.colour and facts.bits is not None
    normalisation: Normalisation = "range" if fixed else "percentile"
    return Preprocessing(
        input_H=height,
        input_W=width,
        channels=3 if facts.colour else 1,
        fit=fit,
        normalisation=normalisation,
        low_percentile=1.0,
        high_percentile=99.0,
        range_max=65535.0 if facts.bits == 16 else 255.0,
    )


def _rounded(side: float, step: int) -> int:
    return round(side / step) * step
