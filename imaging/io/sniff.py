"""What a file is, by its bytes: the three picture formats, their ends, and common strangers."""

import re

PNG, JPEG, TIFF = "PNG", "JPEG", "TIFF"
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


def _jpeg_has_end(data: bytes) -> bool:
    """Whether an end marker follows the first scan; one in an EXIF thumbnail does not count."""
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF:
        if data[at + 1] == 0xDA:
            return data.find(b"\xff\xd9", at) != -1
        fill = data[at + 1] == 0xFF
        at += 1 if fill else 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return False
