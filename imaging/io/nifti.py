"""NIfTI files: read fast and checked, written small and exactly on their image's grid.

nibabel knows the header, the choice between sform and qform, and the format; voxels are read here,
because nibabel would inflate whatever a file holds and takes 2.5 times as long.
"""

from pathlib import Path
from typing import Any, BinaryIO

import nibabel
import numpy as np
from isal import igzip
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray

from imaging.errors import GridMismatchError, VolumeError
from imaging.io.inflate import check_end, opened, read_exactly
from imaging.io.sniff import NIFTI, volume_format
from imaging.io.volume_checks import (
    LIMITS,
    VolumeLimits,
    check_claim,
    check_grid,
    check_shape,
    ordinary,
)
from imaging.publish import write_bytes
from imaging.volume import Grid, Volume, to_ras, to_stored

SUFFIX = ".nii.gz"
LabelArray = NDArray[np.uint8]
SIZES = {1: 348, 2: 540}  # bytes of the header, by version
UNITS = {1: "metres", 3: "micrometres"}  # of xyzt_units; 0 = not said, 2 = mm
SCALED_AT_ONCE = 1 << 22  # voxels


def read_nifti(path: Path, limits: VolumeLimits = LIMITS, channels: int = 1) -> Volume:
    """The volume in a .nii or .nii.gz file, RAS+: one channel.

    With several `channels` a file may hold them all: a fourth axis of just that length, as the
    Decathlon stores T1, T2 and FLAIR of one case.

    The affine is the one that nibabel takes: sform, else qform, else made of the voxel sizes.
    Values are scaled as the header says; whole numbers stay whole numbers.

    Raises:
        VolumeError: the file is damaged, or not one 3-D volume on a usable grid.
        OSError: it cannot be read.
    """
    with opened(path, limits) as (stream, size, is_gzip):
        header = _header(stream)
        sides = header.get_data_shape()
        together = channels > 1 and sides[3:] == (channels,)
        shape = check_shape(sides[:3] if together else sides, limits)
        dtype = _dtype(header)
        grid = check_grid(shape, _affine(header), limits)
        count = channels if together else 1
        claimed = dtype.itemsize * int(np.prod((*shape, count), dtype=np.int64))
        check_claim(claimed, size, is_gzip=is_gzip)
        _skip(stream, _offset(header) - header.sizeof_hdr)
        data = read_exactly(stream, claimed)
        check_end(stream)
    stored = data.view(dtype).reshape((*shape, count), order="F")
    voxels, notes = ordinary(_scaled(stored, header))
    voxels_CXYZ = np.moveaxis(to_ras(voxels, grid), 3, 0)
    return Volume(voxels_CXYZ, grid, notes=(*_header_notes(header), *notes))


def channels_of(path: Path, limits: VolumeLimits = LIMITS) -> int:
    """How many channels a file holds by its header: the length of a fourth axis, else 1.

    Raises:
        VolumeError: it has no NIfTI header.
        OSError: it cannot be read.
    """
    with opened(path, limits) as (stream, _, _):
        sides = _header(stream).get_data_shape()
    return int(sides[3]) if len(sides) == 4 else 1


def write_nifti(path: Path, array_XYZ: NDArray[Any], grid: Grid) -> None:
    """Write one array in the order of the grid's own file, in one step."""
    if array_XYZ.shape != grid.shape_XYZ:
        raise GridMismatchError(grid.shape_XYZ, array_XYZ.shape)
    image = nibabel.Nifti1Image(to_stored(array_XYZ, grid), np.array(grid.stored_affine))
    image.header.set_xyzt_units("mm")
    # No time in the gzip header: the same label map has the same hash, whenever it was written.
    write_bytes(path, igzip.compress(image.to_bytes(), compresslevel=1, mtime=0))


def read_label_volume(path: Path, grid: Grid) -> LabelArray:
    """The label map in a file that Labloop wrote, XYZ.

    Raises:
        GridMismatchError: it lies on another grid than its image.
        VolumeError: it is damaged, or no label map.
    """
    volume = read_nifti(path)
    if not volume.grid.is_same(grid):
        raise GridMismatchError(grid.shape_XYZ, volume.grid.shape_XYZ)
    labels_XYZ = volume.voxels_CXYZ[0]
    if labels_XYZ.dtype != np.uint8:
        raise VolumeError(
            f"a label map of {labels_XYZ.dtype}, expected uint8", reason="label-values"
        )
    return np.ascontiguousarray(labels_XYZ)


def write_label_volume(path: Path, labels_XYZ: LabelArray, grid: Grid) -> None:
    """Write a label map on its image's grid."""
    write_nifti(path, labels_XYZ, grid)


def _header(stream: BinaryIO) -> Any:
    head = stream.read(SIZES[1])
    if volume_format(head) != NIFTI:
        raise VolumeError("no NIfTI file", reason="not-a-volume")
    version = 2 if head[4:6] in (b"n+", b"ni") else 1
    head += stream.read(SIZES[version] - SIZES[1])
    if len(head) < SIZES[version]:
        raise VolumeError(f"a NIfTI file of {len(head)} bytes", reason="truncated")
    made: Any = nibabel.Nifti1Header if version == 1 else nibabel.Nifti2Header
    try:
        header = made(head, check=False)
        is_pair = bytes(header["magic"].tobytes()[:2]) == b"ni"
    except (HeaderDataError, ValueError, TypeError) as error:
        raise VolumeError(f"a damaged NIfTI header ({error})", reason="broken") from error
    if is_pair:
        raise VolumeError(
            "a NIfTI header whose voxels lie in another file",
            reason="not-a-volume",
            hint="Save the volume as one file, .nii or .nii.gz, and drop that.",
        )
    if not 0 <= int(header["dim"][0]) <= 7 or (header["dim"][1:] < 0).any():
        raise VolumeError(f"sides of {header['dim'].tolist()}", reason="broken")
    return header


def _dtype(header: Any) -> np.dtype[Any]:
    try:
        dtype: np.dtype[Any] = header.get_data_dtype()
    except (HeaderDataError, KeyError, ValueError) as error:
        raise VolumeError(f"unknown voxels ({error})", reason="voxel-type") from error
    if dtype.kind not in "iuf" or dtype.itemsize > 8:
        raise VolumeError(
            f"voxels of type {dtype.name} (colour or complex?), expected numbers",
            reason="voxel-type",
        )
    return dtype


def _affine(header: Any) -> NDArray[np.float64]:
    unit = int(header["xyzt_units"]) & 7
    if unit in UNITS:
        raise VolumeError(f"voxel sizes in {UNITS[unit]}, expected mm", reason="spacing")
    sizes_mm = header["pixdim"][1:4]
    if not np.isfinite(sizes_mm).all():
        raise VolumeError(f"voxel sizes of {sizes_mm.tolist()} mm", reason="spacing")
    try:
        with np.errstate(all="ignore"):
            affine: NDArray[np.float64] = np.asarray(header.get_best_affine(), dtype=np.float64)
    except (HeaderDataError, ValueError, np.linalg.LinAlgError) as error:
        raise VolumeError(f"an affine that cannot be ({error})", reason="affine") from error
    return affine


def _offset(header: Any) -> int:
    offset = float(header["vox_offset"])
    if not header.sizeof_hdr <= offset <= 1 << 30 or not offset.is_integer():
        raise VolumeError(f"voxels that begin at byte {offset:g}", reason="broken")
    return int(offset)


def _skip(stream: BinaryIO, count: int) -> None:
    while count > 0:
        got = len(stream.read(min(count, 1 << 20)))
        if got == 0:
            raise VolumeError("the file ends before its voxels begin", reason="truncated")
        count -= got


def _scaled(stored: NDArray[Any], header: Any) -> NDArray[Any]:
    """slope · value + intercept; whole numbers of 16 bits where nothing is lost by it."""
    try:
        slope, intercept = header.get_slope_inter()
    except HeaderDataError as error:
        raise VolumeError(f"a scale that cannot be ({error})", reason="broken") from error
    if slope is None or (slope, intercept) == (1.0, 0.0):
        return stored
    if stored.dtype.kind in "iu" and slope.is_integer() and intercept.is_integer():
        ends = [int(slope) * int(end) + int(intercept) for end in (stored.min(), stored.max())]
        for kind in (np.int16, np.int32):
            if np.iinfo(kind).min <= min(ends) and max(ends) <= np.iinfo(kind).max:
                return _affinely(stored, slope, intercept, np.dtype(kind))
    return _affinely(stored, slope, intercept, np.dtype(np.float32))


def _affinely(
    stored: NDArray[Any], slope: float, intercept: float, dtype: np.dtype[Any]
) -> NDArray[Any]:
    flat = stored.reshape(-1, order="F")
    made = np.empty(flat.shape, dtype=dtype)
    for start in range(0, flat.size, SCALED_AT_ONCE):  # float64 in between, a part at a time
        part = flat[start : start + SCALED_AT_ONCE].astype(np.float64)
        with np.errstate(over="ignore", invalid="ignore"):
            made[start : start + SCALED_AT_ONCE] = part * slope + intercept
    return made.reshape(stored.shape, order="F")


def _header_notes(header: Any) -> tuple[str, ...]:
    if int(header["sform_code"]) == 0 and int(header["qform_code"]) == 0:
        return ("the file does not say how it lies in the patient; left and right are assumed",)
    return ()
