"""Label maps cleaned after the network: stray pieces removed, holes filled, label by label.

Which of it helps is tried on validation cases, and only that is kept; the bundle says what was.
Pieces hang together across faces, edges and corners, as MONAI's `KeepLargestConnectedComponent`
counts them.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from imaging.labels import LabelScheme
from imaging.model.cleaning import Cleaning, Cleanings
from imaging.resample import LabelArray

Mask = NDArray[np.bool_]
TOUCHING = np.ones((3, 3, 3), dtype=bool)
MIN_GAIN = 0.001  # of a label's mean Dice; less is luck
MOST_PIECES = 3  # a structure of more pieces is one that may have any number


def clean(
    labels_XYZ: LabelArray, cleanings: Cleanings, scheme: LabelScheme, voxel_mm3: float
) -> None:
    """Clean a label map where it stands.

    Args:
        labels_XYZ: label map, changed in place.
        cleanings: what to do, by the label's name.
        scheme: the labels; the first is cleaned first.
        voxel_mm3: volume of a voxel.
    """
    wanted = [label for label in scheme.labels if label.name in cleanings]
    if not wanted:
        return
    boxes = ndimage.find_objects(labels_XYZ, max(label.index for label in wanted))
    for label in wanted:
        box = boxes[label.index - 1]
        if box is not None:
            part = labels_XYZ[box]
            was = part == label.index
            now = cleaned(was, cleanings[label.name], voxel_mm3)
            part[was & ~now] = 0
            part[now & (part == 0)] = label.index


def cleaned(mask_XYZ: Mask, cleaning: Cleaning, voxel_mm3: float) -> Mask:
    """One label's mask, cleaned."""
    if cleaning.min_size_mm3 > 0 or cleaning.pieces > 0:
        pieces, count = ndimage.label(mask_XYZ, TOUCHING)
        if count > 1 or cleaning.min_size_mm3 > 0:
            sizes = np.bincount(pieces.ravel())
            sizes[0] = 0
            stays = sizes * voxel_mm3 >= max(cleaning.min_size_mm3, voxel_mm3 / 2)
            if cleaning.pieces > 0:
                largest = np.argsort(-sizes, kind="stable")[: cleaning.pieces]
                stays &= np.isin(np.arange(len(sizes)), largest)
            mask_XYZ = stays[pieces]
    if cleaning.fill_holes:
        filled: Mask = ndimage.binary_fill_holes(mask_XYZ)
        return filled
    return mask_XYZ


def choose_cleanings(
    cases: Iterable[tuple[LabelArray, LabelArray, float]], scheme: LabelScheme
) -> dict[str, Cleaning]:
    """The cleanings that make validation cases better, by label; often none.

    A step is kept when a label's mean Dice rises by at least 0.001 and more cases get better than
    worse. Steps are tried alone and on top of those that were kept.

    Args:
        cases: truth and uncleaned answer on one grid, and the volume of a voxel in mm³.
        scheme: the labels.
    """
    parts: dict[str, list[_Part]] = {label.name: [] for label in scheme.labels}
    for truth_XYZ, pred_XYZ, voxel_mm3 in cases:  # only the boxes around labels are kept of them
        for label in scheme.labels:
            part = _part(truth_XYZ, pred_XYZ, label.index, voxel_mm3)
            if part is not None:
                parts[label.name].append(part)
    found = {name: _best(held) for name, held in parts.items() if held}
    return {name: cleaning for name, cleaning in found.items() if cleaning != Cleaning()}


@dataclass(frozen=True, slots=True, eq=False)
class _Part:
    """One label of one case, around what truth and answer show of it."""

    truth: Mask
    pred: Mask
    free: Mask  # where the answer is background, so that holes may be filled
    voxel_mm3: float

    def dice(self, cleaning: Cleaning) -> float:
        """1 where nothing is left of what is not there: that is what cleaning is for."""
        now = cleaned(self.pred, cleaning, self.voxel_mm3) & (self.pred | self.free)
        voxels = int(self.truth.sum()) + int(now.sum())
        return 2 * int((self.truth & now).sum()) / voxels if voxels else 1.0

    def truth_pieces_mm3(self) -> list[float]:
        pieces, _ = ndimage.label(self.truth, TOUCHING)
        return [size * self.voxel_mm3 for size in np.bincount(pieces.ravel())[1:].tolist()]


def _part(
    truth_XYZ: LabelArray, pred_XYZ: LabelArray, index: int, voxel_mm3: float
) -> _Part | None:
    truth, pred = truth_XYZ == index, pred_XYZ == index
    boxes = ndimage.find_objects((truth | pred).view(np.uint8), 1)
    if not boxes or boxes[0] is None:
        return None
    box = boxes[0]
    return _Part(truth[box].copy(), pred[box].copy(), pred_XYZ[box] == 0, voxel_mm3)


def _best(parts: Sequence[_Part]) -> Cleaning:
    """Steps added one by one, the most helpful first, while one helps."""
    best = Cleaning()
    scores = np.array([part.dice(best) for part in parts])
    steps = _steps(parts)
    while True:
        tried = []
        for step in steps:
            changed = replace(best, **step)
            dice = np.array([part.dice(changed) for part in parts])
            gain = float((dice - scores).mean())
            helps = gain >= MIN_GAIN and (dice > scores).sum() > (dice < scores).sum()
            if changed != best and helps:
                tried.append((gain, changed, dice))
        if not tried:
            return best
        _, best, scores = max(tried, key=lambda one: one[0])


def _steps(parts: Sequence[_Part]) -> list[dict[str, Any]]:
    """What may be tried: as many pieces as the truth has, half its smallest piece, no holes."""
    sizes = [part.truth_pieces_mm3() for part in parts]
    steps: list[dict[str, Any]] = [{"fill_holes": True}]
    most = max(map(len, sizes))
    if 0 < most <= MOST_PIECES:
        steps.append({"pieces": most})
    smallest = [min(one) for one in sizes if one]
    if smallest:
        steps.append({"min_size_mm3": round(min(smallest) / 2, 3)})
    return steps
