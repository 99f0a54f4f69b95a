"""NRRD files, as 3D Slicer and pyradiomics write them: read and checked.

pynrrd knows the header; voxels are read here, bounded by what the header was checked for. A file
has to say which way its axes run: one that does not is refused, for left and right would be
guessed. Voxels in another file are refused too, since the header could name any path.
"""

import bz2
import io
import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO, cast

import nrrd
import numpy as np
from isal import igzip
from numpy.typing import NDArray

from imaging.errors import VolumeError
from imaging.io.inflate import check_end, opened, read_exactly
from imaging.io.volume_checks import (
    LIMITS,
    VolumeLimits,
    check_claim,
    check_grid,
    check_shape,
    ordinary,
)
from imaging.volume import Volume, to_ras

MAGIC = b"NRRD000"
MAX_HEADER = 1 << 20
TO_RAS = {  # signs of world x, y, z on the way to RAS+
    "right-anterior-superior": (1.0, 1.0, 1.0),
    "ras": (1.0, 1.0, 1.0),
    "left-anterior-superior": (-1.0, 1.0, 1.0),
    "las": (-1.0, 1.0, 1.0),
    "left-posterior-superior": (-1.0, -1.0, 1.0),
    "lps": (-1.0, -1.0, 1.0),
    "scanner-xyz": None,
}


def read_nrrd(path: Path, limits: VolumeLimits = LIMITS) -> Volume:
    """The volume in a .nrrd file: one channel, RAS+.

    Raises:
        VolumeError: the file is damaged, or not one 3-D volume on a usable grid.
        OSError: it cannot be read.
    """
    return read_nrrd_with_header(path, limits)[0]


def read_nrrd_with_header(
    path: Path, limits: VolumeLimits = LIMITS
) -> tuple[Volume, dict[str, str]]:
    """The volume, and the header's own key/value pairs (3D Slicer names segments there)."""
    with opened(path, limits) as (stream, size, _):
        header = _header(stream)
        shape = check_shape([int(side) for side in header["sizes"]], limits)
        affine, notes = _affine(header)
        grid = check_grid(shape, affine, limits)
        dtype = _dtype(header)
        claimed = dtype.itemsize * int(np.prod(shape, dtype=np.int64))
        data = _data(stream, header, claimed, size)
    stored = data.view(dtype).reshape(shape, order="F")
    voxels, more = ordinary(stored)
    pairs = {str(key): value for key, value in header.items() if isinstance(value, str)}
    return Volume(to_ras(voxels, grid)[None], grid, notes=(*notes, *more)), pairs


def _header(stream: BinaryIO) -> Mapping[str, Any]:
    """The header's fields; the stream stands at the voxels afterwards."""
    lines, held = [], 0
    for line in iter(lambda: stream.readline(MAX_HEADER), b""):
        held += len(line)
        if held > MAX_HEADER:
            raise VolumeError("an NRRD header of more than 1 MB", reason="broken")
        lines.append(line)
        if not line.strip():
            break
    if not lines or not lines[0].startswith(MAGIC):
        raise VolumeError("no NRRD file", reason="not-a-volume")
    try:
        header = cast(Mapping[str, Any], nrrd.read_header(io.BytesIO(b"".join(lines))))
    except (nrrd.NRRDError, ValueError, TypeError, KeyError, IndexError, OverflowError) as error:
        raise VolumeError(f"a damaged NRRD header ({error})", reason="broken") from error
    missing = {"type", "dimension", "sizes", "encoding"} - set(header)
    if missing:
        raise VolumeError(f"an NRRD header without {sorted(missing)}", reason="broken")
    if "data file" in header or "datafile" in header:
        raise VolumeError(
            "an NRRD header whose voxels lie in another file",
            reason="not-a-volume",
            hint="Save the volume as one .nrrd file and drop that.",
        )
    if header.get("byte skip", 0) not in (0, -1) or header.get("line skip", 0) != 0:
        raise VolumeError("an NRRD file that skips bytes", reason="broken")
    return header


def _affine(header: Mapping[str, Any]) -> tuple[NDArray[np.float64], tuple[str, ...]]:
    space = str(header.get("space", "")).lower()
    signs = TO_RAS.get(space)
    if signs is None or "space directions" not in header:
        raise VolumeError(
            f"an NRRD file of space {space or 'not said'!r}: which way its axes run is unknown",
            reason="no-orientation",
            hint="Save it with 3D Slicer, which writes space and space directions.",
        )
    directions = np.array(header["space directions"], dtype=np.float64)[:3]
    given = header.get("space origin")
    origin = np.zeros(3) if given is None else np.array(given, dtype=np.float64)
    if directions.shape != (3, 3) or origin.shape != (3,):
        raise VolumeError("directions or an origin that are not 3 numbers each", reason="affine")
    notes = () if given is not None else ("the file does not say where it lies; origin is 0",)
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = directions.T, origin
    return np.diag([*signs, 1.0]) @ affine, notes


def _dtype(header: Mapping[str, Any]) -> np.dtype[Any]:
    try:
        name = nrrd.reader._TYPEMAP_NRRD2NUMPY[str(header["type"])]
        order = {"big": ">", "little": "<"}.get(str(header.get("endian", "little")).lower(), "<")
        dtype: np.dtype[Any] = np.dtype(name).newbyteorder(order)
    except (KeyError, TypeError, ValueError) as error:
        raise VolumeError(f"voxels of type {header['type']!r:.40}", reason="voxel-type") from error
    if dtype.kind not in "iuf":
        raise VolumeError(f"voxels of type {dtype}", reason="voxel-type")
    return dtype


def _data(
    stream: BinaryIO, header: Mapping[str, Any], claimed: int, size: int
) -> NDArray[np.uint8]:
    encoding = str(header["encoding"]).lower()
    if encoding == "raw":
        check_claim(claimed, size, is_gzip=False)
        data = read_exactly(stream, claimed)
        check_end(stream)
    elif encoding in ("gzip", "gz"):
        check_claim(claimed, size, is_gzip=True)
        with igzip.open(stream) as inflated:
            data = read_exactly(cast(BinaryIO, inflated), claimed)
            check_end(cast(BinaryIO, inflated))
    elif encoding in ("bzip2", "bz2"):
        try:
            with bz2.open(stream) as unpacked:
                data = read_exactly(cast(BinaryIO, unpacked), claimed)
        except (OSError, EOFError) as error:
            if isinstance(error, OSError) and error.errno is not None:  # the share, not the data
                raise
            raise VolumeError(f"damaged bzip2 data ({error})", reason="truncated") from error
    else:
        raise VolumeError(
            f"an NRRD file with encoding {encoding!r:.20}, expected raw, gzip or bzip2",
            reason="voxel-type",
        )
    return data


def segment_names(pairs: Mapping[str, str]) -> dict[int, str]:
    """Value → name of the segments that 3D Slicer lists in a .seg.nrrd header; often none."""
    names: dict[int, str] = {}
    for number in itertools.count():
        name, value = (pairs.get(f"Segment{number}_{what}") for what in ("Name", "LabelValue"))
        if name is None or value is None:
            return names
        if value.isdecimal():
            names[int(value)] = name
    return names
