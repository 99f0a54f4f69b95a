"""Hostile and broken inputs, built on the spot: what each is, and why it must be refused.

Every builder gets a rawdata folder of a segmentation task with the one label `heart` (or of a
classification with the classes `normal` and `pneumonia`) and puts its trouble there.
"""

import os
import socket
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from imaging.io.mask import PixelArray
from imaging.task import Kind

Build = Callable[[Path], None]
ORIENTATION = 0x0112
SIDE = 32


@dataclass(frozen=True, slots=True)
class Hostile:
    """One input that ingest must refuse."""

    name: str
    build: Build
    reason: str  # the keyword in reason.txt
    kind: Kind = "segmentation"
    # A bad cases.csv also holds the good pictures, on purpose; links to others move nothing else.
    holds_others: bool = False


def noise(seed: int, shape: tuple[int, ...] = (SIDE, SIDE)) -> PixelArray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def encoded(pixels: Any, form: str = "PNG", **options: Any) -> bytes:
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    stream = BytesIO()
    image.save(stream, form, **options)
    return stream.getvalue()


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(width: int, height: int, *chunks: bytes, depth: int = 8, color: int = 0) -> bytes:
    """A PNG by hand: whatever its header claims."""
    header = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0)
    parts = (chunk(b"IHDR", header), *chunks, chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def tiff(tags: dict[int, tuple[int, int, int]], tail: bytes = b"", next_page: int = 0) -> bytes:
    """A little-endian TIFF by hand: tag → (type, count, value or offset)."""
    rows = [struct.pack("<HHII", tag, *tags[tag]) for tag in sorted(tags)]
    directory = struct.pack("<H", len(rows)) + b"".join(rows) + struct.pack("<I", next_page)
    return b"II*\x00" + struct.pack("<I", 8) + directory + tail


def grey_tiff(width: int, height: int, **more: Any) -> bytes:
    data_at = 8 + 2 + 12 * 9 + 4
    tags = {
        256: (4, 1, width), 257: (4, 1, height), 258: (3, 1, 8), 259: (3, 1, 1), 262: (3, 1, 1),
        273: (4, 1, data_at), 277: (3, 1, 1), 278: (4, 1, height), 279: (4, 1, width * height),
    }  # fmt: skip
    return tiff(tags, **more)


def write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def file(name: str, data: bytes | Callable[[], bytes]) -> Build:
    """Puts one file there."""

    def build(rawdata: Path) -> None:
        write(rawdata / name, data() if callable(data) else data)

    return build


def files(**contents: bytes) -> Build:
    """Puts several files there; `__` stands for a slash, `_dot_` for a dot."""

    def build(rawdata: Path) -> None:
        for name, data in contents.items():
            write(rawdata / name.replace("__", "/").replace("_dot_", "."), data)

    return build


def cut(data: bytes, share: float = 0.5) -> bytes:
    return data[: int(len(data) * share)]


def zero_tail(data: bytes) -> bytes:
    half = len(data) // 2
    return data[:half] + bytes(len(data) - half)


def flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 0x55]) + data[at + 1 :]


# --- no pictures ---------------------------------------------------------------------------------


def zipped() -> bytes:
    stream = BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("../../evil.png", encoded(noise(900)))
    return stream.getvalue()


def strangers() -> Iterator[Hostile]:
    gif = encoded(noise(901), "GIF")
    contents: dict[str, tuple[str, bytes | Callable[[], bytes]]] = {
        "a text called png": ("a.png", b"Dear colleague, please find attached the picture.\n"),
        "a web page called jpg": ("a.jpg", b"<!doctype html><html>404 not found</html>"),
        "a drawing with a script": ("a.svg", b"<svg><script>alert(1)</script></svg>"),
        "a PDF called tif": ("a.tif", b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj\n"),
        "a ZIP with a path trick called png": ("a.png", zipped),
        "a gzip volume called jpg": ("a.jpg", b"\x1f\x8b\x08\x00" + noise(903).tobytes()),
        "a GIF called png": ("a.png", gif),
        "a BMP": ("a.bmp", lambda: encoded(noise(904), "BMP")),
        "a WebP": ("a.webp", lambda: encoded(noise(905), "WEBP", lossless=True)),
        "a program called jpg": ("a.jpg", b"\x7fELF\x02\x01\x01" + bytes(64)),
        "noise called png": ("a.png", noise(906).tobytes()),
        "a preallocated file of zero bytes": ("a.jpg", bytes(40_000)),
        "a table that is no case list": ("labels.csv", b"file,label\na.png,normal\n"),
    }
    for name, (path, data) in contents.items():
        yield Hostile(name, file(path, data), "not-an-image")
    dicom = file("a.png", bytes(128) + b"DICM" + noise(902).tobytes())
    yield Hostile("a DICOM file called png", dicom, "volume-among-pictures")
    yield Hostile("an empty file", file("a.png", b""), "empty")


# --- broken pictures -----------------------------------------------------------------------------


def broken() -> Iterator[Hostile]:
    whole_png = encoded(noise(910, (64, 64, 3)))
    whole_jpg = encoded(noise(911, (64, 64, 3)), "JPEG")
    progressive = encoded(noise(912, (64, 64, 3)), "JPEG", progressive=True)
    thumbnailed = whole_jpg[:2] + b"\xff\xe1\x00\x0cExif\0\0\xff\xd9\0\0" + whole_jpg[2:]
    whole_tif = encoded(noise(913, (64, 64)), "TIFF")
    bad_data = chunk(b"IDAT", b"this is not a zlib stream at all")
    text_bomb = chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(64 << 20), 9))
    contents: dict[str, tuple[str, bytes, str]] = {
        "half a PNG": ("a.png", cut(whole_png), "truncated"),
        "a PNG without its end": ("a.png", whole_png[:-12], "truncated"),
        "only a PNG signature": ("a.png", whole_png[:8], "truncated"),
        "a PNG whose tail was never written": ("a.png", zero_tail(whole_png), "truncated"),
        "half a JPEG": ("a.jpg", cut(whole_jpg), "truncated"),
        "a JPEG without its end": ("a.jpg", whole_jpg[:-2], "truncated"),
        "a JPEG whose tail was never written": ("a.jpg", zero_tail(whole_jpg), "truncated"),
        "half a progressive JPEG": ("a.jpg", cut(progressive), "truncated"),
        "a cut JPEG with an end in its thumbnail": ("a.jpg", cut(thumbnailed, 0.6), "truncated"),
        "only the start of a JPEG": ("a.jpg", b"\xff\xd8\xff\xe0\x00\x10JFIF", "truncated"),
        "half a TIFF": ("a.tif", cut(grey_tiff(64, 64, tail=bytes(64 * 64))), "truncated"),
        "only a TIFF header": ("a.tif", whole_tif[:8], "broken"),
        "a PNG with a flipped bit": ("a.png", flipped(whole_png, 900), "broken"),
        "a PNG whose pixels are no zlib stream": ("a.png", png(SIDE, SIDE, bad_data), "broken"),
        "a PNG with a text bomb": (
            "a.png",
            png(SIDE, SIDE, text_bomb, chunk(b"IDAT", zlib.compress(bytes(33 * SIDE)))),
            "broken",
        ),
        "a TIFF with an absurd tag count": (
            "a.tif",
            tiff({256: (4, 0xFFFFFFF0, 8), 257: (4, 1, 64)}),
            "broken",
        ),
    }
    for name, (path, data, reason) in contents.items():
        yield Hostile(name, file(path, data), reason)


# --- bombs and odd shapes ------------------------------------------------------------------------


def square_png(side: int) -> bytes:
    """A real PNG, tiny as a file, of side × side black pixels."""
    rows = zlib.compressobj(9)
    body = b"".join(rows.compress(bytes(side // 8 + 1)) for _ in range(side)) + rows.flush()
    return png(side, side, chunk(b"IDAT", body), depth=1)


def jpeg_claiming(width: int, height: int) -> bytes:
    data = encoded(noise(920), "JPEG")
    at = data.index(b"\xff\xc0") + 5
    return data[:at] + struct.pack(">HH", height, width) + data[at + 4 :]


def jpeg_of_scans(count: int, side: int = 64) -> bytes:
    """A progressive JPEG, one of whose scans is repeated: each costs a pass over the picture."""
    data = encoded(Image.new("L", (side, side), 100), "JPEG", progressive=True)
    starts = [at for at in range(len(data)) if data[at : at + 2] == b"\xff\xda"]
    return data[: starts[2]] + data[starts[1] : starts[2]] * (count - 2) + b"\xff\xd9"


def tiff_of_pages(count: int, beyond: int = 0) -> bytes:
    """A real first page, and pages of one tag after it; the last one points to `beyond`."""
    first = grey_tiff(SIDE, SIDE, tail=bytes(SIDE * SIDE))
    at = len(first)
    link_at = at - SIDE * SIDE - 4
    pages = [
        struct.pack("<HHHIII", 1, 256, 4, 1, SIDE, at + 18 * page if page < count - 1 else beyond)
        for page in range(1, count)
    ]
    return first[:link_at] + struct.pack("<I", at) + first[link_at + 4 :] + b"".join(pages)


def tiff_of_tile(side: int) -> bytes:
    """A small TIFF that is said to lie in one tile of side × side."""
    tags = {
        256: (4, 1, 64), 257: (4, 1, 64), 258: (3, 1, 8), 259: (3, 1, 8), 262: (3, 1, 1),
        277: (3, 1, 1), 322: (4, 1, side), 323: (4, 1, side), 324: (4, 1, 134),
    }  # fmt: skip
    body = zlib.compress(bytes(1 << 16))
    return tiff(tags | {325: (4, 1, len(body))}, tail=body)


def huge_file(rawdata: Path) -> None:
    with (rawdata / "a.png").open("wb") as stream:
        stream.write(encoded(noise(921)))
        stream.truncate(4 << 30)  # sparse


def bombs() -> Iterator[Hostile]:
    idat = chunk(b"IDAT", zlib.compress(bytes(100)))
    contents: dict[str, tuple[str, bytes | Callable[[], bytes], str]] = {
        "a PNG that claims 60 000 × 60 000": (
            "a.png",
            png(60_000, 60_000, idat),
            "too-many-pixels",
        ),
        "a black PNG of 400 megapixels": ("a.png", partial(square_png, 20_000), "too-many-pixels"),
        "a JPEG that claims 65 500 × 65 500": (
            "a.jpg",
            jpeg_claiming(65_500, 65_500),
            "too-many-pixels",
        ),
        "a TIFF that claims 2 gigapixels": ("a.tif", grey_tiff(50_000, 40_000), "too-many-pixels"),
        "a small TIFF in a tile of a gigapixel": (
            "a.tif",
            tiff_of_tile(1 << 15),
            "too-many-pixels",
        ),
        "a JPEG of 5000 scans": ("a.jpg", partial(jpeg_of_scans, 5000), "too-many-scans"),
        "a TIFF of 64 000 pages": ("a.tif", partial(tiff_of_pages, 64_000), "multi-page"),
        "a picture of 3 × 3": ("a.png", encoded(noise(922, (3, 3))), "too-small"),
        "a strip of 8 × 4000": ("a.png", encoded(noise(923, (8, 4000))), "absurd-shape"),
    }
    for name, (path, data, reason) in contents.items():
        yield Hostile(name, file(path, data), reason)
    yield Hostile("a file of 4 GiB", huge_file, "too-large")


def kinds() -> Iterator[Hostile]:
    pages = [Image.fromarray(noise(930 + page)) for page in range(3)]
    wild = np.full((SIDE, SIDE), np.nan, dtype=np.float32)
    deep = noise(934).astype(np.int32) * 100_000
    contents: dict[str, tuple[str, bytes, str]] = {
        "a TIFF of three pages": (
            "a.tif",
            encoded(pages[0], "TIFF", save_all=True, append_images=pages[1:]),
            "multi-page",
        ),
        "an animated PNG": (
            "a.png",
            encoded(pages[0], "PNG", save_all=True, append_images=pages[1:]),
            "animated",
        ),
        "a floating point TIFF": (
            "a.tif",
            encoded(noise(935).astype(np.float32) / 255, "TIFF"),
            "pixel-type",
        ),
        "a TIFF of nothing but NaN": ("a.tif", encoded(wild, "TIFF"), "pixel-type"),
        "a TIFF with 32-bit values": ("a.tif", encoded(deep, "TIFF"), "pixel-type"),
        "a TIFF in Lab colours": (
            "a.tif",
            encoded(Image.new("LAB", (SIDE, SIDE)), "TIFF"),
            "pixel-type",
        ),
    }
    for name, (path, data, reason) in contents.items():
        yield Hostile(name, file(path, data), reason)


# --- links, pipes and names ----------------------------------------------------------------------


def link(name: str, target: str) -> Build:
    return lambda rawdata: (rawdata / name).symlink_to(target)


def link_to_picture(rawdata: Path) -> None:
    secret = rawdata.parent / "secret.png"
    write(secret, encoded(noise(940)))
    (rawdata / "a.png").symlink_to(secret)


def linked_folder(rawdata: Path) -> None:
    outside = rawdata.parent / "outside"
    write(outside / "secret.png", encoded(noise(941)))
    (rawdata / "folder").symlink_to(outside, target_is_directory=True)


def listening(rawdata: Path) -> None:
    here = Path.cwd()
    os.chdir(rawdata)  # a socket's path may have 107 bytes only
    try:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind("a.png")
    finally:
        os.chdir(here)


def named(name: bytes) -> Build:
    def build(rawdata: Path) -> None:
        path = os.path.join(os.fsencode(rawdata), name)  # noqa: PTH118 - Path takes no bytes
        os.makedirs(os.path.dirname(path), exist_ok=True)  # noqa: PTH103, PTH120
        with open(path, "wb") as stream:  # noqa: PTH123
            stream.write(encoded(noise(950)))

    return build


def deep(rawdata: Path) -> None:
    write(rawdata.joinpath(*["d"] * 40, "a.png"), encoded(noise(951)))


def paths() -> Iterator[Hostile]:
    builds: dict[str, tuple[Build, str]] = {
        "a link to the passwords": (link("a.png", "/etc/passwd"), "symlink"),
        "a link to a picture outside": (link_to_picture, "symlink"),
        "a link to nowhere": (link("a.png", "nowhere"), "symlink"),
        "a link to itself": (link("a.png", "a.png"), "symlink"),
        "a linked folder": (linked_folder, "symlink"),
        "a pipe called png": (lambda rawdata: os.mkfifo(rawdata / "a.png"), "not-a-file"),
        "a socket called png": (listening, "not-a-file"),
        "a name with a line feed": (named(b"a\nb.png"), "bad-name"),
        "a name with a terminal command": (named(b"\x1b[2Ja.png"), "bad-name"),
        "a name that is not UTF-8": (named(b"m\xfcller.png"), "bad-name"),
        "a folder that is not UTF-8": (named(b"m\xfcller/a.png"), "bad-name"),
        "a name read backwards": (named("a\u202egnp.exe.png".encode()), "bad-name"),
        "a Windows path as a name": (named(b"a\\..\\..\\windows.png"), "bad-name"),
        "forty folders deep": (deep, "too-deep"),
    }
    for name, (build, reason) in builds.items():
        yield Hostile(name, build, reason)


# --- duplicates, masks, classes, lists -----------------------------------------------------------


def twice(second: str, form: str) -> Build:
    def build(rawdata: Path) -> None:
        write(rawdata / "a.png", encoded(noise(960)))
        write(rawdata / second, encoded(noise(960), form))

    return build


def pair(mask: bytes, seed: int, image: bytes | None = None, also: bytes | None = None) -> Build:
    def build(rawdata: Path) -> None:
        write(rawdata / "images" / "p.png", image or encoded(noise(seed, (SIDE, 40))))
        write(rawdata / "masks" / "p.png", mask)
        if also is not None:
            write(rawdata / "masks" / "p.tif", also)

    return build


def turned(seed: int) -> bytes:
    exif = Image.Exif()
    exif[ORIENTATION] = 3
    return encoded(noise(seed, (SIDE, 40)), "PNG", exif=exif)


def mask(value: int = 255, shape: tuple[int, int] = (SIDE, 40)) -> PixelArray:
    pixels = np.zeros(shape, dtype=np.uint8)
    pixels[4:20, 6:30] = value
    return pixels


def palette_mask() -> bytes:
    image = Image.fromarray(mask(1)).convert("P")
    image.putpalette([255, 255, 255, 200, 0, 0])
    image.putdata(mask(1).reshape(-1).tolist())
    return encoded(image)


def masks() -> Iterator[Hostile]:
    colored = np.zeros((SIDE, 40, 3), dtype=np.uint8)
    colored[4:20, 6:30] = (12, 34, 56)
    see_through = Image.fromarray(mask()).convert("RGBA")
    see_through.putalpha(Image.fromarray(mask(128)))
    values = "mask-values"
    builds: dict[str, tuple[Build, str]] = {
        "a mask of another size": (pair(encoded(mask(shape=(SIDE, 39))), 970), "mask-size"),
        "a mask lying on its side": (pair(encoded(mask().T.copy()), 971), "mask-size"),
        "a photograph as a mask": (pair(encoded(noise(1, (SIDE, 40))), 972), values),
        "a mask smoothed by JPEG": (pair(encoded(mask(), "JPEG", quality=40), 973), values),
        "a mask with an unknown index": (pair(encoded(mask(7)), 974), values),
        "a mask in an unknown colour": (pair(encoded(colored), 975), values),
        "a mask with transparent pixels": (pair(encoded(see_through), 976), values),
        "a palette mask on white": (pair(palette_mask(), 977), values),
        "half a mask": (pair(cut(encoded(noise(2, (SIDE, 40)))), 978), "truncated"),
        "a mask of a picture that EXIF turns": (
            pair(encoded(mask()), 979, image=turned(979)),
            "mask-rotated",
        ),
        "two masks for one picture": (
            pair(encoded(mask()), 980, also=encoded(mask(), "TIFF")),
            "mask-ambiguous",
        ),
        "a mask without a picture": (
            file("masks/lonely.png", encoded(mask())),
            "mask-without-picture",
        ),
    }
    for name, (build, reason) in builds.items():
        yield Hostile(name, build, reason)


def rest() -> Iterator[Hostile]:
    yield Hostile("the same picture twice", twice("b.png", "PNG"), "duplicate")
    yield Hostile("the same pixels in a TIFF", twice("b.tif", "TIFF"), "duplicate")
    grey = encoded(np.stack([noise(960)] * 3, axis=-1))
    both = files(a_dot_png=encoded(noise(960)), b_dot_png=grey)
    yield Hostile("the same picture saved as colour", both, "duplicate")
    classes: Kind = "classification"
    yield Hostile(
        "a folder that is no class",
        file("covid/a.png", encoded(noise(990))),
        "unknown-class",
        classes,
    )
    same = files(normal__c_dot_png=encoded(noise(991)), pneumonia__c_dot_png=encoded(noise(991)))
    yield Hostile("one picture in two classes", same, "duplicate", classes)
    lists: dict[str, bytes] = {
        "a case list in another encoding": "file,patient\na.png,Müller\n".encode("latin-1"),
        "a case list that is a spreadsheet": b"PK\x03\x04" + noise(992).tobytes(),
        "a case list without a file column": b"picture,patient\na.png,P1\n",
        "a case list that contradicts itself": b"file,patient\na.png,P1\na.png,P2\n",
        "a case list with too many fields": b"file,patient\na.png,P1,P2,P3\n",
        "an empty case list": b"\n\n",
    }
    for name, data in lists.items():
        yield Hostile(name, file("cases.csv", data), "bad-case-list", holds_others=True)


CORPUS: tuple[Hostile, ...] = (
    *strangers(), *broken(), *bombs(), *kinds(), *paths(), *masks(), *rest(),
)  # fmt: skip
