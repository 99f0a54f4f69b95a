from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from imaging.model.transforms import (
    interpolation,
    labels_on_picture,
    likeliest,
    percentiles,
    place,
    preprocess,
    preprocess_labels,
    scale_intensity,
)
from imaging.recipes.recipe import Preprocessing

GREY = Preprocessing(
    input_H=64,
    input_W=64,
    channels=1,
    fit="pad",
    normalisation="percentile",
    low_percentile=1.0,
    high_percentile=99.0,
    range_max=255.0,
)
STRETCH = replace(GREY, fit="stretch", input_H=64, input_W=48)
ODD_SHAPES = [(97, 61), (61, 97), (64, 64), (33, 128), (301, 199), (20, 24)]


def noise(*shape: int, dtype: type = np.uint8, seed: int = 0) -> NDArray[Any]:
    top = np.iinfo(dtype).max
    return np.random.default_rng(seed).integers(0, top, shape, dtype=dtype, endpoint=True)


def blob(shape_HW: tuple[int, int]) -> NDArray[np.uint8]:
    """An off-centre ellipse (1) with a bite (2) taken out of it."""
    height, width = shape_HW
    rows, columns = np.mgrid[:height, :width]
    y, x = 0.4 * height, 0.6 * width
    ellipse = ((rows - y) / (0.3 * height)) ** 2 + ((columns - x) / (0.25 * width)) ** 2 < 1
    labels_HW = ellipse.astype(np.uint8)
    labels_HW[ellipse & (rows > y) & (columns > x)] = 2
    return labels_HW


def as_probabilities(labels_HW: NDArray[np.uint8], count: int = 3) -> NDArray[np.float32]:
    return (labels_HW[None] == np.arange(count)[:, None, None]).astype(np.float32)


@pytest.mark.parametrize("recipe", [GREY, STRETCH])
@pytest.mark.parametrize("shape_HW", ODD_SHAPES)
def test_the_input_has_the_recipes_size_and_range(
    recipe: Preprocessing, shape_HW: tuple[int, int]
) -> None:
    image_CHW, placement = preprocess(noise(*shape_HW), recipe)
    assert image_CHW.shape == (1, recipe.input_H, recipe.input_W)
    assert image_CHW.dtype == np.float32
    assert 0.0 <= image_CHW.min() < image_CHW.max() <= 1.0
    assert placement.shape_HW == shape_HW


@pytest.mark.parametrize("recipe", [GREY, STRETCH])
@pytest.mark.parametrize("shape_HW", ODD_SHAPES)
def test_a_label_map_comes_back_on_the_exact_grid_of_its_picture(
    recipe: Preprocessing, shape_HW: tuple[int, int]
) -> None:
    labels_HW = blob(shape_HW)
    small_HW = preprocess_labels(labels_HW, 3, recipe)
    back_HW = labels_on_picture(as_probabilities(small_HW), place(shape_HW, recipe))
    assert back_HW.shape == shape_HW
    assert back_HW.dtype == np.uint8
    for index in (1, 2):
        truth, found = labels_HW == index, back_HW == index
        assert 2 * (truth & found).sum() / (truth.sum() + found.sum()) > 0.9


@pytest.mark.parametrize("recipe", [GREY, STRETCH])
@pytest.mark.parametrize("shape_HW", ODD_SHAPES)
def test_image_and_label_map_stay_on_top_of_each_other(
    recipe: Preprocessing, shape_HW: tuple[int, int]
) -> None:
    labels_HW = blob(shape_HW)
    image_CHW, _ = preprocess((labels_HW == 1).astype(np.uint8) * 255, recipe)
    small_HW = preprocess_labels(labels_HW, 3, recipe)
    assert np.mean((image_CHW[0] > 0.5) == (small_HW == 1)) > 0.98


def test_strips_make_no_seam(monkeypatch: pytest.MonkeyPatch) -> None:
    placement = place((301, 199), GREY)
    probabilities = np.random.default_rng(1).random((3, 64, 64), dtype=np.float32)
    whole_HW = labels_on_picture(probabilities, placement)
    monkeypatch.setattr("imaging.model.transforms.STRIP_ROWS", 7)
    assert np.array_equal(labels_on_picture(probabilities, placement), whole_HW)


def test_resampling_probabilities_invents_no_label_between_two_others() -> None:
    labels_HW = np.zeros((16, 16), dtype=np.uint8)
    labels_HW[:, 8:] = 2
    recipe = replace(GREY, input_H=16, input_W=16)
    back_HW = labels_on_picture(as_probabilities(labels_HW), place((160, 160), recipe))
    assert set(np.unique(back_HW)) == {0, 2}


def test_padding_is_symmetric_and_dark() -> None:
    image_CHW, placement = preprocess(np.full((64, 31), 200, np.uint8) + noise(64, 31) // 8, GREY)
    assert (placement.top, placement.left, placement.inner_HW) == (0, 16, (64, 31))
    assert not image_CHW[0, :, :16].any()
    assert not image_CHW[0, :, 47:].any()
    assert image_CHW[0, :, 16:47].any()


def test_sixteen_bits_and_eight_give_the_same_input() -> None:
    pixels = noise(50, 40)
    deep = pixels.astype(np.uint16) * 257
    assert np.allclose(preprocess(pixels, GREY)[0], preprocess(deep, GREY)[0], atol=1e-5)


def test_a_picture_of_one_value_becomes_black_instead_of_nan() -> None:
    image_CHW, _ = preprocess(
        np.full((30, 30), 255, np.uint8), replace(GREY, input_H=30, input_W=30)
    )
    assert not image_CHW.any()


def test_grey_serves_a_colour_network_and_colour_a_grey_one() -> None:
    colour = noise(64, 64, 3)
    assert preprocess(colour, GREY)[0].shape == (1, 64, 64)
    image_CHW, _ = preprocess(colour[..., 0], replace(GREY, channels=3))
    assert np.array_equal(image_CHW[0], image_CHW[1])
    assert np.array_equal(image_CHW[1], image_CHW[2])


def test_a_fixed_range_keeps_the_ratio_of_the_channels() -> None:
    image_CHW = np.array([[[100.0]], [[50.0]], [[300.0]]], dtype=np.float32)
    scaled = scale_intensity(image_CHW, replace(GREY, normalisation="range"))
    assert np.allclose(scaled[:, 0, 0], [100 / 255, 50 / 255, 1.0])


@pytest.mark.parametrize(("source", "target"), [(7, 20), (20, 7), (5, 5), (1, 4), (4, 1)])
def test_interpolation_weights_sum_to_one(source: int, target: int) -> None:
    matrix = interpolation(source, target)
    assert matrix.shape == (target, source)
    assert np.allclose(matrix.sum(1), 1)


def test_a_label_that_covers_most_of_a_pixel_gets_it() -> None:
    labels_HW = np.zeros((64, 64), dtype=np.uint8)
    labels_HW[:, 20:] = 1
    small_HW = preprocess_labels(labels_HW, 2, replace(GREY, input_H=16, input_W=16))
    assert np.array_equal(small_HW[8], np.repeat([0, 1], [5, 11]))


@pytest.mark.parametrize("count", [1, 2, 5])
def test_the_likeliest_label_is_the_first_of_the_largest(count: int) -> None:
    levels = np.random.default_rng(count).integers(0, 3, (count, 20, 30))  # many are equal
    probabilities_KHW = (levels / 3).astype(np.float32)
    labels_HW = likeliest(probabilities_KHW)
    assert labels_HW.dtype == np.uint8
    assert np.array_equal(labels_HW, probabilities_KHW.argmax(0))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("limits", [(0.5, 99.5), (0.0, 100.0), (1.0, 50.0)])
def test_percentiles_of_bytes_are_those_of_numpy(seed: int, limits: tuple[float, float]) -> None:
    rng = np.random.default_rng(seed)
    for shape in ((8, 9), (40, 56), (33, 20, 3)):
        pixels = rng.integers(0, rng.integers(2, 257), shape).astype(np.uint8)
        expected = np.percentile(pixels.astype(np.float64), limits)
        assert percentiles(pixels, limits) == pytest.approx(expected.tolist(), abs=1e-9)
