"""The best answer without looking at the picture."""

import numpy as np
import pytest

from imaging.errors import ScoreError
from imaging.gate import CaseScore, judge
from imaging.labels import label_scheme
from imaging.model.guess import guess_classes, guess_masks
from imaging.model.metrics import LabelMap, dice_by_label, quadratic_scores, score_masks
from imaging.task import GatePolicy

ONE = label_scheme(["lv"])
TWO = label_scheme(["kidney", "tumour"])
PAIR = label_scheme(["normal", "pneumonia"])


def disc(row: float, column: float, radius: float, side: int = 96) -> LabelMap:
    rows, columns = np.indices((side, side))
    return (np.hypot(rows - row, columns - column) < radius).astype(np.uint8)


def scattered(rng: np.random.Generator, cases: int) -> list[LabelMap]:
    return [disc(*rng.normal(48, 9, size=2), rng.uniform(12, 22)) for _ in range(cases)]


def mean_dice(guess_HW: LabelMap, truths: list[LabelMap]) -> float:
    scores = [dice_by_label(score_masks(truth, guess_HW, ONE))["lv"] for truth in truths]
    return float(np.mean([score for score in scores if score is not None]))


def test_the_guess_lies_where_the_label_lies_on_average() -> None:
    guess_HW = guess_masks([disc(30, 60, 12)] * 3, ONE).at((96, 96))
    assert mean_dice(guess_HW, [disc(30, 60, 12)]) > 0.95


def test_no_other_fixed_disc_does_better_on_the_training_maps() -> None:
    rng = np.random.default_rng(3)
    truths = scattered(rng, 60)
    guessed = mean_dice(guess_masks(truths, ONE).at((96, 96)), truths)
    others = [mean_dice(disc(48, 48, radius), truths) for radius in (8, 12, 16, 20, 24, 30)]
    assert guessed > max(others) - 0.01
    assert guessed > mean_dice(truths[0], truths)


def test_the_guess_fits_pictures_of_any_size_and_keeps_their_proportions() -> None:
    wide = np.zeros((40, 100), dtype=np.uint8)
    wide[10:30, 75:] = 1
    guess_HW = guess_masks([wide], ONE).at((80, 300))
    assert guess_HW.shape == (80, 300)
    assert guess_HW[40, 280] == 1 and guess_HW[40, 150] == 0 and guess_HW[4, 280] == 0


def test_each_label_keeps_its_own_place_and_index() -> None:
    labels_HW = np.zeros((64, 64), dtype=np.uint8)
    labels_HW[8:40, 8:40] = 1
    labels_HW[16:24, 16:24] = 2
    guess_HW = guess_masks([labels_HW] * 4, TWO).at((64, 64))
    assert np.array_equal(guess_HW, labels_HW)


def test_a_label_that_no_map_holds_is_not_guessed() -> None:
    guess_HW = guess_masks([disc(48, 48, 10)], TWO).at((96, 96))
    assert set(np.unique(guess_HW)) == {0, 1}


def test_a_guess_from_nothing_is_refused() -> None:
    with pytest.raises(ScoreError, match="no training maps"):
        guess_masks([], ONE)


def test_a_model_that_draws_the_average_for_everybody_does_not_become_champion() -> None:
    rng = np.random.default_rng(4)
    training, held_out = scattered(rng, 40), scattered(rng, 40)
    guess = guess_masks(training, ONE)

    def records(maps: list[LabelMap]) -> list[CaseScore]:
        return [
            CaseScore(f"c{n}", f"p{n}", dice_by_label(score_masks(truth, pred, ONE)))
            for n, (truth, pred) in enumerate(zip(held_out, maps, strict=True))
        ]

    guessed = records([guess.at(truth.shape) for truth in held_out])
    learned_nothing = records([disc(48, 48, 17)] * 40)
    assert not judge(learned_nothing, None, GatePolicy(), guess=guessed).promote
    looks = records([np.roll(truth, 2, axis=0) for truth in held_out])
    assert judge(looks, None, GatePolicy(), guess=guessed).promote


def class_records(truth: list[tuple[str, ...]], probabilities_NK: np.ndarray) -> list[CaseScore]:
    scores = quadratic_scores(truth, probabilities_NK, PAIR)
    return [CaseScore(f"c{n}", f"p{n}", score) for n, score in enumerate(scores)]


def test_no_fixed_answer_beats_even_odds_however_common_a_class_is() -> None:
    truth: list[tuple[str, ...]] = [("normal",)] * 90 + [("pneumonia",)] * 10
    even = class_records(truth, guess_classes(100, PAIR))
    for stated in (0.0, 0.1, 0.3, 0.7, 0.9, 1.0):
        fixed = class_records(truth, np.tile([stated, 1 - stated], (100, 1)))
        verdict = judge(fixed, None, GatePolicy(), guess=even)
        assert not verdict.promote
        assert verdict.overall is not None and verdict.overall.difference < 0


def test_random_sureness_does_not_become_champion_but_real_knowledge_does() -> None:
    rng = np.random.default_rng(5)
    truth: list[tuple[str, ...]] = [(PAIR.names[k],) for k in rng.integers(0, 2, size=60)]
    even = class_records(truth, guess_classes(60, PAIR))
    right_N = np.array([one == ("normal",) for one in truth])
    passed = 0
    for _ in range(50):
        random_N = rng.random(60)
        random_records = class_records(truth, np.stack([random_N, 1 - random_N], axis=1))
        passed += judge(random_records, None, GatePolicy(resamples=200), guess=even).promote
    assert passed == 0
    knows_N = np.clip(0.5 + 0.3 * (2 * right_N - 1) + 0.2 * rng.standard_normal(60), 0, 1)
    knowing = class_records(truth, np.stack([knows_N, 1 - knows_N], axis=1))
    assert judge(knowing, None, GatePolicy(), guess=even).promote


def test_several_classes_at_once_are_guessed_at_one_half_each() -> None:
    assert np.array_equal(guess_classes(3, TWO, multi_label=True), np.full((3, 2), 0.5))


def test_the_guess_about_volumes_is_where_labels_lie_on_average() -> None:
    maps = []
    for shape in ((20, 24, 10), (30, 20, 16)):
        labels_XYZ = np.zeros(shape, dtype=np.uint8)
        labels_XYZ[shape[0] // 2 :, :, : shape[2] // 2] = 1
        maps.append(labels_XYZ)
    guess = guess_masks(maps, label_scheme(["a"])).at((16, 16, 8))
    assert guess[8:, :, :4].all()
    assert not guess[:8].any()
