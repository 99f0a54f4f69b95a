import io
import zlib

import numpy as np
import pytest
from PIL import Image

from imaging.io.png import png_grey


def test_a_picture_of_any_size_comes_back_from_pillow_as_it_was() -> None:
    random = np.random.default_rng(0)
    sides = [(height, width) for height in range(1, 18) for width in range(1, 18)]
    for shape in [*sides, (1, 4000), (3000, 1), (512, 512), (511, 513)]:
        pixels_HW = random.integers(0, 256, shape, dtype=np.uint8)
        with Image.open(io.BytesIO(png_grey(pixels_HW)), formats=("PNG",)) as image:
            image.verify()  # every checksum
        with Image.open(io.BytesIO(png_grey(pixels_HW))) as image:
            assert image.mode == "L"
            assert np.array_equal(np.asarray(image), pixels_HW)


def test_a_flipped_or_turned_view_is_written_as_it_looks() -> None:
    pixels_HW = np.arange(15, dtype=np.uint8).reshape(3, 5)[::-1, ::-1].T
    with Image.open(io.BytesIO(png_grey(pixels_HW))) as image:
        assert np.array_equal(np.asarray(image), pixels_HW)


def test_the_file_holds_one_whole_zlib_stream_and_nothing_else() -> None:
    pixels_HW = np.tile(np.arange(64, dtype=np.uint8), (64, 1))
    data = png_grey(pixels_HW)
    kinds, place, body = [], 8, b""
    while place < len(data):
        size = int.from_bytes(data[place : place + 4], "big")
        kinds.append(data[place + 4 : place + 8])
        if kinds[-1] == b"IDAT":
            body = data[place + 8 : place + 8 + size]
        place += 12 + size
    assert kinds == [b"IHDR", b"IDAT", b"IEND"] and place == len(data)
    stream = zlib.decompressobj()
    assert len(stream.decompress(body)) == 64 * 65
    assert stream.eof and not stream.unused_data  # its own checksum is right, too
    assert len(data) < 300


@pytest.mark.parametrize(
    "pixels",
    [np.zeros((2, 2), np.uint16), np.zeros((2, 2, 3), np.uint8), np.zeros((0, 2), np.uint8)],
)
def test_what_is_no_grey_picture_is_refused(pixels: np.ndarray) -> None:  # type: ignore[type-arg]
    with pytest.raises(ValueError, match="expected uint8 H×W"):
        png_grey(pixels)
