"""What a volume file may claim, checked before anything of its size is allocated.

The reason of a VolumeError is a keyword for whoever dropped the file; services/ingest/README.md
lists them.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imaging.errors import VolumeError
from imaging.volume import Grid, grid_of

ORDINARY = ("uint8", "int16", "uint16", "int32", "float32")  # the types a Volume holds
# deflate cannot do better: 258 bytes for two bits, see RFC 1951.
MAX_DEFLATE_RATIO = 1032
NOT_FINITE = "were not finite numbers"
MAX_NON_FINITE = 0.5  # share of the voxels


@dataclass(frozen=True, slots=True)
class VolumeLimits:
    """How much a volume may claim. The defaults admit a whole-body CT of 512 × 512 × 4000."""

    max_bytes: int = 8 << 30  # of one file
    max_voxels: int = 1 << 30
    min_side: int = 2  # voxels along every axis of a NIfTI or NRRD file
    min_slices: int = 3  # of a DICOM series
    min_spacing_mm: float = 0.01
    max_spacing_mm: float = 100.0


LIMITS = VolumeLimits()


def check_shape(shape: Sequence[int], limits: VolumeLimits) -> tuple[int, int, int]:
    """The three sides that a header claims; further axes of length 1 are dropped.

    Raises:
        VolumeError: reason `not-3d`, `too-small` or `too-many-voxels`.
    """
    sides = [int(side) for side in shape]
    while len(sides) > 3 and sides[-1] == 1:
        sides.pop()
    if len(sides) != 3:
        what = "several volumes in one file" if len(sides) > 3 else "a picture or a list"
        raise VolumeError(
            f"{len(sides)} axes of lengths {_listed(sides)} ({what}), expected 3 axes",
            reason="not-3d",
            hint="Export each time point, echo or channel as a file of its own.",
        )
    if min(sides) < limits.min_side:
        raise VolumeError(
            f"a volume of {_listed(sides)} voxels, expected at least {limits.min_side} each way",
            reason="too-small",
        )
    if math.prod(sides) > limits.max_voxels:
        raise VolumeError(
            f"a header that claims {_listed(sides)} voxels, more than {limits.max_voxels} in all",
            reason="too-many-voxels",
        )
    return sides[0], sides[1], sides[2]


def check_claim(claimed_bytes: int, held_bytes: int, *, is_gzip: bool) -> None:
    """Make sure that a file can hold what its header claims.

    Raises:
        VolumeError: reason `truncated`: not even the best compression gets it in there.
    """
    most = held_bytes * MAX_DEFLATE_RATIO if is_gzip else held_bytes
    if claimed_bytes > most:
        raise VolumeError(
            f"a header that claims {claimed_bytes} bytes of voxels in a file of {held_bytes} bytes",
            reason="truncated",
        )


def check_grid(shape: Sequence[int], affine: NDArray[Any], limits: VolumeLimits) -> Grid:
    """The grid of an array as it is stored.

    Args:
        shape: three sides.
        affine: 4 × 4, voxel index → world mm, RAS+.
        limits: what voxels may measure.

    Raises:
        VolumeError: reason `affine` (not finite, or voxels without a volume) or `spacing` (zero,
            or no size that a scanner makes).
    """
    if affine.shape != (4, 4) or not np.isfinite(affine).all():
        raise VolumeError("an affine that is not 4 × 4 finite numbers", reason="affine")
    with np.errstate(over="ignore"):
        edges_mm = np.linalg.norm(affine[:3, :3], axis=0)
    if not ((edges_mm >= limits.min_spacing_mm) & (edges_mm <= limits.max_spacing_mm)).all():
        found = " × ".join(f"{edge:g}" for edge in edges_mm.tolist())
        raise VolumeError(
            f"voxels of {found} mm, expected {limits.min_spacing_mm:g} to "
            f"{limits.max_spacing_mm:g} mm each way",
            reason="spacing",
        )
    if abs(np.linalg.det(affine[:3, :3] / edges_mm)) < 1e-3:  # 0.06° from lying in one plane
        raise VolumeError("an affine whose three axes lie in one plane", reason="affine")
    return grid_of(shape, affine)


def ordinary(voxels: NDArray[Any]) -> tuple[NDArray[Any], tuple[str, ...]]:
    """Voxels in one of the types that a Volume holds, values unchanged, and notes.

    Floating point comes as float32. Where a part is not finite (outside the field of view, as
    some programs write it), the smallest finite value stands in its place, and a note says so.

    Raises:
        VolumeError: reason `voxel-type` (no numbers, or too large for float32) or `not-finite`
            (more than half of the voxels).
    """
    if voxels.dtype.kind in "iu":
        return _whole(voxels), ()
    if voxels.dtype.kind != "f":
        raise VolumeError(f"voxels of type {voxels.dtype}, expected numbers", reason="voxel-type")
    with np.errstate(over="ignore", invalid="ignore"):
        narrow = voxels.astype(np.float32, copy=False)
        # A sum is finite only if every part is; it costs a tenth of looking at each.
        total = narrow.sum()
    if np.isfinite(total):
        return narrow, ()
    return _mended(narrow)


def _mended(voxels: NDArray[Any]) -> tuple[NDArray[Any], tuple[str, ...]]:
    bad = ~np.isfinite(voxels)
    count = int(bad.sum())
    if count == 0:
        return voxels, ()
    if count > MAX_NON_FINITE * voxels.size:
        raise VolumeError(
            f"{count} of {voxels.size} voxels are not finite numbers", reason="not-finite"
        )
    lowest = voxels[~bad].min()
    voxels[bad] = lowest
    return voxels, (f"{count} voxels {NOT_FINITE}; {lowest:g}, the smallest value, stands there",)


def _whole(voxels: NDArray[Any]) -> NDArray[Any]:
    native = voxels.dtype.newbyteorder("=")
    if native.name in ORDINARY:
        return voxels.astype(native, copy=False)
    if native.name == "int8":
        return voxels.astype(np.int16)
    low, high = (int(voxels.min()), int(voxels.max())) if voxels.size else (0, 0)
    for name in ("int16", "int32"):
        if np.iinfo(name).min <= low and high <= np.iinfo(name).max:
            return voxels.astype(name)
    if max(-low, high) > 1 << 24:  # beyond it float32 skips whole numbers
        raise VolumeError(f"voxel values from {low} to {high}", reason="voxel-type")
    return voxels.astype(np.float32)


def _listed(sides: Sequence[int]) -> str:
    return " × ".join(str(side) for side in sides[:8])
