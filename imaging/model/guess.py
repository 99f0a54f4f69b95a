"""The best answer without looking at the image: what a first champion has to beat.

For masks, where a label lies on average; for classes, the same even odds for everybody. A model
that learned nothing (shuffled labels, all-black input) can do no better than this.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from imaging.errors import ScoreError
from imaging.labels import LabelScheme
from imaging.model.metrics import LabelMap

# Pictures differ in size: shares are counted on a grid of 64 × 64 fields, 4 KiB per map; those of
# volumes on one of 32 × 32 × 32, 32 KiB per map.
FIELDS = {2: (64, 64), 3: (32, 32, 32)}
MAX_MAPS = 500  # a mean over more changes in the third digit only
SHARES = np.arange(0.05, 1.0, 0.05)


@dataclass(frozen=True, slots=True)
class MaskGuess:
    """One label map for every picture or volume, whatever its size; see `guess_masks`."""

    fields_HW: NDArray[np.uint8]  # XYZ for volumes

    def at(self, shape_HW: tuple[int, ...]) -> NDArray[np.uint8]:
        """The guess on a picture or volume of the given sides."""
        return _resized(self.fields_HW, shape_HW)


def guess_masks(training_maps: Iterable[LabelMap], scheme: LabelScheme) -> MaskGuess:
    """The fixed label map that agrees best with the training maps.

    Each label is drawn where it lies in at least a certain share of the maps; the share is the
    one with the highest mean Dice on these maps.

    Args:
        training_maps: label maps HW or XYZ of the training cases, of any sizes; the first 500
            count.
        scheme: the labels.

    Raises:
        ScoreError: there are no maps.
    """
    maps = [
        _resized(labels_HW, FIELDS[labels_HW.ndim]) for labels_HW in islice(training_maps, MAX_MAPS)
    ]
    if not maps:
        raise ScoreError("found no training maps, expected at least one")
    maps_NHW = np.stack(maps)
    guess_HW = np.zeros(maps_NHW.shape[1:], dtype=np.uint8)
    strongest_HW = np.zeros(maps_NHW.shape[1:])
    for label in scheme.labels:
        held_NHW = maps_NHW == label.index
        share_HW = held_NHW.mean(axis=0)
        drawn_HW = (share_HW >= _best_share(held_NHW, share_HW)) & (share_HW > strongest_HW)
        guess_HW[drawn_HW] = label.index
        strongest_HW[drawn_HW] = share_HW[drawn_HW]
    return MaskGuess(guess_HW)


def guess_classes(
    cases: int, scheme: LabelScheme, *, multi_label: bool = False
) -> NDArray[np.float64]:
    """Probabilities NK of somebody who knows nothing: even odds, in every case.

    `quadratic_scores` weighs the classes evenly, so no fixed answer scores higher, however
    common one class is.
    """
    odds = 0.5 if multi_label else 1 / len(scheme.labels)
    return np.full((cases, len(scheme.labels)), odds)


def _best_share(held_NHW: NDArray[np.bool_], share_HW: NDArray[np.float64]) -> float:
    """The share from which on drawing the label gives the highest mean Dice."""
    axes = tuple(range(1, held_NHW.ndim))
    shown_NHW = held_NHW[held_NHW.any(axis=axes)]
    if not len(shown_NHW):
        return 1.0
    sizes_N = shown_NHW.sum(axis=axes)
    dice = []
    for share in SHARES:
        drawn_HW = share_HW >= share
        dice.append(
            float(np.mean(2 * shown_NHW[:, drawn_HW].sum(axis=1) / (sizes_N + drawn_HW.sum())))
        )
    return float(SHARES[int(np.argmax(dice))])


def _resized(labels_HW: LabelMap, shape_HW: tuple[int, ...]) -> NDArray[np.uint8]:
    """Nearest neighbour, centre of field to centre of field."""
    places = (
        ((np.arange(after) + 0.5) * before / after).astype(np.intp)
        for before, after in zip(labels_HW.shape, shape_HW, strict=True)
    )
    return labels_HW[np.ix_(*places)].astype(np.uint8)
