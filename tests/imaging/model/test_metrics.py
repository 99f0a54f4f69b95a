"""Metrics against examples worked out by hand, MONAI and scikit-learn."""

import subprocess
import sys
from collections.abc import Sequence

import numpy as np
import pytest

from imaging.errors import GridMismatchError, ScoreError
from imaging.labels import LabelScheme, label_scheme
from imaging.model.metrics import (
    LabelMap,
    MaskScores,
    auroc,
    dice_by_label,
    hd95,
    quadratic_scores,
    score_classes,
    score_masks,
    summarise_masks,
)

ONE = label_scheme(["lv"])
TWO = label_scheme(["kidney", "tumour"])
CLASSES = label_scheme(["normal", "bacterial", "viral"])


def picture(*rows: Sequence[int]) -> LabelMap:
    return np.array(rows, dtype=np.uint8)


def scored(
    truth_HW: LabelMap, pred_HW: LabelMap, scheme: LabelScheme = ONE, label: str = "lv"
) -> MaskScores:
    score = score_masks(truth_HW, pred_HW, scheme)[label]
    assert score is not None
    return score


def blobs(rng: np.random.Generator, labels: int, side: int = 40) -> LabelMap:
    """A few random discs; sometimes a label is missing, sometimes one touches the border."""
    labels_HW = np.zeros((side, side + 7), dtype=np.uint8)
    rows, columns = np.indices(labels_HW.shape)
    for index in rng.integers(1, labels + 1, size=rng.integers(1, 5)):
        centre = rng.uniform(0, side, size=2)
        radius = rng.uniform(2, 11)
        labels_HW[np.hypot(rows - centre[0], columns - centre[1]) < radius] = index
    return labels_HW


# Masks, by hand


def test_a_two_by_two_example_worked_out_by_hand() -> None:
    # truth 2 pixels, prediction 2 pixels, 1 shared; of the 2 pixels outside, 1 is a false alarm
    score = scored(picture([1, 1], [0, 0]), picture([1, 0], [1, 0]))
    assert score.dice == pytest.approx(2 * 1 / (2 + 2))
    assert score.iou == pytest.approx(1 / 3)
    assert score.sensitivity == pytest.approx(1 / 2)
    assert score.specificity == pytest.approx(1 / 2)
    assert (score.truth_pixels, score.pred_pixels) == (2, 2)


def test_label_two_never_matches_label_one() -> None:
    # Comparing "not background" would call this a perfect hit.
    scores = score_masks(picture([1, 1], [0, 0]), picture([2, 2], [0, 0]), TWO)
    assert scores["kidney"] is not None and scores["kidney"].dice == 0.0
    assert scores["tumour"] is not None and scores["tumour"].dice == 0.0
    assert scores["kidney"].specificity == 1.0


def test_a_label_that_nobody_drew_is_skipped_and_not_counted_as_perfect() -> None:
    scores = score_masks(picture([1, 0], [0, 0]), picture([1, 0], [0, 0]), TWO)
    assert scores["tumour"] is None
    assert scores["kidney"] is not None and scores["kidney"].dice == 1.0


def test_a_label_drawn_where_there_is_none_scores_zero() -> None:
    score = scored(picture([0, 0], [0, 0]), picture([1, 0], [0, 0]))
    assert score.dice == 0.0 and score.iou == 0.0
    assert score.sensitivity is None
    assert score.specificity == pytest.approx(3 / 4)
    assert score.hd95_px is None


def test_a_missed_label_scores_zero_and_has_no_distance() -> None:
    score = scored(picture([1, 0], [0, 0]), picture([0, 0], [0, 0]))
    assert (score.dice, score.sensitivity, score.specificity) == (0.0, 0.0, 1.0)
    assert score.hd95_px is None and score.hd95_mm is None


def test_specificity_is_undefined_when_the_truth_covers_everything() -> None:
    assert scored(picture([1, 1]), picture([1, 0])).specificity is None


def test_a_single_pixel_moved_three_to_the_side_is_three_pixels_off() -> None:
    truth, pred = np.zeros((2, 20, 30), dtype=np.uint8)
    truth[10, 5] = pred[10, 8] = 1
    assert scored(truth, pred).hd95_px == pytest.approx(3.0)


def test_distances_are_in_millimetres_per_axis_when_the_spacing_is_known() -> None:
    truth, pred = np.zeros((2, 20, 30), dtype=np.uint8)
    truth[4, 5] = pred[7, 9] = 1  # 3 rows of 2 mm, 4 columns of 0.5 mm
    score = score_masks(truth, pred, ONE, spacing_mm=(2.0, 0.5))["lv"]
    assert score is not None
    assert score.hd95_mm == pytest.approx(np.hypot(6.0, 2.0))
    assert score.hd95_px is None


def test_maps_of_different_shape_are_refused() -> None:
    with pytest.raises(GridMismatchError):
        score_masks(picture([1, 0]), picture([1], [0]), ONE)


def test_an_index_outside_the_scheme_is_refused() -> None:
    with pytest.raises(ScoreError, match="expected 0 to 1"):
        score_masks(picture([0, 1]), picture([0, 2]), ONE)
    with pytest.raises(ScoreError, match="expected 0 to 1"):
        score_masks(np.array([[-1, 1]]), np.array([[0, 1]]), ONE)


def test_a_map_of_probabilities_is_refused() -> None:
    with pytest.raises(ScoreError, match="whole numbers"):
        score_masks(picture([0, 1]), np.array([[0.2, 0.9]]), ONE)  # type: ignore[arg-type]


def test_means_are_taken_over_cases_then_over_labels() -> None:
    both_right = score_masks(picture([1, 2]), picture([1, 2]), TWO)
    kidney_half = score_masks(picture([1, 1, 0, 0]), picture([1, 0, 1, 0]), TWO)
    summary = summarise_masks([both_right, kidney_half])
    assert summary.labels["kidney"]["dice"].value == pytest.approx(0.75)
    assert summary.labels["kidney"]["dice"].count == 2
    assert summary.labels["tumour"]["dice"].value == 1.0
    assert summary.labels["tumour"]["dice"].count == 1
    assert summary.overall["dice"].value == pytest.approx((0.75 + 1.0) / 2)
    assert summary.overall["hd95_mm"].value is None
    assert summary.overall["hd95_mm"].count == 0


def test_the_gate_gets_dice_and_none_for_what_nobody_drew() -> None:
    scores = score_masks(picture([1, 1, 0, 0]), picture([1, 0, 1, 0]), TWO)
    assert dice_by_label(scores) == {"kidney": 0.5, "tumour": None}


# Masks, against MONAI


def test_masks_agree_with_monai_on_random_pictures() -> None:
    torch = pytest.importorskip("torch")
    monai = pytest.importorskip("monai.metrics")
    rng = np.random.default_rng(11)
    compared = 0
    for _ in range(40):
        truth_HW, pred_HW = blobs(rng, 2), blobs(rng, 2)
        ours = score_masks(truth_HW, pred_HW, TWO)
        onehot = [
            torch.from_numpy(np.stack([array == index for index in (0, 1, 2)])[None]).float()
            for array in (pred_HW, truth_HW)
        ]
        dice = monai.DiceMetric(include_background=False, reduction="none")(*onehot)
        iou = monai.MeanIoU(include_background=False, reduction="none")(*onehot)
        confusion = monai.get_confusion_matrix(*onehot, include_background=False)
        for column, name in enumerate(TWO.names):
            score = ours[name]
            if score is None or score.sensitivity is None:
                continue
            compared += 1
            assert score.dice == pytest.approx(float(dice[0, column]), abs=1e-6)
            assert score.iou == pytest.approx(float(iou[0, column]), abs=1e-6)
            for figure, word in ((score.sensitivity, "sensitivity"), (score.specificity, "tnr")):
                theirs = monai.compute_confusion_matrix_metric(word, confusion[0, column])
                assert figure == pytest.approx(float(theirs), abs=1e-6)
    assert compared > 40


@pytest.mark.filterwarnings("ignore:.*always_return_as_numpy:FutureWarning")  # within MONAI
@pytest.mark.parametrize("spacing_mm", [None, (0.7, 2.5)])
def test_hd95_agrees_with_monai_also_at_the_border_and_with_uneven_spacing(
    spacing_mm: tuple[float, float] | None,
) -> None:
    torch = pytest.importorskip("torch")
    monai = pytest.importorskip("monai.metrics")
    rng = np.random.default_rng(12)
    compared = 0
    for _ in range(60):
        truth_HW, pred_HW = blobs(rng, 1) == 1, blobs(rng, 1) == 1
        ours = hd95(truth_HW, pred_HW, spacing_mm)
        theirs = monai.compute_hausdorff_distance(
            torch.from_numpy(pred_HW[None, None]).float(),
            torch.from_numpy(truth_HW[None, None]).float(),
            include_background=True,
            percentile=95,
            spacing=None if spacing_mm is None else list(spacing_mm),
        )
        assert ours == pytest.approx(float(theirs), rel=1e-5)
        compared += 1
    assert compared == 60


# Classes, by hand

TRUTH = [("normal",), ("normal",), ("bacterial",), ("bacterial",)]
ANSWERS_NK = np.array([[0.8, 0.2, 0.0], [0.4, 0.6, 0.0], [0.3, 0.7, 0.0], [0.1, 0.9, 0.0]])


def test_a_two_by_two_table_of_classes_worked_out_by_hand() -> None:
    report = score_classes(TRUTH, ANSWERS_NK, CLASSES)
    assert report.confusion == ((1, 1, 0), (0, 2, 0), (0, 0, 0))
    assert report.accuracy == pytest.approx(3 / 4)
    assert report.balanced_accuracy == pytest.approx((1 / 2 + 1) / 2)
    normal, bacterial = report.classes["normal"], report.classes["bacterial"]
    assert normal is not None and bacterial is not None
    assert normal.f1 == pytest.approx(2 / 3) and bacterial.f1 == pytest.approx(4 / 5)
    assert report.f1 == pytest.approx((2 / 3 + 4 / 5) / 2)
    assert bacterial.auroc == 1.0 and report.auroc == 1.0
    assert (bacterial.true_positive, bacterial.false_positive) == (2, 1)


def test_a_class_that_no_case_holds_is_skipped_in_every_average() -> None:
    report = score_classes(TRUTH, ANSWERS_NK, CLASSES)
    assert report.classes["viral"] is None
    spoilt_NK = ANSWERS_NK.copy()
    spoilt_NK[0] = [0.1, 0.2, 0.7]  # answering an absent class is still an error
    spoilt = score_classes(TRUTH, spoilt_NK, CLASSES)
    assert spoilt.balanced_accuracy == pytest.approx((0 + 1) / 2)


def test_a_class_that_no_case_holds_but_answers_name_has_f1_zero() -> None:
    sk = pytest.importorskip("sklearn.metrics")
    spoilt_NK = ANSWERS_NK.copy()
    spoilt_NK[0] = [0.1, 0.2, 0.7]
    report = score_classes(TRUTH, spoilt_NK, CLASSES)
    viral = report.classes["viral"]
    assert viral is not None
    assert (viral.cases, viral.f1, viral.sensitivity, viral.auroc) == (0, 0.0, None, None)
    assert viral.specificity == pytest.approx(3 / 4)
    answers = [CLASSES.names[k] for k in spoilt_NK.argmax(1)]
    expected = sk.f1_score([name for (name,) in TRUTH], answers, average="macro")
    assert report.f1 == pytest.approx(expected) == pytest.approx((0 + 4 / 5 + 0) / 3)


def test_the_tables_worked_out_by_hand_agree_with_scikit_learn() -> None:
    sk = pytest.importorskip("sklearn.metrics")
    report = score_classes(TRUTH, ANSWERS_NK, CLASSES)
    truth, answers = [name for (name,) in TRUTH], [CLASSES.names[k] for k in ANSWERS_NK.argmax(1)]
    assert report.f1 == pytest.approx(sk.f1_score(truth, answers, average="macro"))
    assert report.accuracy == pytest.approx(sk.accuracy_score(truth, answers))
    expected = sk.balanced_accuracy_score(truth, answers)
    assert report.balanced_accuracy == pytest.approx(expected)


def test_auroc_counts_ties_as_half() -> None:
    positive = np.array([True, False, True, False])
    assert auroc(positive, np.full(4, 0.5)) == 0.5
    assert auroc(positive, np.array([0.9, 0.5, 0.5, 0.1])) == pytest.approx(3.5 / 4)


def test_auroc_of_one_kind_of_case_is_undefined() -> None:
    assert auroc(np.array([True, True]), np.array([0.1, 0.9])) is None
    report = score_classes([("normal",)], np.array([[0.9, 0.05, 0.05]]), CLASSES)
    assert report.auroc is None and report.accuracy == 1.0


def test_several_classes_per_case_are_judged_one_by_one() -> None:
    truth: list[tuple[str, ...]] = [("normal", "viral"), ("viral",), ()]
    probabilities_NK = np.array([[0.9, 0.1, 0.5], [0.6, 0.1, 0.9], [0.2, 0.1, 0.3]])
    report = score_classes(truth, probabilities_NK, CLASSES, multi_label=True)
    assert report.accuracy == pytest.approx(2 / 3)
    assert report.confusion is None
    normal = report.classes["normal"]
    assert normal is not None
    assert (normal.true_positive, normal.false_positive, normal.true_negative) == (1, 1, 1)
    assert report.classes["bacterial"] is None
    assert report.balanced_accuracy == pytest.approx((0.75 + 1.0) / 2)


def test_classes_that_cannot_be_scored_are_refused() -> None:
    with pytest.raises(ScoreError, match="no cases"):
        score_classes([], np.zeros((0, 3)), CLASSES)
    with pytest.raises(ScoreError, match="expected classes among"):
        score_classes([("fungal",)], np.full((1, 3), 0.3), CLASSES)
    with pytest.raises(ScoreError, match="exactly one"):
        score_classes([("normal", "viral")], np.full((1, 3), 0.3), CLASSES)
    with pytest.raises(ScoreError, match="shape"):
        score_classes([("normal",)], np.full((1, 2), 0.5), CLASSES)
    with pytest.raises(ScoreError, match="diverged"):
        score_classes([("normal",)], np.full((1, 3), np.nan), CLASSES)


# Classes, against MONAI and scikit-learn


@pytest.mark.parametrize("multi_label", [False, True])
def test_classes_agree_with_scikit_learn_on_random_answers(multi_label: bool) -> None:
    sk = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(13)
    for _ in range(20):
        truth_NK = rng.random((60, 3)) < 0.4
        if not multi_label:
            truth_NK = np.arange(3) == rng.integers(0, 3, size=60)[:, None]
        probabilities_NK = np.round(rng.dirichlet([1, 1, 1], size=60), 1).clip(0, 1)  # many ties
        truth = [tuple(np.array(CLASSES.names)[row]) for row in truth_NK]
        report = score_classes(truth, probabilities_NK, CLASSES, multi_label=multi_label)
        answer_NK = probabilities_NK >= 0.5
        if not multi_label:
            answer_NK = np.arange(3) == probabilities_NK.argmax(1)[:, None]
            expected = sk.balanced_accuracy_score(truth_NK.argmax(1), answer_NK.argmax(1))
            assert report.balanced_accuracy == pytest.approx(expected)
            table = sk.confusion_matrix(truth_NK.argmax(1), answer_NK.argmax(1), labels=[0, 1, 2])
            assert np.array_equal(np.array(report.confusion), table)
        assert report.accuracy == pytest.approx(sk.accuracy_score(truth_NK, answer_NK))
        assert report.f1 == pytest.approx(sk.f1_score(truth_NK, answer_NK, average="macro"))
        assert report.auroc == pytest.approx(sk.roc_auc_score(truth_NK, probabilities_NK))


def test_auroc_agrees_with_monai() -> None:
    torch = pytest.importorskip("torch")
    monai = pytest.importorskip("monai.metrics")
    rng = np.random.default_rng(14)
    positive = rng.random(200) < 0.3
    score = np.round(rng.random(200) + 0.3 * positive, 1)
    theirs = monai.compute_roc_auc(torch.from_numpy(score), torch.from_numpy(positive).long())
    assert auroc(positive, score) == pytest.approx(float(theirs))


# What the gate gets for classes


def test_a_sure_right_answer_scores_one_a_sure_wrong_one_zero_a_shrug_between() -> None:
    two = label_scheme(["normal", "pneumonia"])
    truth = [("normal",)] * 3
    scores = quadratic_scores(truth, np.array([[1.0, 0.0], [0.0, 1.0], [0.5, 0.5]]), two)
    assert [score["normal"] for score in scores] == [1.0, 0.0, 0.75]
    assert all(score["pneumonia"] is None for score in scores)


def test_honest_probabilities_score_best_on_average() -> None:
    two = label_scheme(["normal", "pneumonia"])
    truth = [("normal",)] * 70 + [("pneumonia",)] * 30

    def mean_score(stated: float) -> float:
        rows = quadratic_scores(truth, np.tile([stated, 1 - stated], (100, 1)), two)
        return float(
            np.mean([value for row in rows for value in row.values() if value is not None])
        )

    assert mean_score(0.7) > max(mean_score(0.6), mean_score(0.8), mean_score(1.0))


def test_a_rare_finding_is_scored_apart_from_its_absence() -> None:
    two = label_scheme(["effusion", "nodule"])
    truth: list[tuple[str, ...]] = [("effusion",), ()]
    scores = quadratic_scores(truth, np.array([[0.8, 0.0], [0.5, 1.0]]), two, multi_label=True)
    assert scores[0]["effusion: present"] == pytest.approx(0.96)
    assert scores[0]["effusion: absent"] is None
    assert scores[1]["effusion: absent"] == pytest.approx(0.75)
    assert scores[1]["nodule: absent"] == 0.0


def test_rounding_of_a_softmax_does_not_lift_a_score_above_one() -> None:
    two = label_scheme(["normal", "pneumonia"])
    scores = quadratic_scores([("normal",)], np.array([[1.0001, -0.0001]]), two)
    assert scores[0]["normal"] == 1.0


def test_metrics_need_no_torch() -> None:
    code = "import sys, imaging.model.metrics; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_volumes_are_scored_like_pictures_with_a_third_spacing() -> None:
    truth = np.zeros((12, 10, 8), dtype=np.uint8)
    truth[2:8, 2:8, 2:6] = 1
    moved = np.roll(truth, 1, axis=2)
    found = score_masks(truth, moved, label_scheme(["a"]), (1.0, 1.0, 2.5))["a"]
    assert found is not None
    assert found.dice == pytest.approx(0.75)
    assert found.hd95_mm == pytest.approx(2.5)
    assert found.hd95_px is None
    assert hd95(truth > 0, moved > 0) == pytest.approx(1.0)


def test_a_slice_of_a_volume_scores_what_the_picture_does() -> None:
    random = np.random.default_rng(0)
    truth, pred = (random.integers(0, 3, (20, 15)).astype(np.uint8) for _ in range(2))
    flat = score_masks(truth, pred, label_scheme(["a", "b"]))
    deep = score_masks(truth[..., None], pred[..., None], label_scheme(["a", "b"]))
    for name in ("a", "b"):
        one, other = flat[name], deep[name]
        assert one is not None and other is not None
        assert (one.dice, one.sensitivity) == (other.dice, other.sensitivity)
