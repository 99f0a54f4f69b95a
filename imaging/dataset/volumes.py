"""The voxels of a snapshot's case that is a volume, and its label map, as they were frozen."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from imaging.dataset.manifest import SnapshotCase
from imaging.errors import GridMismatchError, SnapshotError
from imaging.io.nifti import read_label_volume, read_nifti
from imaging.volume import Grid, Volume


def read_case_volume(case: SnapshotCase) -> Volume:
    """All channels of a case on their common grid.

    Raises:
        VolumeError: a file is damaged.
        GridMismatchError: the channels do not share one grid.
    """
    first = read_nifti(case.image)
    if not case.more_images:
        return first
    channels = [first.voxels_CXYZ]
    for further in case.more_images:
        other = read_nifti(further.path)
        if not other.grid.is_same(first.grid):
            raise GridMismatchError(first.grid.shape_XYZ, other.grid.shape_XYZ)
        channels.append(other.voxels_CXYZ)
    return replace(first, voxels_CXYZ=np.concatenate(channels))


def read_case_labels(case: SnapshotCase, grid: Grid) -> NDArray[np.uint8]:
    """The label map of a case, XYZ.

    Raises:
        SnapshotError: the case has none.
        VolumeError: it is damaged.
        GridMismatchError: it is not on its image's grid.
    """
    if case.labels is None:
        raise SnapshotError(f"{case.case} has no label map, expected one for segmentation")
    return read_label_volume(case.labels, grid)
