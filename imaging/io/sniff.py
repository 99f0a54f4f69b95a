"""What a file is, by its bytes: pictures and their ends, volumes, and common strangers."""

import re
import zlib

PNG, JPEG, TIFF = "PNG", "JPEG", "TIFF"
NIFTI, NRRD, DICOM = "NIfTI", "NRRD", "DICOM"
GZIP = b"\x1f\x8b"
MAGIC = (
    (b"\x89PNG\r\n\x1a\n", PNG),
    (b"\xff\xd8\xff", JPEG),
    (b"II*\x00", TIFF),
    (b"MM\x00*", TIFF),
    (b"II+\x00", TIFF),  # BigTIFF
    (b"MM\x00+", TIFF),
)
STRANGERS = (
    (b"GIF8", "a GIF picture"),
    (b"BM", "a BMP picture"),
    (b"RIFF", "a WebP picture or a sound"),
    (b"\x00\x00\x00\x0cjP  ", "a JPEG 2000 picture"),
    (b"%PDF", "a PDF document"),
    (b"PK\x03\x04", "a ZIP archive or an office document"),
    (b"\x1f\x8b", "a gzip file (a NIfTI volume?)"),
    (b"\x7fELF", "a program"),
    (b"MZ", "a program"),
)
PNG_END = b"IEND\xaeB`\x82"
# Encoders make about ten. Each scan costs a pass over the whole picture, and a thousand of them fit
# into a kilobyte each: a file of 1 MB took a minute to decode.
MAX_SCANS = 64
# A marker with a length after it: no stuffed or filling FF, no restart, start or temporary mark.
MARKER = re.compile(rb"\xff[^\x00\x01\xd0-\xd8\xff]")
START_OF_SCAN, END_OF_IMAGE = 0xDA, 0xD9


def picture_format(head: bytes) -> str | None:
    """`PNG`, `JPEG` or `TIFF` by the first bytes of a file, else None."""
    return next((name for magic, name in MAGIC if head.startswith(magic)), None)


def volume_format(head: bytes) -> str | None:
    """`NIfTI`, `NRRD` or `DICOM` by the first 512 bytes of a file, else None.

    A gzip file is looked into. A DICOM file without its preamble is known by its first element,
    which belongs to group 2 or 8.
    """
    if head.startswith(GZIP):
        head = _inflated(head)
        return NIFTI if _is_nifti(head) else None
    if head.startswith(b"NRRD000"):
        return NRRD
    if head[128:132] == b"DICM" or _is_bare_dicom(head):
        return DICOM
    return NIFTI if _is_nifti(head) else None


def has_end(data: bytes, name: str) -> bool:
    """Whether a picture file was copied to its end, as far as its format tells.

    Pillow accepts a PNG without its end, and a JPEG whose tail a broken copy left zero. A TIFF
    has no end mark; a cut one fails when it is decoded.
    """
    if name == PNG:
        return PNG_END in data
    return name != JPEG or _jpeg_has_end(data)


def has_too_many_scans(data: bytes) -> bool:
    """Whether a JPEG picture has more scans than any encoder makes.

    Only markers up to the picture's end count: notes of a camera, and films that telephones append,
    may hold the same two bytes.
    """
    if data.count(bytes([0xFF, START_OF_SCAN])) <= MAX_SCANS:
        return False
    scans, at = 0, 2
    while scans <= MAX_SCANS and (marker := MARKER.search(data, at)):
        kind = data[marker.start() + 1]
        if kind == END_OF_IMAGE:
            return False
        scans += kind == START_OF_SCAN
        at = marker.end() + int.from_bytes(data[marker.end() : marker.end() + 2], "big")
    return scans > MAX_SCANS


def describe_stranger(data: bytes) -> str:
    """What a file that is no picture seems to be, for a message to whoever dropped it."""
    for magic, what in STRANGERS:
        if data.startswith(magic):
            return what
    if data[128:132] == b"DICM":
        return "a DICOM file"
    if not data.strip(b"\x00"):
        return f"{len(data)} zero bytes"
    head = data[:512]
    try:
        text = head.decode("utf-8", errors="strict" if len(data) <= 512 else "ignore")
    except UnicodeDecodeError:
        return "a file of no known picture format"
    return "text" if all(c.isprintable() or c in "\t\r\n" for c in text) else "an unknown file"


def _inflated(head: bytes) -> bytes:
    try:
        return zlib.decompressobj(wbits=31).decompress(head, 1024)
    except zlib.error:
        return b""


def _is_nifti(head: bytes) -> bool:
    for size, at, version in ((348, 344, b"1"), (540, 4, b"2")):
        if head[:4] in (size.to_bytes(4, "little"), size.to_bytes(4, "big")):
            return head[at : at + 3] in (b"n+" + version, b"ni" + version)
    return False


def _is_bare_dicom(head: bytes) -> bool:
    """Group 2 or 8, a low element, and either letters for its type or a short length."""
    for order, group in (("little", b"\x02\x00"), ("little", b"\x08\x00"), ("big", b"\x00\x08")):
        if head[:2] == group:
            element = int.from_bytes(head[2:4], "big" if order == "big" else "little")
            has_type = head[4:6].isalpha() and head[4:6].isupper()
            short = int.from_bytes(head[4:8], "little") <= 64
            return element <= 0x70 and (has_type or short)
    return False


def _jpeg_has_end(data: bytes) -> bool:
    """Whether an end marker follows the first scan; one in an EXIF thumbnail does not count."""
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF:
        if data[at + 1] == 0xDA:
            return data.find(b"\xff\xd9", at) != -1
        fill = data[at + 1] == 0xFF
        at += 1 if fill else 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return False
