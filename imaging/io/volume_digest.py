"""The digest of a volume: what makes it the same case however often, and under whatever name or
in whatever lossless format, it comes.

Made from the voxels in RAS+ order and from where they lie, so that a volume keeps its digest when
a tool stores it with other axes first. Another type of number, or another place, is another volume.
"""

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imaging.volume import Volume

DECIMALS = 4  # of the affine, in mm: tools that convert a header keep float32, about 7 digits
BLOCK_BYTES = 8 << 20  # copied at a time, so that a large volume is not held twice


def volume_digest(volumes: Sequence[Volume]) -> str:
    """Hexadecimal SHA-256 over all channels of one case, in order.

    For each channel: shape, type of number and affine (RAS+, rounded to 1e-4), then the voxels,
    little-endian, X fastest. One volume of two channels and two of one have the same digest.
    """
    digest = hashlib.sha256()
    for volume in volumes:
        for channel_XYZ in volume.voxels_CXYZ:
            little = channel_XYZ.dtype.newbyteorder("<")
            affine = np.round(volume.grid.affine, DECIMALS) + 0.0  # -0.0 becomes 0.0
            header = (channel_XYZ.shape, little.str, affine.tolist())
            digest.update(repr(header).encode())
            for block_ZYX in _blocks(channel_XYZ.T):
                digest.update(np.ascontiguousarray(block_ZYX, dtype=little).data)
    return digest.hexdigest()


def case_id(volumes: Sequence[Volume]) -> str:
    """`case-<16 hex>`: what the case of these channels is called."""
    return f"case-{volume_digest(volumes)[:16]}"


def values_digest(channel_XYZ: NDArray[Any]) -> str:
    """Hexadecimal SHA-256 over the shape and values of one channel alone.

    The same for a copy that was saved as another type of number, or with another header: whoever
    asks whether a model saw a volume must not be misled by either.
    """
    digest = hashlib.sha256(repr(channel_XYZ.shape).encode())
    for block_ZYX in _blocks(channel_XYZ.T):
        values = np.ascontiguousarray(block_ZYX, dtype="<f8") + 0.0
        digest.update(values.data)
    return digest.hexdigest()


def _blocks(array_ZYX: NDArray[Any]) -> Iterator[NDArray[Any]]:
    planes = max(1, BLOCK_BYTES // max(1, array_ZYX[:1].nbytes))
    for start in range(0, len(array_ZYX), planes):
        yield array_ZYX[start : start + planes]
