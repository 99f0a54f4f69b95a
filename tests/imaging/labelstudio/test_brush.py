import tracemalloc
from contextlib import suppress
from types import ModuleType

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from imaging.errors import CodecError
from imaging.labelstudio import brush
from imaging.labelstudio.brush import OPAQUE, decode_rle, encode_rle
from tests.imaging.labelstudio.rle_pack import browser_encode

Mask = npt.NDArray[np.bool_]
SHAPES = array_shapes(min_dims=2, max_dims=2, max_side=40)
TEXTURES = ("empty", "full", "noise", "stripes", "columns", "blob", "speck", "checkers")


def texture(name: str, shape_HW: tuple[int, int], seed: int = 0) -> Mask:
    rows, columns = np.indices(shape_HW)
    height, width = shape_HW
    distance = np.hypot(rows - height * 0.4, columns - width * 0.55)
    speck = np.zeros(shape_HW, dtype=bool)
    speck[-1, -1] = True
    return {
        "empty": np.zeros(shape_HW, dtype=bool),
        "full": np.ones(shape_HW, dtype=bool),
        "noise": np.random.default_rng(seed).random(shape_HW) < 0.5,
        "stripes": rows % 2 == 0,
        "columns": columns % 3 == 1,
        "blob": distance < min(shape_HW) / 3,
        "speck": speck,
        "checkers": (rows + columns) % 2 == 0,
    }[name]


def header(words: int, word_bits: int = 8, run_bits: tuple[int, ...] = (3, 4, 8, 16)) -> str:
    sizes = "".join(f"{size - 1:04b}" for size in run_bits)
    return f"{words:032b}{word_bits - 1:05b}{sizes}"


def packed(bits: str) -> list[int]:
    return [int(bits[at : at + 8].ljust(8, "0"), 2) for at in range(0, len(bits), 8)]


@given(arrays(bool, SHAPES))
def test_a_mask_comes_back_as_it_was(mask_HW: Mask) -> None:
    alpha_HW = decode_rle(encode_rle(mask_HW), mask_HW.shape)
    assert np.array_equal(alpha_HW > OPAQUE, mask_HW)
    assert set(np.unique(alpha_HW)) <= {0, 255}


@given(arrays(np.uint8, SHAPES))
def test_every_alpha_comes_back_as_it_was(alpha_HW: npt.NDArray[np.uint8]) -> None:
    assert np.array_equal(decode_rle(encode_rle(alpha_HW), alpha_HW.shape), alpha_HW)


@given(st.sampled_from(TEXTURES), st.integers(1, 300), st.integers(1, 300), st.integers(0, 9))
@settings(max_examples=60)
def test_textures_of_any_size_come_back(name: str, height: int, width: int, seed: int) -> None:
    mask_HW = texture(name, (height, width), seed)
    assert np.array_equal(decode_rle(encode_rle(mask_HW), (height, width)) > OPAQUE, mask_HW)


@given(alpha_HW=arrays(np.uint8, array_shapes(min_dims=2, max_dims=2, max_side=12)))
def test_encoding_writes_the_bytes_of_the_sdk(
    sdk_brush: ModuleType, alpha_HW: npt.NDArray[np.uint8]
) -> None:
    assert encode_rle(alpha_HW) == sdk_brush.mask2rle(alpha_HW)


@pytest.mark.parametrize("name", TEXTURES)
@pytest.mark.parametrize("shape_HW", [(1, 1), (1, 97), (64, 3), (90, 127)])
def test_both_codecs_agree_on_every_texture(
    sdk_brush: ModuleType, name: str, shape_HW: tuple[int, int]
) -> None:
    mask_HW = texture(name, shape_HW)
    rle = sdk_brush.mask2rle(mask_HW.astype(np.uint8) * 255)
    assert encode_rle(mask_HW) == rle
    expected = sdk_brush.decode_rle(rle).reshape(*shape_HW, 4)[..., 3]
    assert np.array_equal(decode_rle(rle, shape_HW), expected)


@pytest.mark.parametrize("pixels", [16383, 16384, 16385, 32768, 32769, 50000])
def test_runs_longer_than_a_run_may_be_are_split_as_the_sdk_does(
    sdk_brush: ModuleType, pixels: int
) -> None:
    alpha_HW = np.zeros((1, pixels + 7), dtype=np.uint8)
    alpha_HW[0, 7:] = 255
    rle = encode_rle(alpha_HW)
    assert rle == sdk_brush.mask2rle(alpha_HW)
    assert np.array_equal(decode_rle(rle, alpha_HW.shape), alpha_HW)


def test_a_mask_seen_through_a_view_is_encoded_as_it_looks() -> None:
    mask_HW = texture("noise", (24, 31))[::-2, ::3].T
    assert encode_rle(mask_HW) == encode_rle(mask_HW.copy())


@given(
    words=st.lists(st.sampled_from([0, 0, 0, 7, 90, 255]), min_size=1, max_size=120),
    run_bits=st.permutations([2, 3, 5, 16]),
)
def test_literal_runs_and_odd_run_sizes_decode_as_in_the_sdk(
    sdk_brush: ModuleType, words: list[int], run_bits: list[int]
) -> None:
    pixels = -(-len(words) // 4)
    words = words + [9] * (pixels * 4 - len(words))
    rle = browser_encode(words, run_bits=sorted(run_bits))
    expected = sdk_brush.decode_rle(rle).reshape(pixels, 4)[:, 3]
    assert np.array_equal(decode_rle(rle, (1, pixels))[0], expected)
    assert expected.tolist() == words[3::4]


def test_a_payload_of_many_blocks_with_literals_across_their_borders_decodes() -> None:
    rng = np.random.default_rng(3)
    words = rng.integers(0, 256, (60, 60, 4), dtype=np.uint8)
    words[20:40] = words[20:40, :1, :1]  # repeats in the middle
    rle = browser_encode(words.ravel().tolist())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(brush, "BLOCK_BYTES", 61)
        assert np.array_equal(decode_rle(rle, (60, 60)), words[..., 3])
    assert np.array_equal(decode_rle(rle, (60, 60)), words[..., 3])


def test_the_browsers_code_for_a_mask_decodes_like_ours() -> None:
    mask_HW = texture("blob", (40, 52))
    words = np.repeat(mask_HW.astype(np.uint8) * 255, 4)
    rle = browser_encode(words.tolist())
    assert np.array_equal(decode_rle(rle, (40, 52)), decode_rle(encode_rle(mask_HW), (40, 52)))


def test_an_antialiased_stroke_is_cut_at_half_opacity() -> None:
    alpha_HW = np.array([[0, 1, 64, 127, 128, 200, 254, 255]], dtype=np.uint8)
    words = np.repeat(alpha_HW, 4).tolist()
    decoded = decode_rle(browser_encode(words), alpha_HW.shape)
    assert (decoded > OPAQUE).tolist() == [[False] * 4 + [True] * 4]


@pytest.mark.parametrize(
    ("array", "reason"),
    [
        (np.zeros((0, 4), dtype=bool), "shape"),
        (np.zeros(4, dtype=bool), "shape"),
        (np.zeros((2, 2, 4), dtype=np.uint8), "shape"),
        (np.zeros((2, 2), dtype=np.int64), "int64"),
        (np.zeros((2, 2), dtype=np.float32), "float32"),
        (np.broadcast_to(np.uint8(0), (2**15, 2**15)), "2³⁰"),
    ],
)
def test_what_is_no_mask_is_not_encoded(array: Mask, reason: str) -> None:
    with pytest.raises(CodecError, match=reason):
        encode_rle(array)


RUN = "1" + "01" + f"{15:04b}" + f"{255:08b}"  # 16 words, four pixels
HOSTILE = {
    "claims 4 GiB": (packed(f"{2**32 - 1:032b}" + header(16)[32:] + RUN), "for 4294967295 bytes"),
    "claims less": (packed(header(12) + RUN), "for 12 bytes"),
    "claims nothing": (packed(header(0) + RUN), "for 0 bytes"),
    "empty": ([], "0 numbers"),
    "header only": (packed(header(16)), "cut off"),
    "half a header": (packed(header(16))[:5], "5 numbers"),
    "not a list": (16, "is int"),
    "a text": ("0123456789", "is str"),
    "an object": ({"0": 1}, "is dict"),
    "nothing": (None, "is NoneType"),
    "text inside": ([*packed(header(16) + RUN)[:-1], "1"], "whole numbers"),
    "a float inside": ([*packed(header(16) + RUN)[:-1], 0.0], "whole numbers"),
    "true inside": ([*packed(header(16) + RUN)[:-1], True], "whole numbers"),
    "a list inside": ([*packed(header(16) + RUN)[:-1], [0]], "whole numbers"),
    "a negative number": ([*packed(header(16) + RUN)[:-1], -1], "outside 0 to 255"),
    "a large number": ([*packed(header(16) + RUN)[:-1], 256], "outside 0 to 255"),
    "a huge number": ([*packed(header(16) + RUN)[:-1], 10**30], "outside 0 to 255"),
    "1-bit words": (packed(header(16, word_bits=1) + RUN), "words of 1 bits"),
    "32-bit words": (packed(header(16, word_bits=32) + RUN), "words of 32 bits"),
    "one run too long": (packed(header(16) + "110" + f"{16:08b}" + f"{255:08b}"), "byte 17"),
    "huge run": (packed(header(16) + "111" + f"{65535:016b}" + f"{255:08b}"), "byte 65536"),
    "runs too short": (packed(header(16) + "100" + f"{3:03b}" + f"{255:08b}"), "cut off"),
    "cut in the value": (packed(header(16) + RUN)[:-1], "inside its last run"),
    "cut in a literal": (
        packed(header(16) + "001" + f"{15:04b}" + "1" * 8 * 12),
        "inside its last run",
    ),
    "a literal that runs away": (packed(header(16) + "011" + "1" * 16), "byte 65536"),
    "too long": (packed(header(16) + RUN) + [0] * 100, "numbers, expected"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_payload_is_refused_with_its_reason(name: str) -> None:
    rle, reason = HOSTILE[name]
    with pytest.raises(CodecError, match=reason):
        decode_rle(rle, (2, 2))  # type: ignore[arg-type]


def test_a_payload_that_claims_4_gib_allocates_next_to_nothing() -> None:
    rle = [255, 255, 255, 255, *packed(header(16) + RUN)[4:]]
    tracemalloc.start()
    try:
        with pytest.raises(CodecError):
            decode_rle(rle, (2, 2))
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < 100_000


@given(st.lists(st.integers(0, 255), max_size=80))
def test_any_bytes_give_a_mask_of_the_right_size_or_a_codec_error(tail: list[int]) -> None:
    payload = packed(header(64))[:6] + tail
    with suppress(CodecError):
        assert decode_rle(payload, (4, 4)).shape == (4, 4)


def test_zero_bytes_behind_the_last_run_are_no_harm() -> None:
    rle = encode_rle(texture("blob", (9, 9)))
    assert np.array_equal(decode_rle([*rle, 0], (9, 9)), decode_rle(rle, (9, 9)))
