"""Pixels of DICOM images: stored values, whatever their transfer syntax, bit depth and sign.

Uncompressed pixels are read straight from their place in the file. Compressed ones are decoded by
pydicom's plugins: OpenJPEG for JPEG 2000, CharLS for JPEG-LS, Pillow for JPEG; RLE is pydicom's
own. Lossless JPEG takes GDCM, see `jpeg_lossless.py`: pydicom's way to it ends the process where
a stream is damaged.
"""

import struct
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.encaps import get_frame
from pydicom.pixels.utils import pixel_array
from pydicom.uid import (
    UID,
    JPEG2000TransferSyntaxes,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSTransferSyntaxes,
    RLELossless,
)

from imaging.errors import VolumeError
from imaging.io.dicom.frames import Frame
from imaging.io.dicom.header import DicomFile, explained, whole_dataset
from imaging.io.dicom.jpeg_lossless import decode_jpeg_lossless

LOSSLESS_JPEG = frozenset({JPEGLossless, JPEGLosslessSV1})
PLUGINS = {
    **dict.fromkeys((JPEGBaseline8Bit, JPEGExtended12Bit), "pillow"),
    **dict.fromkeys(JPEG2000TransferSyntaxes, "pylibjpeg"),
    **dict.fromkeys(JPEGLSTransferSyntaxes, "pyjpegls"),
}
JPEG_SIZE_MARKERS = frozenset({*range(0xC0, 0xD0), 0xF7}) - {0xC4, 0xC8, 0xCC}


def plugin_of(syntax: UID) -> str:
    """The decoder for a transfer syntax, by pydicom's name; empty for uncompressed pixels.

    Never GDCM, which pydicom would ask first: it is not up to damaged streams.
    """
    if syntax == RLELossless:
        return "pydicom"
    return PLUGINS.get(syntax, "pylibjpeg" if syntax.is_encapsulated else "")


class PixelSource:
    """Stored values of images; a compressed file of many is read once for all of them."""

    def __init__(self, frames: Sequence[Frame]) -> None:
        counts = Counter(frame.file for frame in frames)
        self._whole = {
            file: _whole(file)
            for file, count in counts.items()
            if count > 1 and file.pixels_at is None
        }

    def stored(self, frame: Frame) -> NDArray[Any]:
        """The stored values of one image, before any rescaling.

        Returns:
            HW integers; bits beyond BitsStored (overlays of old scanners) are taken off.

        Raises:
            VolumeError: `broken`: they cannot be decoded; `truncated`; `too-many-voxels`: the
                compressed stream claims another size than the header.
            OSError: the file cannot be read.
        """
        file = frame.file
        if file.pixels_at is not None:
            return _within_bits(_plain(file, frame), file)
        dataset = self._whole.get(file) or _whole(file)
        return _within_bits(_decoded(dataset, frame), file)


def _whole(file: DicomFile) -> Dataset:
    with explained("pixels that cannot be decoded"):
        return whole_dataset(file.path, file.header)


def _plain(file: DicomFile, frame: Frame) -> NDArray[Any]:
    order = "<" if file.header.original_encoding[1] else ">"
    dtype = np.dtype(f"{order}{_kind(file)}{int(file.header.BitsAllocated) // 8}")
    rows, columns = frame.shape_HW
    count = rows * columns
    start = (file.pixels_at or 0) + frame.number * count * dtype.itemsize
    if dtype.itemsize == 1 and order == ">" and _is_word(file):
        return _swapped_bytes(file, start, frame)
    pixels = np.fromfile(file.path, dtype=dtype, count=count, offset=start)
    if pixels.size < count:
        raise VolumeError(
            f"the file ends after {pixels.size} of {count} pixels", reason="truncated"
        )
    return pixels.reshape(rows, columns)


def _is_word(file: DicomFile) -> bool:
    """Whether 8-bit pixels of a big-endian file were written as 16-bit words."""
    with file.path.open("rb") as stream:
        stream.seek((file.pixels_at or 0) - 8)
        return stream.read(2) == b"OW"


def _swapped_bytes(file: DicomFile, start: int, frame: Frame) -> NDArray[Any]:
    rows, columns = frame.shape_HW
    first = (start - (file.pixels_at or 0)) & 1
    count = rows * columns + first
    words = np.fromfile(file.path, dtype="<u2", count=(count + 1) // 2, offset=start - first)
    flat = words.byteswap().view(np.uint8)[first : first + rows * columns]
    return flat.view(f"{_kind(file)}1").reshape(rows, columns)


def _decoded(dataset: Dataset, frame: Frame) -> NDArray[Any]:
    rows, columns = frame.shape_HW
    syntax = dataset.file_meta.TransferSyntaxUID
    with explained("pixels that cannot be decoded"):
        if syntax.is_encapsulated and syntax not in LOSSLESS_JPEG:
            _check_stream(dataset, frame)
        if syntax in LOSSLESS_JPEG:
            count = int(dataset.get("NumberOfFrames") or 1)
            data = get_frame(dataset.PixelData, frame.number, number_of_frames=count)
            return decode_jpeg_lossless(data, frame.shape_HW)
        try:
            pixels: NDArray[Any] = pixel_array(
                dataset, index=frame.number, raw=True, decoding_plugin=plugin_of(syntax)
            )
        except RuntimeError as error:  # pydicom: no plugin could
            raise VolumeError(
                f"pixels that cannot be decoded ({syntax.name})",
                reason="broken",
            ) from error
    if pixels.shape != (rows, columns):
        raise VolumeError(
            f"decoded pixels of shape {pixels.shape}, expected {rows} × {columns}", reason="broken"
        )
    return pixels


def _check_stream(dataset: Dataset, frame: Frame) -> None:
    """Make sure that a compressed image is as large as the header says, before it is decoded."""
    count = int(dataset.get("NumberOfFrames") or 1)
    data = get_frame(dataset.PixelData, frame.number, number_of_frames=count)
    rows, columns = frame.shape_HW
    syntax = dataset.file_meta.TransferSyntaxUID
    if syntax == RLELossless:
        if len(data) * 64 + 64 < rows * columns:  # RLE packs 128 bytes in 2
            raise VolumeError("compressed pixels that end too early", reason="truncated")
        return
    found = _j2k_size(data) if syntax in JPEG2000TransferSyntaxes else _jpeg_size(data)
    if found is None:
        raise VolumeError("a compressed image without its size", reason="broken")
    if found != (rows, columns):
        raise VolumeError(
            f"a compressed image of {found[0]} × {found[1]} pixels, the header says "
            f"{rows} × {columns}",
            reason="too-many-voxels" if found[0] * found[1] > rows * columns else "broken",
        )


def _j2k_size(data: bytes) -> tuple[int, int] | None:
    """Rows and columns in a grey JPEG 2000 codestream, which may lie in a JP2 file."""
    at = data.find(b"\xff\x4f\xff\x51", 0, 1024)
    if at < 0 or data[at + 40 : at + 42] != b"\0\1":  # one component
        return None
    width, height, left, top = struct.unpack(">IIII", data[at + 8 : at + 24])
    return height - top, width - left


def _jpeg_size(data: bytes) -> tuple[int, int] | None:
    """Rows and columns in the first frame header of a grey JPEG or JPEG-LS stream."""
    at = 2
    while at + 10 <= len(data) and data[at] == 0xFF:
        if data[at + 1] in JPEG_SIZE_MARKERS:
            rows, columns, components = struct.unpack(">HHB", data[at + 5 : at + 10])
            return (rows, columns) if components == 1 else None
        at += 1 if data[at + 1] == 0xFF else 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return None


def _within_bits(raw_HW: NDArray[Any], file: DicomFile) -> NDArray[Any]:
    """Values of BitsStored bits below HighBit, with their sign."""
    header = file.header
    allocated, stored = int(header.BitsAllocated), int(header.BitsStored)
    high = int(header.get("HighBit", stored - 1))
    size = raw_HW.dtype.itemsize * 8
    native = np.dtype(f"{_kind(file)}{raw_HW.dtype.itemsize}")
    values = raw_HW.astype(native, copy=False)
    syntax = header.file_meta.TransferSyntaxUID
    if stored == allocated == size or syntax in PLUGINS:
        return values  # these decoders give so many bits and no more
    # Shifting to the top and back takes off what lies above, and carries the sign down.
    return (values << (size - 1 - high)) >> (size - stored)


def _kind(file: DicomFile) -> str:
    return "i" if int(file.header.get("PixelRepresentation") or 0) else "u"
