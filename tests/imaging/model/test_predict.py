from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

from imaging.errors import BundleError
from imaging.model.bundle import Bundle
from imaging.model.predict import (
    BATCH,
    Predictor,
    class_confidence,
    load_predictor,
    mask_confidence,
)
from imaging.model.transforms import FloatArray
from tests.phantoms import disc_picture, side_picture

SHAPES = [(40, 36), (33, 70), (90, 41), (8, 64)]


def discs(count: int) -> list[np.ndarray]:  # type: ignore[type-arg]
    return [disc_picture(number, SHAPES[number % len(SHAPES)])[0] for number in range(count)]


def test_label_maps_come_back_on_each_pictures_own_grid(mask_bundle: Bundle) -> None:
    images = discs(BATCH + 3)
    answers = load_predictor(mask_bundle.folder).predict(images)
    for image, answer in zip(images, answers, strict=True):
        assert answer.labels_HW is not None
        assert answer.labels_HW.shape == image.shape
        assert answer.labels_HW.max() <= 2
        assert answer.probabilities is None
        assert 0.0 <= answer.score <= 1.0


def test_class_probabilities_sum_to_one_in_the_schemes_names(class_bundle: Bundle) -> None:
    answers = load_predictor(class_bundle.folder).predict([side_picture(1)[0], side_picture(2)[0]])
    for answer in answers:
        assert answer.labels_HW is None
        assert answer.probabilities is not None
        assert list(answer.probabilities) == ["left", "right"]
        assert sum(answer.probabilities.values()) == pytest.approx(1, abs=1e-5)
        assert answer.score == max(answer.probabilities.values())


def test_openvino_and_torch_give_the_same_answers(
    mask_bundle: Bundle, class_bundle: Bundle
) -> None:
    for bundle in (mask_bundle, class_bundle):
        images = discs(3)
        fast = load_predictor(bundle.folder, "openvino").predict(images)
        slow = load_predictor(bundle.folder, "torch").predict(images)
        for one, other in zip(fast, slow, strict=True):
            assert one.score == pytest.approx(other.score, abs=1e-4)
            if one.labels_HW is not None and other.labels_HW is not None:
                assert np.mean(one.labels_HW == other.labels_HW) > 0.999
            if one.probabilities is not None:
                assert one.probabilities == pytest.approx(other.probabilities, abs=1e-4)


def test_a_picture_gets_the_same_answer_alone_and_in_a_batch(mask_bundle: Bundle) -> None:
    predictor = load_predictor(mask_bundle.folder)
    images = discs(5)
    together = predictor.predict(images)
    for image, answer in zip(images, together, strict=True):
        alone = predictor.predict([image])[0].labels_HW
        assert alone is not None
        assert answer.labels_HW is not None
        assert np.mean(alone == answer.labels_HW) > 0.999


def test_a_server_with_streams_gives_the_same_answers(
    mask_bundle: Bundle, class_bundle: Bundle
) -> None:
    for bundle in (mask_bundle, class_bundle):
        alone, serving = load_predictor(bundle.folder), load_predictor(bundle.folder, streams=2)
        for images in (discs(1), discs(3), []):
            for one, other in zip(alone.predict(images), serving.predict(images), strict=True):
                np.testing.assert_array_equal(one.labels_HW, other.labels_HW)
                assert one.score == pytest.approx(other.score, abs=1e-5)


def test_threads_do_not_get_each_others_answers(mask_bundle: Bundle) -> None:
    predictor = load_predictor(mask_bundle.folder, threads=1)
    images = discs(8)
    expected = [predictor.predict([image])[0].labels_HW for image in images]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(5):
            found = list(pool.map(lambda image: predictor.predict([image])[0].labels_HW, images))
            assert all(np.array_equal(a, b) for a, b in zip(expected, found, strict=True))


def test_a_predictor_tells_version_scheme_and_kind(mask_bundle: Bundle) -> None:
    predictor = load_predictor(mask_bundle.folder)
    assert (predictor.version, predictor.kind) == ("model-1", "segmentation")
    assert predictor.scheme.names == ("disc", "core")


def test_no_pictures_no_answers(mask_bundle: Bundle) -> None:
    assert load_predictor(mask_bundle.folder).predict([]) == []


def test_an_absent_bundle_is_a_bundle_error(mask_bundle: Bundle) -> None:
    with pytest.raises(BundleError):
        load_predictor(mask_bundle.folder.parent / "model-2")


def test_padding_never_becomes_a_label(mask_bundle: Bundle) -> None:
    """A network that sees label 1 only in the padding leaves no trace on the picture."""

    def forward(images_BCHW: FloatArray) -> FloatArray:
        output = np.zeros((len(images_BCHW), 3, 32, 32), dtype=np.float32)
        output[:, 0] = 1
        output[:, :, :, :8] = np.array([0, 1, 0])[None, :, None, None]
        output[:, :, :, 24:] = np.array([0, 1, 0])[None, :, None, None]
        return output

    tall = np.random.default_rng(0).integers(0, 255, (64, 32), dtype=np.uint8)
    answer = Predictor(mask_bundle, forward).predict([tall])[0]
    assert answer.labels_HW is not None
    assert not answer.labels_HW.any()


def probabilities_of(mask_HW: np.ndarray, inside: float, outside: float) -> FloatArray:  # type: ignore[type-arg]
    foreground = np.where(mask_HW, inside, outside).astype(np.float32)
    return np.stack([1 - foreground, foreground])


def test_confidence_falls_as_a_mask_gets_fuzzier() -> None:
    mask_HW = disc_picture(1)[1] > 0
    sure, unsure = probabilities_of(mask_HW, 0.99, 0.01), probabilities_of(mask_HW, 0.6, 0.3)
    assert mask_confidence(sure) > 0.9
    assert mask_confidence(unsure) < 0.6


def test_an_empty_mask_is_sure_when_nothing_was_nearly_drawn() -> None:
    mask_HW = disc_picture(1)[1] > 0
    assert mask_confidence(probabilities_of(mask_HW, 0.02, 0.01)) > 0.95
    assert mask_confidence(probabilities_of(mask_HW, 0.45, 0.01)) < 0.6


def test_one_uncertain_label_among_two_lowers_confidence() -> None:
    labels_HW = disc_picture(1)[1]
    certain = (labels_HW[None] == np.arange(3)[:, None, None]).astype(np.float32)
    doubtful = certain.copy()
    doubtful[:, labels_HW == 2] = np.array([[0.0], [0.45], [0.55]])
    assert mask_confidence(doubtful) < mask_confidence(certain)


def test_class_confidence_is_about_the_least_certain_class_when_several_may_hold() -> None:
    odds = np.array([0.99, 0.55, 0.02], dtype=np.float32)
    assert class_confidence(odds, several=True) == pytest.approx(0.55)
    assert class_confidence(odds, several=False) == pytest.approx(0.99)


def test_several_classes_use_their_own_measure_of_confidence(class_bundle: Bundle) -> None:
    several = replace(class_bundle, multi_label=True)
    odds = np.array([[0.9, 0.6]], dtype=np.float32)
    answer = Predictor(several, lambda images: odds).predict([side_picture(1)[0]])[0]
    assert answer.score == pytest.approx(0.6)
