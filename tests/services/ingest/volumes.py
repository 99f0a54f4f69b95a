"""Small volumes as files, each with different voxels and sides that cannot be mistaken."""

import nibabel
import numpy as np
from isal import igzip
from numpy.typing import NDArray

SHAPE = (9, 11, 13)
AFFINE = np.array([[-1.0, 0, 0, 30], [0, 1.5, 0, -20], [0, 0, 2.0, 5], [0, 0, 0, 1]])


def nifti(array: NDArray[np.generic], affine: NDArray[np.float64] = AFFINE) -> bytes:
    """A .nii.gz of an array in the file's own order."""
    return bytes(igzip.compress(nibabel.Nifti1Image(array, affine).to_bytes(), mtime=0))


def volume(seed: int, shape: tuple[int, int, int] = SHAPE) -> bytes:
    """A .nii.gz with voxels that differ for every seed."""
    random = np.random.default_rng(seed)
    return nifti(random.integers(0, 1000, shape, dtype=np.int16))


def label_array(shape: tuple[int, int, int] = SHAPE, *, top: int = 2) -> NDArray[np.uint8]:
    """A label map without symmetry: labels 1 … top, each a block."""
    labels = np.zeros(shape, dtype=np.uint8)
    labels[2:5, 3:9, 4:11] = 1
    for index in range(2, top + 1):
        labels[2:4, 3:6, 2 + index] = index
    return labels


def labels(shape: tuple[int, int, int] = SHAPE, *, top: int = 2) -> bytes:
    return nifti(label_array(shape, top=top))
