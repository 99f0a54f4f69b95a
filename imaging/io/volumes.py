"""Volumes as single files, and label maps for them, whatever their format.

What a file is, its bytes decide, never its name. DICOM series are folders: `imaging/io/dicom/`.
"""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imaging.errors import VolumeError
from imaging.io.inflate import regular_file
from imaging.io.nifti import channels_of, read_nifti
from imaging.io.nrrd import read_nrrd, read_nrrd_with_header, segment_names
from imaging.io.sniff import DICOM, NIFTI, NRRD, describe_stranger, volume_format
from imaging.io.volume_checks import LIMITS, NOT_FINITE, VolumeLimits
from imaging.labels import MAX_LABELS, LabelScheme
from imaging.volume import Grid, Volume

__all__ = [
    "LIMITS",
    "LabelArray",
    "VolumeLimits",
    "holds_all",
    "read_labels",
    "read_volume",
    "same_place",
]

LabelArray = NDArray[np.uint8]
HEAD_BYTES = 512
SHOWN = 8  # values named in a message
# Where qform and sform of one image differ, or numbers were rounded, corners lie this far apart.
LABEL_TOLERANCE = 0.05  # of the smallest voxel edge


def read_volume(path: Path, limits: VolumeLimits = LIMITS, channels: int = 1) -> Volume:
    """The volume in one NIfTI or NRRD file, RAS+: one channel, or all of `channels` in a NIfTI.

    Raises:
        VolumeError: it is no such file, is damaged, or holds no single 3-D volume on a usable grid.
        OSError: it cannot be read.
    """
    found = _format(path)
    return read_nifti(path, limits, channels) if found == NIFTI else read_nrrd(path, limits)


def holds_all(path: Path, channels: int) -> bool:
    """Whether one file holds so many channels, more than one, by what its header claims.

    Raises:
        OSError: it cannot be read.
    """
    try:
        return channels > 1 and _format(path) == NIFTI and channels_of(path) == channels
    except VolumeError:
        return False  # reading it says what is wrong


def read_labels(path: Path, grid: Grid, scheme: LabelScheme | None) -> LabelArray:
    """A label map in a NIfTI or NRRD file, on its image's grid.

    Any number type will do as long as the values are whole: 0 for background and a label's index.
    With one label, 0 and 255 will do too. Where 3D Slicer named the segments, names decide.

    Args:
        path: the file.
        grid: the image's.
        scheme: the task's labels; None takes any values up to 255.

    Returns:
        uint8 XYZ, one index per voxel.

    Raises:
        VolumeError: as `read_volume`; `other-grid`: it lies elsewhere than the image;
            `label-values`: values that are no label's.
        OSError: it cannot be read.
    """
    names: dict[int, str] = {}
    if _format(path) == NIFTI:
        volume = read_nifti(path)
    else:
        volume, pairs = read_nrrd_with_header(path)
        names = segment_names(pairs)
    strange = next((note for note in volume.notes if NOT_FINITE in note), None)
    if strange is not None:
        raise VolumeError(f"a label map where {strange}", reason="label-values")
    check_same_place(volume.grid, grid)
    values_XYZ = volume.voxels_CXYZ[0]
    if names and scheme is not None:
        return _by_name(values_XYZ, names, scheme)
    return _labels(values_XYZ, scheme)


def check_same_place(found: Grid, expected: Grid) -> None:
    """Make sure that a label source lies on its image's grid, voxel by voxel.

    Raises:
        VolumeError: reason `other-grid`.
    """
    if not same_place(found, expected):
        raise VolumeError(
            f"a label map of {_sides(found)} voxels at {_corner(found)} mm on another grid than "
            f"its image of {_sides(expected)} at {_corner(expected)}",
            reason="other-grid",
            hint="Export the label map on the grid of the image that it belongs to.",
        )


def same_place(found: Grid, expected: Grid) -> bool:
    """Whether voxels coincide, up to what rounding and quaternions do to a header's numbers."""
    return found.is_same(expected, LABEL_TOLERANCE * min(expected.spacing_mm))


def _format(path: Path) -> str:
    with regular_file(path) as stream:
        head = stream.read(HEAD_BYTES)
    if not head:
        raise VolumeError("a file without content (0 bytes)", reason="empty")
    found = volume_format(head)
    if found == DICOM:
        raise VolumeError("a DICOM file, expected NIfTI or NRRD", reason="not-a-volume")
    if found not in (NIFTI, NRRD):
        raise VolumeError(
            f"{describe_stranger(head)}, expected NIfTI, NRRD or DICOM", reason="not-a-volume"
        )
    return found


def _labels(values_XYZ: NDArray[Any], scheme: LabelScheme | None) -> LabelArray:
    most = len(scheme.labels) if scheme else MAX_LABELS
    low, high = values_XYZ.min(), values_XYZ.max()
    is_whole = values_XYZ.dtype.kind in "iu" or bool((values_XYZ == np.rint(values_XYZ)).all())
    if is_whole and low >= 0 and high <= most:
        return values_XYZ.astype(np.uint8, order="C")
    if scheme and most == 1 and is_whole and set(np.unique(values_XYZ).tolist()) <= {0, 255}:
        return np.ascontiguousarray(values_XYZ == 255).astype(np.uint8)
    raise VolumeError(
        f"a label map with values {_some(np.unique(values_XYZ))}, expected whole numbers from 0 to "
        f"{most}",
        reason="label-values",
    )


def _by_name(values_XYZ: NDArray[Any], names: dict[int, str], scheme: LabelScheme) -> LabelArray:
    """The scheme's index for each segment's value; names compare without case."""
    indices = {label.name.casefold(): label.index for label in scheme.labels}
    labels_XYZ = np.zeros(values_XYZ.shape, dtype=np.uint8)
    for value in np.unique(values_XYZ).tolist():
        if value == 0:
            continue
        name = names.get(value, "")  # 1.5 is no segment's value; 1.0 is that of 1
        index = indices.get(name.strip().casefold())
        if index is None:
            raise VolumeError(
                f"a segment {name!r:.40} of value {value:g}, expected one of "
                f"{', '.join(scheme.names)}",
                reason="label-values",
            )
        labels_XYZ[values_XYZ == value] = index
    return labels_XYZ


def _some(values: NDArray[Any]) -> str:
    shown = ", ".join(f"{value:g}" for value in values[:SHOWN].tolist())
    return shown if len(values) <= SHOWN else f"{shown}, … ({len(values)} in all)"


def _sides(grid: Grid) -> str:
    return " × ".join(map(str, grid.shape_XYZ))


def _corner(grid: Grid) -> str:
    return "(" + ", ".join(f"{value:.2f}" for value in grid.affine[:3, 3].tolist()) + ")"
