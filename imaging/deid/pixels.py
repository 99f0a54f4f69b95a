"""What pixel data carry beside the pixels: overlays in unused bits, comments in compressed streams.

Nothing is decoded and no length changes: what says nothing about the image is blanked where it
lies, so the image stays the same to the last bit. What cannot be told apart is refused.
"""

import re
import struct
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.uid import (
    UID,
    ExplicitVRBigEndian,
    JPEG2000TransferSyntaxes,
    JPEGLSTransferSyntaxes,
    JPEGTransferSyntaxes,
    RLELossless,
)

from imaging.errors import DeidentificationError

HIGH_THROUGHPUT_JPEG_2000 = frozenset(f"1.2.840.10008.1.2.4.{n}" for n in (201, 202, 203))
JPEG = frozenset({*JPEGTransferSyntaxes, *JPEGLSTransferSyntaxes})
JPEG_2000 = frozenset({*JPEG2000TransferSyntaxes, *HIGH_THROUGHPUT_JPEG_2000})
ITEM, END_OF_ITEMS = b"\xfe\xff\x00\xe0", b"\xfe\xff\xdd\xe0"
# ITU-T T.81 B.1: markers. T.87 (JPEG-LS) stuffs a bit and not a byte, so data holds FF 00 … FF 7F.
NEXT_MARKER = re.compile(rb"\xff[\x80-\xcf\xd8-\xfe]")
START, END, SCAN, COMMENT = 0xD8, 0xD9, 0xDA, 0xFE
ALONE = frozenset({0x01, *range(0xD0, 0xD8)})
APPLICATION = frozenset(range(0xE0, 0xF0))
# How colours were mixed: APP0 of JFIF without a thumbnail, APP14 of Adobe, APP8 of JPEG-LS.
KEPT_SEGMENTS = {0xE0: (b"JFIF\0", 16), 0xEE: (b"Adobe", 14), 0xE8: (b"mrfx", 8)}
# ITU-T T.800 A.2, I.4: markers of JPEG 2000 and boxes of its files.
CODESTREAM, TILE, DATA, NOTE = 0xFF4F, 0xFF90, 0xFF93, 0xFF64
BOXED = b"\x00\x00\x00\x0cjP  "
Blank = Callable[[bytearray], None]
KEPT_BOXES = frozenset({b"jP  ", b"ftyp", b"jp2h", b"jp2c"})


def blanked_pixels(dataset: Dataset, syntax: UID) -> bytes:
    """PixelData of a dataset without what is no pixel.

    Args:
        dataset: with PixelData as it was read.
        syntax: its transfer syntax.

    Raises:
        DeidentificationError: the stream is damaged, or of a kind that is not known here.
    """
    data = bytes(dataset.PixelData)
    if not syntax.is_encapsulated:
        return _plain(dataset, data, "big" if syntax == ExplicitVRBigEndian else "little")
    if syntax == RLELossless:
        return data
    if syntax not in JPEG | JPEG_2000:
        raise DeidentificationError(f"pixels of {syntax.name}, which may hold anything", hint="")
    blank = _blank_jpeg if syntax in JPEG else _blank_jpeg_2000
    try:
        return _in_every_frame(bytearray(data), blank)
    except (IndexError, struct.error, ValueError) as error:
        raise DeidentificationError(
            f"compressed pixels that cannot be followed: {error}", hint="Export the series again."
        ) from error


def _plain(dataset: Dataset, data: bytes, order: str) -> bytes:
    """Uncompressed pixels with their unused bits clear and nothing behind the last one."""
    allocated, stored = int(dataset.BitsAllocated), int(dataset.BitsStored)
    frames = int(dataset.get("NumberOfFrames", 1) or 1)
    samples = int(dataset.Rows) * int(dataset.Columns) * int(dataset.SamplesPerPixel) * frames
    size = -(-samples * allocated // 8)
    if order == "big" and size % 2:  # the last byte lies behind the padding: words are swapped
        size += 1
    kept = data[:size]
    if stored < allocated and allocated in (8, 16, 32) and len(kept) == size:
        dtype = np.dtype(f"{'>' if order == 'big' else '<'}u{allocated // 8}")
        kept = _within_bits(np.frombuffer(kept, dtype), dataset).tobytes()
    return kept + b"\0" * (len(kept) % 2)


def _within_bits(values: NDArray[Any], dataset: Dataset) -> NDArray[Any]:
    allocated, stored = int(dataset.BitsAllocated), int(dataset.BitsStored)
    lowest = int(dataset.get("HighBit", stored - 1)) + 1 - stored
    if not 0 <= lowest <= allocated - stored:
        raise DeidentificationError(f"HighBit of {dataset.HighBit} with {stored} bits", hint="")
    mask = ((1 << stored) - 1) << lowest
    clear = values & mask
    if int(dataset.PixelRepresentation) == 1 and lowest == 0:  # the sign fills the bits above
        clear = np.where(values & (1 << (stored - 1)), clear | ((1 << allocated) - 1 - mask), clear)
    return clear.astype(values.dtype)


def _in_every_frame(data: bytearray, blank: Blank) -> bytes:
    """Let `blank` treat each frame, which may lie in several fragments."""
    frame: list[tuple[int, int]] = []
    for start, end in [*_fragments(data), (len(data), len(data))]:
        is_new = bytes(data[start : start + 2]) in (b"\xff\xd8", b"\xff\x4f") or data.startswith(
            BOXED, start
        )
        if frame and (is_new or start == len(data)):
            _treat(data, frame, blank)
            frame = []
        frame.append((start, end))
    return bytes(data)


def _treat(data: bytearray, frame: list[tuple[int, int]], blank: Blank) -> None:
    whole = bytearray(b"".join(data[start:end] for start, end in frame))
    blank(whole)
    at = 0
    for start, end in frame:
        data[start:end] = whole[at : at + end - start]
        at += end - start


def _fragments(data: bytearray) -> Iterator[tuple[int, int]]:
    """Where the fragments lie; the first item is a table of offsets. PS3.5 A.4."""
    at, is_table = 0, True
    while bytes(data[at : at + 4]) == ITEM:
        (length,) = struct.unpack_from("<I", data, at + 4)
        if at + 8 + length > len(data):
            raise ValueError("a fragment that is cut off")
        if not is_table:
            yield at + 8, at + 8 + length
        at, is_table = at + 8 + length, False
    if bytes(data[at : at + 4]) not in (END_OF_ITEMS, b""):
        raise ValueError("bytes between fragments")
    data[at + 8 :] = b"\0" * len(data[at + 8 :])


def _blank_jpeg(frame: bytearray) -> None:
    """Blank comments, applications' segments and what follows the end of the image."""
    if frame[:2] != bytes((0xFF, START)):
        raise ValueError("no JPEG")
    at = 2
    while True:
        found = NEXT_MARKER.search(frame, at)
        if found is None:
            return  # the end is cut off; what there is was looked at
        at, marker = found.start(), frame[found.start() + 1]
        if marker == END:
            frame[at + 2 :] = b"\0" * (len(frame) - at - 2)
            return
        if marker in ALONE:
            at += 2
            continue
        (length,) = struct.unpack_from(">H", frame, at + 2)
        body = slice(at + 4, at + 2 + length)
        if marker == COMMENT or (marker in APPLICATION and not _is_kept(marker, frame[body])):
            frame[body] = b"\0" * len(frame[body])
        at += 2 + length


def _is_kept(marker: int, body: bytearray) -> bool:
    start, length = KEPT_SEGMENTS.get(marker, (b"", 0))
    return bool(start) and body.startswith(start) and len(body) + 2 <= length


def _blank_jpeg_2000(frame: bytearray) -> None:
    """Blank comments of a code stream, and boxes around one that do not describe the image."""
    if not frame.startswith(BOXED):
        _blank_codestream(frame, 0, len(frame))
        return
    at = 0
    while at + 8 <= len(frame):
        size, kind, head = struct.unpack_from(">I", frame, at)[0], bytes(frame[at + 4 : at + 8]), 8
        if size == 1:
            size, head = struct.unpack_from(">Q", frame, at + 8)[0], 16
        end = len(frame) if size == 0 else at + size
        if size != 0 and size < head:
            raise ValueError("a box smaller than its head")
        if kind == b"jp2c":
            _blank_codestream(frame, at + head, min(end, len(frame)))
        elif kind not in KEPT_BOXES:
            frame[at + head : end] = b"\0" * len(frame[at + head : end])
        at = end


def _blank_codestream(frame: bytearray, at: int, end: int) -> None:
    if struct.unpack_from(">H", frame, at)[0] != CODESTREAM:
        raise ValueError("no JPEG 2000 code stream")
    at += 2
    tile_end = end
    while at + 4 <= end:
        marker, length = struct.unpack_from(">HH", frame, at)
        if marker == 0xFFD9:
            frame[at + 2 : end] = b"\0" * (end - at - 2)
            return
        if marker == DATA:  # up to the next tile part
            at = tile_end
            continue
        if marker == TILE:
            (size,) = struct.unpack_from(">I", frame, at + 6)
            tile_end = at + size if size else end
        elif marker == NOTE:
            frame[at + 6 : at + 2 + length] = b"\0" * (length - 4)
        if length < 2 or marker < 0xFF00:
            raise ValueError("no marker where one must be")
        at += 2 + length
