"""One DICOM file's header: read once, checked, with the place of its pixels remembered.

pydicom reads it. What a file claims is compared with its size before anything is decoded. Words
of a header never get into messages: they may name the patient.
"""

import logging
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import pydicom
from isal import isal_zlib
from pydicom import config
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from imaging.errors import VolumeError
from imaging.io.inflate import checked_size, regular_file
from imaging.io.sniff import DICOM, describe_stranger, volume_format
from imaging.io.volume_checks import VolumeLimits

# Odd values in headers are the rule. Warnings and logs would quote them, patient names among them.
config.settings.reading_validation_mode = config.IGNORE
config.logger.setLevel(logging.CRITICAL)

HEAD_BYTES = 4096
MAX_INFLATED = 1 << 28  # bytes of a deflated file: 500 slices of 512 × 512
UNDEFINED = 0xFFFFFFFF
LONG_FORM = (b"OB", b"OW", b"OF", b"OD", b"UN", b"OV", b"OL")
# What pydicom raises on damage, depending on where the damage lies.
DAMAGE = (
    InvalidDicomError, BytesLengthException, EOFError, struct.error, zlib.error, ValueError,
    TypeError, LookupError, AttributeError, NotImplementedError, RecursionError, OverflowError,
)  # fmt: skip
# … and where nothing is read any more, an OSError is pydicom's word for a cut sequence, too.
DAMAGE_IN_MEMORY = (*DAMAGE, OSError)


@dataclass(frozen=True, slots=True, eq=False)
class DicomFile:
    """A header and where the file's pixels lie."""

    path: Path
    header: Dataset  # everything but the pixels
    pixels_at: int | None  # byte where uncompressed pixels begin; None = none, or to be decoded
    pixel_bytes: int  # how many there are; 0 = no pixels or unknown
    has_pixels: bool

    @property
    def syntax(self) -> str:
        """UID of the transfer syntax."""
        return str(self.header.file_meta.TransferSyntaxUID)


def read_header(path: Path, limits: VolumeLimits) -> DicomFile:
    """The header of one DICOM file, with or without preamble.

    Raises:
        VolumeError: `symlink`, `not-a-file`, `empty`, `too-large`; `not-a-volume`: no DICOM file;
            `truncated`: it ends before its pixels do; `broken`.
        OSError: it cannot be read.
    """
    with regular_file(path) as stream:
        size = checked_size(stream, limits)
        head = stream.read(HEAD_BYTES)
        if volume_format(head[:512]) != DICOM:
            raise VolumeError(f"{describe_stranger(head)}, no DICOM file", reason="not-a-volume")
        if DeflatedExplicitVRLittleEndian.encode() in head:
            _check_deflated(stream, head)
        stream.seek(0)
        with explained():
            header = pydicom.dcmread(stream, stop_before_pixels=True, force=True)
            _complete_meta(header)
        if not len(header):
            raise VolumeError("a DICOM file without any element", reason="broken")
        if header.file_meta.TransferSyntaxUID == DeflatedExplicitVRLittleEndian:
            return DicomFile(path, header, None, 0, "Rows" in header)
        return _with_pixels(path, header, stream, size)


def whole_dataset(path: Path, header: Dataset) -> Dataset:
    """A file with its pixels, whose header was read and checked before."""
    with regular_file(path) as stream:
        dataset: Dataset = pydicom.dcmread(stream, force=True)
    dataset.file_meta = header.file_meta
    return dataset


@contextmanager
def explained(what: str = "a damaged DICOM file") -> Iterator[None]:
    """Damage that pydicom meets, as a VolumeError of reason `broken` that quotes no value."""
    try:
        yield
    except VolumeError:
        raise
    except DAMAGE_IN_MEMORY as error:
        if isinstance(error, OSError) and error.errno is not None:  # the share, not the data
            raise
        raise VolumeError(f"{what} ({type(error).__name__})", reason="broken") from error


@contextmanager
def quiet() -> Iterator[None]:
    """Without pydicom's warnings, see above. Not for threads: Python keeps one list of filters."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def text_of(header: Dataset, keyword: str) -> str:
    """An element as plain text; empty where it is absent or damaged."""
    try:
        value = header.get(keyword)
        return "" if value is None else str(value).strip()
    except DAMAGE_IN_MEMORY:
        return ""


def _complete_meta(header: Dataset) -> None:
    """A transfer syntax for files that do not name theirs: pydicom found out by looking."""
    if not hasattr(header, "file_meta"):
        header.file_meta = FileMetaDataset()
    if not text_of(header.file_meta, "TransferSyntaxUID"):
        is_implicit, is_little = header.original_encoding
        plain = ImplicitVRLittleEndian if is_implicit else ExplicitVRLittleEndian
        header.file_meta.TransferSyntaxUID = plain if is_little else ExplicitVRBigEndian
    if not header.file_meta.TransferSyntaxUID.is_transfer_syntax:
        raise VolumeError("a DICOM file of an unknown transfer syntax", reason="broken")


def _with_pixels(path: Path, header: Dataset, stream: BinaryIO, size: int) -> DicomFile:
    """Where the pixels lie: pydicom left the stream in front of their element."""
    at = stream.tell()
    element = stream.read(12)
    is_implicit, is_little = header.original_encoding
    order = "<" if is_little else ">"
    if len(element) < 8 or struct.unpack(order + "HH", element[:4]) != (0x7FE0, 0x0010):
        if len(element) >= 4 and struct.unpack(order + "HH", element[:4])[0] == 0x7FE0:
            raise VolumeError("voxels of floating point in DICOM", reason="voxel-type")
        return DicomFile(path, header, None, 0, False)
    if is_implicit:
        start, length = at + 8, struct.unpack(order + "I", element[4:8])[0]
    elif element[4:6] in LONG_FORM and len(element) == 12:
        start, length = at + 12, struct.unpack(order + "I", element[8:12])[0]
    else:  # an element of no known type: pydicom may still make something of it
        return DicomFile(path, header, None, 0, True)
    if length == UNDEFINED:
        return DicomFile(path, header, None, 0, True)
    if start + length > size:
        raise VolumeError(
            f"the file ends after {size - start} of {length} bytes of pixels", reason="truncated"
        )
    return DicomFile(path, header, start, length, length > 0)


def _check_deflated(stream: BinaryIO, head: bytes) -> None:
    """Make sure that a deflated file does not hold gigabytes: pydicom inflates it in one go."""
    if head[128:132] != b"DICM" or head[132:136] != b"\x02\x00\x00\x00":
        return
    stream.seek(144 + struct.unpack("<I", head[140:144])[0])
    inflate, held = isal_zlib.decompressobj(-15), 0
    with explained("a damaged deflated DICOM file"):
        for part in iter(lambda: stream.read(1 << 16), b""):
            held += _inflated_size(inflate, part)
            if held > MAX_INFLATED:
                raise VolumeError(
                    f"a deflated DICOM file of more than {MAX_INFLATED >> 20} MB",
                    reason="too-large",
                )


def _inflated_size(inflate: Any, part: bytes) -> int:
    """How many bytes a part inflates to; counting ends where it is too many anyway."""
    held = 0
    while part and held <= MAX_INFLATED:
        held += len(inflate.decompress(part, 1 << 20))
        part = inflate.unconsumed_tail
    return held
