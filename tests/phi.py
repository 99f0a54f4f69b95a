"""The identities planted in `dicom_phi_synthetic`, and a search for them in what the loop wrote.

The set is real MR slices with an invented person written into every corner of their headers.
"""

import gzip
import json
import os
import zlib
from collections.abc import Collection, Iterator
from functools import cache
from pathlib import Path

import pytest

DATA = Path(os.environ.get("LABLOOP_DATA", Path(__file__).parents[2] / "shared" / "data"))
PLANTED = DATA / "dicom_phi_synthetic"
SERIES = PLANTED / "series"
UNPACKED_BYTES = 1 << 28  # of one stream; a label map of 512³ has half of it


def require(*folders: Path) -> None:
    """Skip the test where a set of LABLOOP_DATA is absent."""
    missing = [folder for folder in folders if not folder.is_dir()]
    if missing:
        pytest.skip(f"{missing[0]} is absent; LABLOOP_DATA names the sets' folder")


@cache
def planted_record() -> dict[str, object]:
    found: dict[str, object] = json.loads((PLANTED / "must_not_survive.json").read_bytes())
    return found


def planted_strings() -> tuple[str, ...]:
    """What must not survive: the twenty strings of the tags, and the study's and series' UIDs."""
    record = planted_record()
    strings, uids = record["strings"], record["uids"]
    assert isinstance(strings, list) and isinstance(uids, dict)
    return (*map(str, strings), *map(str, uids.values()))


@cache
def planted_forms() -> dict[bytes, str]:
    """Bytes in small letters to look for → the planted string they stand for.

    As they are, as JSON escapes them, and names with other signs between their parts.
    """
    forms: dict[bytes, str] = {}
    for planted in planted_strings():
        spellings = {planted, json.dumps(planted)[1:-1]}
        if "^" in planted:
            spellings |= {planted.replace("^", sign).strip(" ._-") for sign in (" ", "_", ", ")}
        forms |= {spelling.lower().encode(): planted for spelling in spellings}
    return forms


def planted_in(data: bytes) -> set[str]:
    """The planted strings in a file's bytes, packed or not, in UTF-8 or UTF-16 of either kind."""
    found: set[str] = set()
    for stream in (data, *_unpacked(data)):
        low = stream.lower()
        for plain in (low, low.replace(b"\0", b"")) if b"\0" in low else (low,):
            found |= {planted for form, planted in planted_forms().items() if form in plain}
    return found


def assert_nothing_planted(folder: Path, *, beside: Collection[Path] = ()) -> None:
    """Make sure that no file below a folder, and no name of one, holds a planted identity.

    Args:
        folder: what the loop wrote: a share, a home with its logs and databases.
        beside: files and folders that may, such as `rawdata`; links are not followed.
    """
    looked, leaks = 0, []
    for path in sorted(folder.rglob("*")):
        if any(path == other or other in path.parents for other in beside):
            continue
        leaks += [f"{planted!r} in the name {path}" for planted in planted_in(path.name.encode())]
        if path.is_file() and not path.is_symlink():
            looked += 1
            leaks += [f"{planted!r} in {path}" for planted in planted_in(path.read_bytes())]
    assert not leaks, "\n".join(leaks)
    assert looked, f"{folder} holds no file: nothing was looked at"


def _unpacked(data: bytes) -> Iterator[bytes]:
    """Streams inside a file: gzip as a whole, zlib in PNG chunks of text, in PDF, in a zip."""
    if data[:2] == b"\x1f\x8b":
        try:
            yield gzip.decompress(data)[:UNPACKED_BYTES]
        except (OSError, EOFError, zlib.error):
            return
    if data[:8] == b"\x89PNG\r\n\x1a\n":
        yield from _texts_of_png(data)
    if data[:4] == b"PK\x03\x04":
        yield from _members_of_zip(data)


def _texts_of_png(data: bytes) -> Iterator[bytes]:
    at = 8
    while at + 8 <= len(data):
        length, kind = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        if kind in (b"zTXt", b"iTXt"):
            body = data[at + 8 : at + 8 + length]
            for start in (place + 1 for place, byte in enumerate(body[:200]) if byte == 0):
                try:
                    yield zlib.decompressobj().decompress(body[start:], UNPACKED_BYTES)
                except zlib.error:
                    continue
        at += 12 + length


def _members_of_zip(data: bytes) -> Iterator[bytes]:
    import io
    import zipfile

    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        for name in archive.namelist():
            with archive.open(name) as member:
                yield name.encode() + b"\n" + member.read(UNPACKED_BYTES)
