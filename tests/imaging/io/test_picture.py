from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image, ImageFile

from imaging.errors import GridMismatchError, PictureError
from imaging.io.mask import LabelArray, PixelArray
from imaging.io.picture import (
    PictureLimits,
    decode_picture,
    is_turned,
    pixel_digest,
    png_bytes,
    preview_pixels,
    read_label_map,
    read_picture,
    write_label_map,
    write_picture,
)
from imaging.io.sniff import MAX_SCANS
from imaging.labels import label_scheme
from tests.hostile import (
    ORIENTATION,
    encoded,
    jpeg_of_scans,
    noise,
    tiff_of_pages,
    tiff_of_tile,
)

# Three sides of different lengths and no symmetry, so that no turn goes unseen.
GREY = noise(1, (9, 13))
COLOR = noise(2, (9, 13, 3))
DEEP = noise(3, (9, 13)).astype(np.uint16) * 257
TWO = label_scheme(["kidney", "tumour"], ["#ff0000", "#00ff00"])
ONE = label_scheme(["heart"])


def decoded(pixels: Any, form: str = "PNG", **options: Any) -> PixelArray:
    return decode_picture(encoded(pixels, form, **options)).pixels


def reason(data: bytes, limits: PictureLimits | None = None) -> str:
    with pytest.raises(PictureError) as caught:
        decode_picture(data, limits or PictureLimits())
    return caught.value.reason


@pytest.mark.parametrize("pixels", [GREY, COLOR, DEEP], ids=["grey", "colour", "16 bits"])
@pytest.mark.parametrize("form", ["PNG", "TIFF"])
def test_lossless_pictures_come_back_as_they_were(pixels: PixelArray, form: str) -> None:
    if not (form == "TIFF" and pixels is DEEP):
        assert np.array_equal(decoded(pixels, form), pixels)
    assert decoded(pixels, form).dtype == pixels.dtype


def test_sixteen_bits_come_back_from_both_byte_orders() -> None:
    big = Image.frombytes("I;16B", (13, 9), DEEP.astype(">u2").tobytes())
    assert np.array_equal(decoded(big, "TIFF"), DEEP)
    assert np.array_equal(decoded(DEEP, "TIFF"), DEEP)
    assert decoded(big, "TIFF").dtype == np.dtype("=u2")


@given(
    hnp.arrays(
        st.sampled_from([np.dtype(np.uint8), np.dtype(np.uint16)]),
        st.tuples(st.integers(8, 40), st.integers(8, 40)),
    )
)
@settings(max_examples=40, deadline=None)
def test_any_grey_picture_survives_its_file(pixels: PixelArray) -> None:
    back = decode_picture(png_bytes(pixels)).pixels
    assert back.dtype == pixels.dtype
    assert np.array_equal(back, pixels)
    assert pixel_digest(back) == pixel_digest(pixels)


def test_grey_saved_as_colour_is_grey() -> None:
    assert np.array_equal(decoded(np.stack([GREY] * 3, axis=-1)), GREY)


def test_one_bit_palette_and_alpha_become_plain_pixels() -> None:
    bits = Image.fromarray(GREY > 99)
    assert np.array_equal(decoded(bits), (GREY > 99) * np.uint8(255))
    palette = Image.fromarray(COLOR).quantize(16)
    assert np.array_equal(decoded(palette), np.array(palette.convert("RGB")))
    alpha = Image.fromarray(COLOR).convert("RGBA")
    assert np.array_equal(decoded(alpha), COLOR)
    assert np.array_equal(decoded(Image.fromarray(GREY).convert("LA")), GREY)


def test_transparent_pixels_lie_on_black() -> None:
    alpha = Image.fromarray(COLOR).convert("RGBA")
    alpha.putalpha(Image.fromarray(np.tile(np.uint8([0] * 6 + [255] * 7), (9, 1))))
    pixels = decoded(alpha)
    assert not pixels[:, :6].any()
    assert np.array_equal(pixels[:, 6:], COLOR[:, 6:])


def test_a_cmyk_jpeg_becomes_colour() -> None:
    assert decoded(Image.fromarray(COLOR).convert("CMYK"), "JPEG").shape == (9, 13, 3)


@pytest.mark.parametrize("form", ["PNG", "JPEG", "TIFF"])
def test_exif_turns_are_applied_once(form: str) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 6  # stored lying on its left side
    lying = np.kron(np.rot90(GREY), np.ones((8, 8), dtype=np.uint8))
    options = {"quality": 95} if form == "JPEG" else {}
    data = encoded(lying, form, exif=exif, **options)
    picture = decode_picture(data)
    upright = np.kron(GREY, np.ones((8, 8), dtype=np.uint8))
    assert picture.rotated and is_turned(data)
    assert picture.pixels.shape == upright.shape
    difference = np.abs(picture.pixels.astype(int) - upright)
    assert difference.mean() < (8 if form == "JPEG" else 1e-9)


def test_an_upright_picture_is_not_turned() -> None:
    assert not is_turned(encoded(GREY))
    assert not decode_picture(encoded(GREY)).rotated


def test_a_telephone_picture_with_a_second_frame_is_its_first() -> None:
    first, second = (Image.fromarray(noise(seed, (16, 16, 3))) for seed in (5, 6))
    stream = BytesIO()
    first.save(stream, "MPO", save_all=True, append_images=[second], quality=95)
    single = encoded(first, "JPEG", quality=95)
    assert np.array_equal(decode_picture(stream.getvalue()).pixels, decode_picture(single).pixels)


def test_limits_are_checked_on_the_header() -> None:
    data = encoded(noise(7, (100, 101)))
    assert reason(data, PictureLimits(max_pixels=10_000)) == "too-many-pixels"
    assert reason(encoded(noise(8, (7, 30)))) == "too-small"
    assert reason(data, PictureLimits(max_aspect=1.0)) == "absurd-shape"
    assert decode_picture(data, PictureLimits(max_pixels=10_100)).pixels.shape == (100, 101)


def test_a_jpeg_may_have_as_many_scans_as_encoders_make() -> None:
    data = encoded(COLOR, "JPEG", progressive=True)
    assert 2 < data.count(b"\xff\xda") < MAX_SCANS
    assert decode_picture(data).pixels.shape == (9, 13, 3)
    decode_picture(jpeg_of_scans(MAX_SCANS))


def test_a_jpeg_of_too_many_scans_is_refused_before_it_is_decoded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Image, "open", lambda *_, **__: pytest.fail("opened"))
    assert reason(jpeg_of_scans(MAX_SCANS + 1)) == "too-many-scans"


def test_scans_cannot_be_hidden_behind_a_mark_without_a_length() -> None:
    data = jpeg_of_scans(1000)
    at = data.index(b"\xff\xda", data.index(b"\xff\xda") + 2)
    assert reason(data[:at] + b"\xff\x01\xff\xff" + data[at:]) == "too-many-scans"


def test_what_only_looks_like_scans_in_a_jpeg_does_not_count() -> None:
    """Camera notes before the picture, and the film that telephones append to it."""
    data = encoded(COLOR, "JPEG")
    marks = b"\xff\xda\x00" * 200
    notes = b"\xff\xe2" + (len(marks) + 2).to_bytes(2, "big") + marks
    assert decode_picture(data[:2] + notes + data[2:] + marks).pixels.shape == (9, 13, 3)


def test_the_pages_of_a_tiff_are_not_counted_beyond_the_second() -> None:
    assert reason(tiff_of_pages(2)) == "multi-page"
    assert reason(tiff_of_pages(9, beyond=1 << 30)) == "multi-page"


def test_a_tiff_whose_tile_is_a_bomb_is_refused_before_it_is_decoded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda _: pytest.fail("decoded"))
    assert reason(tiff_of_tile(1 << 15)) == "too-many-pixels"


def test_a_file_above_the_size_limit_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    write_picture(path, GREY)
    with pytest.raises(PictureError) as caught:
        read_picture(path, PictureLimits(max_bytes=20))
    assert caught.value.reason == "too-large"


def test_an_absent_file_is_no_picture_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_picture(tmp_path / "absent.png")


def test_the_digest_depends_on_shape_type_and_pixels() -> None:
    digests = {
        pixel_digest(GREY),
        pixel_digest(GREY.reshape(13, 9)),
        pixel_digest(GREY.astype(np.uint16)),
        pixel_digest(GREY[::-1]),
    }
    assert len(digests) == 4
    assert pixel_digest(DEEP) == pixel_digest(DEEP.astype(">u2"))


def test_a_preview_windows_sixteen_bits_without_the_outliers() -> None:
    deep = np.linspace(1000, 3000, 40_000).reshape(200, 200).astype(np.uint16)
    deep[0, 0], deep[0, 1] = 65535, 0
    preview = preview_pixels(deep)
    assert preview.dtype == np.uint8
    assert preview[0, 0] == 255 and preview[0, 1] == 0
    assert preview[100, 100] == pytest.approx(128, abs=3)
    assert preview_pixels(GREY) is GREY


def test_a_flat_picture_has_a_preview() -> None:
    assert np.unique(preview_pixels(np.full((8, 8), 4242, dtype=np.uint16))).size == 1


# --- label maps ----------------------------------------------------------------------------------


def label_map(data: bytes, tmp_path: Path, scheme: Any = None) -> LabelArray:
    path = tmp_path / "mask.png"
    path.write_bytes(data)
    return read_label_map(path, (9, 13), scheme)


INDICES = (GREY % 3).astype(np.uint8)
BINARY = (GREY > 99).astype(np.uint8)


@given(hnp.arrays(np.uint8, st.just((9, 13)), elements=st.integers(0, 255)))
@settings(max_examples=40, deadline=None)
def test_label_maps_survive_their_file(
    tmp_path_factory: pytest.TempPathFactory, labels_HW: LabelArray
) -> None:
    path = tmp_path_factory.getbasetemp() / "map.png"
    write_label_map(path, labels_HW)
    assert np.array_equal(read_label_map(path, (9, 13)), labels_HW)


@pytest.mark.parametrize("index", [1, 2, 254, 255])
def test_the_only_label_of_a_map_that_labloop_wrote_keeps_its_index(
    tmp_path: Path, index: int
) -> None:
    assert label_map(png_bytes(BINARY * np.uint8(index)), tmp_path).max() == index


def test_a_map_that_labloop_did_not_write_is_refused_without_the_labels(tmp_path: Path) -> None:
    for pixels in (BINARY.astype(np.uint16) * 300, np.stack([BINARY, INDICES, BINARY], axis=-1)):
        with pytest.raises(PictureError, match="expected 8-bit grey"):
            label_map(encoded(pixels), tmp_path)


def test_a_written_label_map_is_read_again(tmp_path: Path) -> None:
    write_label_map(tmp_path / "a.png", INDICES)
    assert np.array_equal(read_label_map(tmp_path / "a.png", (9, 13), TWO), INDICES)


@pytest.mark.parametrize("value", [1, 255, 65535])
def test_a_binary_mask_is_label_one(tmp_path: Path, value: int) -> None:
    dtype = np.uint16 if value > 255 else np.uint8
    data = encoded((BINARY.astype(np.uint32) * value).astype(dtype))
    assert np.array_equal(label_map(data, tmp_path, ONE), BINARY)


def test_a_binary_mask_of_a_task_with_two_labels_is_ambiguous(tmp_path: Path) -> None:
    with pytest.raises(PictureError, match="0 to 2 for kidney, tumour"):
        label_map(encoded(BINARY * np.uint8(255)), tmp_path, TWO)


def test_masks_with_three_equal_channels_and_bits_are_read(tmp_path: Path) -> None:
    stacked = encoded(np.stack([INDICES] * 3, axis=-1))
    assert np.array_equal(label_map(stacked, tmp_path, TWO), INDICES)
    assert np.array_equal(label_map(encoded(Image.fromarray(BINARY > 0)), tmp_path, ONE), BINARY)


def paletted(indices: PixelArray, palette: list[int]) -> bytes:
    image = Image.new("P", (13, 9))
    image.putpalette(palette)
    image.putdata(indices.reshape(-1).tolist())
    return encoded(image)


def test_palette_masks_count_by_index(tmp_path: Path) -> None:
    data = paletted(INDICES, [0, 0, 0, 128, 0, 0, 0, 128, 0])
    assert np.array_equal(label_map(data, tmp_path, TWO), INDICES)


def test_a_black_and_white_palette_counts_by_colour(tmp_path: Path) -> None:
    data = paletted(1 - BINARY, [255, 255, 255, 0, 0, 0])
    assert np.array_equal(label_map(data, tmp_path, ONE), BINARY)


def test_a_palette_that_contradicts_the_labels_is_refused(tmp_path: Path) -> None:
    green_first = [0, 0, 0, 0, 255, 0, 255, 0, 0]
    with pytest.raises(PictureError) as caught:
        label_map(paletted(INDICES, green_first), tmp_path, TWO)
    assert caught.value.reason == "mask-values"


def test_colour_masks_match_the_colours_of_the_labels(tmp_path: Path) -> None:
    colors = np.array([[0, 0, 0], [255, 0, 0], [0, 255, 0]], dtype=np.uint8)
    assert np.array_equal(label_map(encoded(colors[INDICES]), tmp_path, TWO), INDICES)
    colors[2] = (0, 254, 0)
    with pytest.raises(PictureError, match="#00fe00"):
        label_map(encoded(colors[INDICES]), tmp_path, TWO)


def test_a_mask_on_another_grid_is_refused(tmp_path: Path) -> None:
    with pytest.raises(GridMismatchError):
        label_map(encoded(INDICES.T.copy()), tmp_path, TWO)
