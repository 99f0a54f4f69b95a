import base64
import io
import struct
import tracemalloc
import zlib

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis.extra.numpy import array_shapes, arrays
from PIL import Image

from imaging.errors import CodecError, GridMismatchError
from imaging.labelstudio.bitmask import PREFIX, decode_bitmask, encode_bitmask

SHAPE = (6, 9)


def data_url(png: bytes) -> str:
    return PREFIX + base64.b64encode(png).decode()


def png_of(image: Image.Image) -> bytes:
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return stream.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_with(width: int, height: int, pixels: bytes, extra: bytes = b"") -> bytes:
    """A PNG of RGBA pixels whose header may claim anything."""
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 6, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + extra + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


@given(arrays(bool, array_shapes(min_dims=2, max_dims=2, max_side=30)))
def test_a_mask_comes_back_as_it_was(mask_HW: npt.NDArray[np.bool_]) -> None:
    assert np.array_equal(decode_bitmask(encode_bitmask(mask_HW), mask_HW.shape), mask_HW)


def test_noise_is_not_mistaken_for_a_bomb() -> None:
    rgba = np.random.default_rng(0).integers(0, 256, (200, 300, 4), dtype=np.uint8)
    url = data_url(png_of(Image.fromarray(rgba, "RGBA")))
    assert np.array_equal(decode_bitmask(url, (200, 300)), rgba[..., 3] > 127)


def test_a_palette_with_a_transparent_colour_is_a_mask() -> None:
    image = Image.fromarray(np.array([[0, 1, 1], [1, 0, 0]], dtype=np.uint8), "P")
    image.putpalette([0, 0, 0, 255, 0, 0])
    image.info["transparency"] = 0
    expected = [[False, True, True], [True, False, False]]
    assert decode_bitmask(data_url(png_of(image)), (2, 3)).tolist() == expected


def test_half_transparent_edges_are_cut_at_half_opacity() -> None:
    rgba = np.zeros((1, 4, 4), dtype=np.uint8)
    rgba[0, :, 3] = [0, 127, 128, 255]
    url = data_url(png_of(Image.fromarray(rgba, "RGBA")))
    assert decode_bitmask(url, (1, 4)).tolist() == [[False, False, True, True]]


def test_a_mask_of_another_size_does_not_fit() -> None:
    with pytest.raises(GridMismatchError, match=r"\(9, 6\), its image has \(6, 9\)"):
        decode_bitmask(encode_bitmask(np.zeros((9, 6), dtype=bool)), SHAPE)


def test_a_second_header_cannot_make_the_mask_larger_than_its_picture() -> None:
    second = chunk(b"IHDR", struct.pack(">IIBBBBB", 3000, 2000, 8, 6, 0, 0, 0))
    pixels = zlib.compress(bytes(2000 * (4 * 3000 + 1)))
    url = data_url(png_with(9, 6, pixels, extra=second))
    tracemalloc.start()
    try:
        with pytest.raises(GridMismatchError, match=r"\(2000, 3000\), its image has \(6, 9\)"):
            decode_bitmask(url, SHAPE)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < 1_000_000


def test_a_header_that_claims_4_gigapixels_is_refused_before_anything_is_decoded() -> None:
    url = data_url(png_with(65_535, 65_535, zlib.compress(bytes(1000))))
    tracemalloc.start()
    try:
        with pytest.raises(GridMismatchError):
            decode_bitmask(url, SHAPE)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < 100_000


TEXT_BOMB = chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(10_000_000)))
ROWS = b"".join(b"\0" + bytes(range(row, row + 36)) for row in range(6))
HOSTILE = {
    "nothing": (None, "expected data:"),
    "a number": (7, "expected data:"),
    "another kind": ("data:image/jpeg;base64,AAAA", "expected data:"),
    "an address": ("http://169.254.169.254/latest/meta-data", "expected data:"),
    "a path": ("file:///etc/passwd", "expected data:"),
    "no base64": (PREFIX + "!!!!", "base64"),
    "text beyond ASCII": (PREFIX + "ä" * 8, "base64"),
    "empty": (PREFIX, "no PNG"),
    "a JPEG": (data_url(b"\xff\xd8\xff\xe0" + bytes(100)), "no PNG"),
    "only a signature": (data_url(b"\x89PNG\r\n\x1a\n"), "no PNG"),
    "too many characters": (PREFIX + "A" * 1_000_000, "too many"),
    "cut off": (data_url(png_with(9, 6, zlib.compress(ROWS))[:-60]), "no readable PNG"),
    "broken pixels": (data_url(png_with(9, 6, b"not deflated at all")), "no readable PNG"),
    "too few pixels": (data_url(png_with(9, 6, zlib.compress(bytes(20)))), "no readable PNG"),
    "a text bomb": (
        data_url(png_with(9, 6, zlib.compress(bytes(37 * 6)), TEXT_BOMB)),
        "no readable PNG",
    ),
    "black and white": (data_url(png_of(Image.new("L", (9, 6), 255))), "no transparency"),
    "opaque colours": (data_url(png_of(Image.new("RGB", (9, 6)))), "no transparency"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_data_url_is_refused_with_its_reason(name: str) -> None:
    url, reason = HOSTILE[name]
    with pytest.raises(CodecError, match=reason):
        decode_bitmask(url, SHAPE)
