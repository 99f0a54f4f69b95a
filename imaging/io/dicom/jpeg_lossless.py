"""Lossless JPEG (process 14), which scanners and archives write most: decoded by GDCM, with care.

GDCM is the only kept decoder of it with a licence we can use, and a damaged header or DICOM
element takes it down with the whole process. So it gets to see nothing of a file: the JPEG header
is checked here marker by marker, and the stream goes to it in a DICOM file of our own, which lives
in memory. Damage behind the header it survives.

Source: ITU-T T.81, annexes B and H.
"""

import os
import struct
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import gdcm
import numpy as np
from numpy.typing import NDArray

from imaging.errors import VolumeError

START, LOSSLESS_FRAME, HUFFMAN, SCAN, RESTART = 0xD8, 0xC3, 0xC4, 0xDA, 0xDD
MAX_CATEGORY = 16  # of a difference: the symbols of the Huffman tables
SYNTAX = b"1.2.840.10008.1.2.4.57\0"  # lossless, any predictor


@dataclass(slots=True)
class _Head:
    """What the header of a stream says."""

    precision: int = 0
    shape_HW: tuple[int, int] = (0, 0)
    component: int = -1
    tables: frozenset[int] = frozenset()


def decode_jpeg_lossless(data: bytes, shape_HW: tuple[int, int]) -> NDArray[np.uint16]:
    """The pixels of one grey image.

    Args:
        data: the JPEG stream.
        shape_HW: rows and columns that the DICOM header claims.

    Raises:
        VolumeError: `broken`: no such stream, or damaged; `too-many-voxels`: it claims more.
    """
    precision = _checked(data, shape_HW)
    rows, columns = shape_HW
    with _in_memory(_dicom_file(data, shape_HW, precision)) as path:
        reader = gdcm.ImageReader()
        reader.SetFileName(path)
        if not reader.Read():
            raise VolumeError("a JPEG image that cannot be read", reason="broken")
        change = gdcm.ImageChangeTransferSyntax()
        change.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.ExplicitVRLittleEndian))
        change.SetInput(reader.GetImage())
        if not change.Change():
            raise VolumeError("a damaged JPEG image", reason="broken")
        pixels = change.GetOutput().GetDataElement().GetByteValue().GetBuffer()
    flat = np.frombuffer(pixels.encode("utf-8", "surrogateescape"), dtype="<u2")
    if flat.size < rows * columns:
        raise VolumeError(f"{flat.size} pixels, expected {rows} × {columns}", reason="broken")
    return flat[: rows * columns].reshape(rows, columns)


def _checked(data: bytes, shape_HW: tuple[int, int]) -> int:
    """Bits of a pixel in a stream whose header is as the standard has it."""
    head = _Head()
    for marker, body in _segments(data):
        if marker == LOSSLESS_FRAME:
            _read_frame(head, body)
        elif marker == HUFFMAN:
            head.tables |= _huffman_tables(body)
        elif marker == RESTART:
            columns = max(1, head.shape_HW[1])
            _require(len(body) == 2 and struct.unpack(">H", body)[0] % columns == 0)
        elif marker == SCAN:
            _check_scan(head, body)
        else:
            _require(0xE0 <= marker <= 0xEF or marker == 0xFE)  # applications' notes, comments
    if head.shape_HW != shape_HW:
        raise VolumeError(
            f"a compressed image of {head.shape_HW[0]} × {head.shape_HW[1]} pixels, the header "
            f"says {shape_HW[0]} × {shape_HW[1]}",
            reason="too-many-voxels" if head.shape_HW > shape_HW else "broken",
        )
    return head.precision


def _segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Markers and what follows them, to the first scan, which has to come."""
    _require(data[:2] == bytes([0xFF, START]))
    at = 2
    while True:
        _require(at + 4 <= len(data) and data[at] == 0xFF)
        marker, length = data[at + 1], struct.unpack(">H", data[at + 2 : at + 4])[0]
        _require(length >= 2 and at + 2 + length <= len(data))
        yield marker, data[at + 4 : at + 2 + length]
        if marker == SCAN:
            return
        at += 2 + length


def _read_frame(head: _Head, body: bytes) -> None:
    _require(len(body) == 9 and head.component < 0)
    head.precision, rows, columns, components, head.component, sampling, _ = struct.unpack(
        ">BHHBBBB", body
    )
    head.shape_HW = rows, columns
    _require(2 <= head.precision <= 16 and components == 1 and sampling == 0x11)


def _huffman_tables(body: bytes) -> frozenset[int]:
    found, at = set(), 0
    while at < len(body):
        _require(at + 17 <= len(body) and body[at] < 4)
        counts = body[at + 1 : at + 17]
        symbols = body[at + 17 : at + 17 + sum(counts)]
        space = sum(count << (15 - k) for k, count in enumerate(counts))
        _require(len(symbols) == sum(counts) > 0 and space <= 1 << 16)
        _require(max(symbols) <= MAX_CATEGORY and len(set(symbols)) == len(symbols))
        found.add(body[at])
        at += 17 + sum(counts)
    return frozenset(found)


def _check_scan(head: _Head, body: bytes) -> None:
    _require(len(body) == 6 and head.component >= 0)
    components, component, table, predictor, last, shift = body
    _require(components == 1 and component == head.component and table >> 4 in head.tables)
    _require(1 <= predictor <= 7 and last == 0 and shift < head.precision)


def _require(is_met: bool) -> None:
    if not is_met:
        raise VolumeError("a JPEG image whose header is damaged", reason="broken")


def _dicom_file(data: bytes, shape_HW: tuple[int, int], precision: int) -> bytes:
    """The smallest DICOM file that holds the stream as an image of 16 bits."""
    meta = _element(0x0002, 0x0010, b"UI", SYNTAX + b"\0" * (len(SYNTAX) % 2))
    size = _element(0x0002, 0x0000, b"UL", struct.pack("<I", len(meta)))
    words = [(0x0002, 1), (0x0010, shape_HW[0]), (0x0011, shape_HW[1]), (0x0100, 16),
             (0x0101, precision), (0x0102, precision - 1), (0x0103, 0)]  # fmt: skip
    elements = [_element(0x0028, tag, b"US", struct.pack("<H", value)) for tag, value in words]
    elements.insert(1, _element(0x0028, 0x0004, b"CS", b"MONOCHROME2 "))
    item = struct.pack("<HHI", 0xFFFE, 0xE000, 0)
    fragment = struct.pack("<HHI", 0xFFFE, 0xE000, len(data) + len(data) % 2) + data
    fragment += b"\0" * (len(data) % 2) + struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
    pixels = struct.pack("<HH2sHI", 0x7FE0, 0x0010, b"OB", 0, 0xFFFFFFFF) + item + fragment
    image = _element(0x0008, 0x0016, b"UI", b"1.2.840.10008.5.1.4.1.1.7\0")
    return b"\0" * 128 + b"DICM" + size + meta + image + b"".join(elements) + pixels


def _element(group: int, tag: int, kind: bytes, value: bytes) -> bytes:
    return struct.pack("<HH2sH", group, tag, kind, len(value)) + value


@contextmanager
def _in_memory(content: bytes) -> Iterator[str]:
    """A path to read the content from; GDCM takes nothing else."""
    if not hasattr(os, "memfd_create"):  # beyond Linux
        with tempfile.NamedTemporaryFile() as file:
            file.write(content)
            file.flush()
            yield file.name
        return
    descriptor = os.memfd_create("frame")
    try:
        with os.fdopen(os.dup(descriptor), "wb") as stream:
            stream.write(content)
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)
