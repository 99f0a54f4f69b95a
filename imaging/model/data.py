"""A snapshot's cases as arrays in memory: decoded and preprocessed once, used in every epoch.

Half precision: a picture of 128 × 128 pixels takes 32 KiB, and 10 000 of them 330 MB.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from imaging.dataset.snapshot import SnapshotCase
from imaging.errors import SnapshotError
from imaging.io.picture import read_label_map, read_picture
from imaging.labels import LabelScheme
from imaging.model.transforms import LabelArray, preprocess, preprocess_labels
from imaging.recipes.recipe import PictureRecipe

READERS = 4  # threads; decoding releases Python's lock, and a share has its own latency


@dataclass(frozen=True, slots=True)
class Prepared:
    """Cases as network input and targets; exactly one of the two targets is set."""

    cases: tuple[str, ...]
    images_NCHW: NDArray[np.float16]
    labels_NHW: LabelArray | None  # segmentation
    classes_NK: NDArray[np.float32] | None  # classification: 1.0 for each class that holds

    def __len__(self) -> int:
        return len(self.cases)


def prepare(cases: Sequence[SnapshotCase], scheme: LabelScheme, recipe: PictureRecipe) -> Prepared:
    """Read and preprocess cases.

    Raises:
        PictureError: a picture or mask cannot be read.
        GridMismatchError: a mask is not on its picture's grid.
        SnapshotError: a case lacks the truth that the recipe's kind needs.
    """
    with ThreadPoolExecutor(READERS) as pool:
        pairs = list(pool.map(lambda case: _read(case, scheme, recipe), cases))
    shape = (len(cases), recipe.channels, *recipe.input_HW)
    images_NCHW = np.empty(shape, dtype=np.float16)
    for position, (image_CHW, _) in enumerate(pairs):
        images_NCHW[position] = image_CHW
    targets = [target for _, target in pairs]
    names = tuple(case.case for case in cases)
    if recipe.kind == "segmentation":
        empty = np.empty((0, *recipe.input_HW), dtype=np.uint8)
        return Prepared(names, images_NCHW, np.stack(targets) if targets else empty, None)
    none = np.empty((0, len(scheme.labels)), dtype=np.float32)
    return Prepared(names, images_NCHW, None, np.stack(targets) if targets else none)


def _read(
    case: SnapshotCase, scheme: LabelScheme, recipe: PictureRecipe
) -> tuple[NDArray[np.float16], NDArray[np.uint8] | NDArray[np.float32]]:
    pixels = read_picture(case.image)
    image_CHW, _ = preprocess(pixels, recipe.preprocessing)
    if recipe.kind == "classification":
        if case.classes is None:
            raise SnapshotError(f"{case.case} has no classes, expected those of a classification")
        target = np.array([name in case.classes for name in scheme.names], dtype=np.float32)
        return image_CHW.astype(np.float16), target
    if case.labels is None:
        raise SnapshotError(f"{case.case} has no label map, expected one for segmentation")
    labels_HW = read_label_map(case.labels, (pixels.shape[0], pixels.shape[1]))
    count = len(scheme.labels) + 1
    return image_CHW.astype(np.float16), preprocess_labels(labels_HW, count, recipe.preprocessing)
