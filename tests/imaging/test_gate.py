"""The gate: who passes, who does not, and how often chance decides."""

import json
import time
from collections.abc import Mapping, Sequence

import numpy as np
import pytest

from imaging.errors import ScoreError
from imaging.gate import MIN_PATIENTS, CaseScore, find_leaks, judge
from imaging.task import GatePolicy
from imaging.verdict import Subject, Verdict, verdict_markdown

POLICY = GatePolicy(min_held_out_cases=10, resamples=500)


def records(scores_NL: np.ndarray, patients: Sequence[int] | None = None) -> list[CaseScore]:
    """One record per row; labels a, b, …; NaN becomes None; a patient per case by default."""
    names = "abcdefghij"
    return [
        CaseScore(
            f"case-{row}",
            f"p-{row if patients is None else patients[row]}",
            {names[k]: None if np.isnan(v) else float(v) for k, v in enumerate(values)},
        )
        for row, values in enumerate(scores_NL)
    ]


def even(score: float, cases: int = 20, labels: int = 1) -> np.ndarray:
    return np.full((cases, labels), score)


def promotion_rate(
    gain: float | Sequence[float],
    *,
    patients: int,
    slices: int = 1,
    labels: int = 1,
    worlds: int = 120,
) -> float:
    """How often a candidate passes whose true Dice is `gain` above the champion's.

    Cases differ in difficulty, patients shift their slices together, both models err on their
    own, and one case in forty is missed outright.
    """
    rng = np.random.default_rng(21)
    patient_of = np.repeat(np.arange(patients), slices)
    shape = (len(patient_of), labels)

    def model(base: np.ndarray, shift: float | Sequence[float]) -> np.ndarray:
        noise = 0.03 * rng.standard_normal((patients, labels))[patient_of]
        scores = base + np.asarray(shift) + noise + 0.04 * rng.standard_normal(shape)
        missed = rng.random(shape) < 1 / 40
        return np.clip(np.where(missed, scores * rng.random(shape), scores), 0, 1)

    passed = 0
    for world in range(worlds):
        base = 0.8 + 0.06 * rng.standard_normal(shape)
        policy = GatePolicy(min_held_out_cases=5, resamples=300, seed=world)
        candidate = records(model(base, gain), list(patient_of))
        champion = records(model(base, 0.0), list(patient_of))
        passed += judge(candidate, champion, policy).promote
    return passed / worlds


# How often chance decides (docs/decisions/0005-gate.md has the whole table)


@pytest.mark.parametrize("patients", [5, 10, 20, 50])
def test_an_equally_good_model_passes_about_as_rarely_as_the_confidence_says(patients: int) -> None:
    assert promotion_rate(0.0, patients=patients, worlds=200) <= 0.11


@pytest.mark.parametrize("patients", [5, 10, 20])
def test_a_worse_model_does_not_pass(patients: int) -> None:
    assert promotion_rate(-0.03, patients=patients) <= 0.03
    assert promotion_rate(-0.08, patients=patients, labels=3) == 0.0


def test_a_clearly_better_model_passes_nearly_always() -> None:
    assert promotion_rate(0.1, patients=10, labels=3) >= 0.9
    assert promotion_rate(0.1, patients=50) >= 0.95


def test_more_patients_find_smaller_gains() -> None:
    few, some, many = (promotion_rate(0.04, patients=count) for count in (5, 20, 80))
    assert few < some < many


def test_a_gain_on_average_does_not_buy_the_loss_of_one_label() -> None:
    assert promotion_rate([0.08, 0.08, -0.1], patients=20, labels=3) <= 0.03


def test_many_slices_of_few_patients_are_not_many_witnesses() -> None:
    # Equal models, 40 slices each of 5 patients: were slices resampled, patients' own luck would
    # look like certainty and every third such model would pass.
    assert promotion_rate(0.0, patients=5, slices=40, worlds=200) <= 0.11


# The rules, one by one


def test_the_same_model_again_is_refused() -> None:
    scores = records(np.random.default_rng(1).random((30, 2)))
    verdict = judge(scores, scores, POLICY)
    assert not verdict.promote
    assert "not shown to be better: +0.000" in verdict.reason


def test_better_everywhere_is_promoted_with_the_figures_that_say_so() -> None:
    verdict = judge(records(even(0.8)), records(even(0.7)), POLICY)
    assert verdict.promote and verdict.next_steps == ()
    assert verdict.overall is not None
    assert verdict.overall.difference == pytest.approx(0.1)
    assert verdict.overall.low == pytest.approx(0.1)
    assert (verdict.cases, verdict.patients) == (20, 20)


def test_too_few_held_out_cases_are_a_refusal_however_good_the_candidate() -> None:
    verdict = judge(records(even(0.9, cases=9)), records(even(0.1, cases=9)), POLICY)
    assert not verdict.promote
    assert "9 show something, the task asks for 10" in verdict.reason


def test_cases_that_show_nothing_do_not_count_as_held_out_cases() -> None:
    scores = np.vstack([even(0.9, cases=9), even(np.nan, cases=30)])
    verdict = judge(records(scores), records(scores - 0.5), POLICY)
    assert not verdict.promote
    assert verdict.cases == 9


@pytest.mark.parametrize("patients", [1, MIN_PATIENTS - 1])
def test_many_cases_of_too_few_patients_are_a_refusal(patients: int) -> None:
    of = [row % patients for row in range(40)]
    verdict = judge(records(even(0.9, cases=40), of), records(even(0.5, cases=40), of), POLICY)
    assert not verdict.promote
    assert f"too few held-out patients: {patients}" in verdict.reason


def test_with_three_patients_each_of_them_has_to_improve_and_the_reader_is_told() -> None:
    of = [0] * 10 + [1] * 10 + [2] * 10
    champion = records(even(0.7, cases=30), of)
    better = even(0.8, cases=30)
    verdict = judge(records(better, of), champion, POLICY)
    assert verdict.promote
    assert "about one in 8 passes" in verdict.notes[0]
    better[20:] = 0.69
    assert not judge(records(better, of), champion, POLICY).promote


def test_a_label_that_fell_too_far_is_named_with_its_drop() -> None:
    candidate, champion = even(0.9, labels=2), even(0.7, labels=2)
    candidate[:, 1] = 0.67
    verdict = judge(records(candidate), records(champion), POLICY)
    assert not verdict.promote
    assert verdict.reasons == (
        "b got worse by 0.030; at most 0.020 is allowed (gate.max_label_drop)",
    )


def test_a_drop_within_the_policy_is_let_through() -> None:
    candidate, champion = even(0.9, labels=2), even(0.7, labels=2)
    candidate[:, 1] = 0.68
    assert judge(records(candidate), records(champion), POLICY).promote


def test_a_false_alarm_where_nobody_drew_anything_counts_against_the_model_that_raised_it() -> None:
    champion = np.vstack([even(0.7), even(np.nan)])  # right to draw nothing in the last 20 cases
    candidate = np.vstack([even(0.8), even(0.0)])  # better on the first 20, alarms in the others
    verdict = judge(records(candidate), records(champion), POLICY)
    assert not verdict.promote
    assert verdict.overall is not None
    assert verdict.overall.opponent == pytest.approx(0.85)
    assert verdict.overall.candidate == pytest.approx(0.4)
    assert judge(records(champion), records(candidate), POLICY).promote


def test_a_rare_label_weighs_as_much_as_a_common_one() -> None:
    scores = np.hstack([even(0.6, cases=40), even(np.nan, cases=40)])
    scores[:10, 1] = 0.2
    verdict = judge(records(scores), None, POLICY)
    assert verdict.overall is not None
    assert verdict.overall.candidate == pytest.approx(0.4)


def test_a_label_without_held_out_cases_is_reported_and_does_not_refuse() -> None:
    nothing = even(np.nan)
    candidate = records(np.hstack([even(0.8), nothing]))
    champion = records(np.hstack([even(0.7), nothing]))
    verdict = judge(candidate, champion, POLICY)
    assert verdict.promote
    assert "b could not be judged: no held-out case shows it." in verdict.notes


def test_a_label_of_a_single_patient_has_no_range_but_its_drop_counts() -> None:
    rare = even(np.nan)
    rare[0] = 0.5
    candidate = records(np.hstack([even(0.9), rare - 0.1]))
    verdict = judge(candidate, records(np.hstack([even(0.7), rare])), POLICY)
    assert not verdict.promote
    assert verdict.labels[1].low is None
    assert any("b shows in 1 of 20 held-out patients" in note for note in verdict.notes)


def test_the_verdict_is_the_same_every_time() -> None:
    rng = np.random.default_rng(5)
    candidate, champion = records(rng.random((30, 3))), records(rng.random((30, 3)))
    assert judge(candidate, champion, POLICY) == judge(candidate, champion, POLICY)


def test_the_order_of_the_champions_cases_does_not_matter() -> None:
    rng = np.random.default_rng(6)
    candidate, champion = records(rng.random((30, 3))), records(rng.random((30, 3)))
    assert judge(candidate, champion[::-1], POLICY) == judge(candidate, champion, POLICY)


# The first champion


def test_a_first_champion_that_beats_the_guess_is_promoted() -> None:
    verdict = judge(records(even(0.8)), None, POLICY, guess=records(even(0.5)))
    assert verdict.promote and verdict.opponent == "guess"


def test_a_first_champion_no_better_than_a_guess_is_refused() -> None:
    rng = np.random.default_rng(7)
    guess = 0.5 + 0.1 * rng.standard_normal((40, 1))
    lucky = guess + 0.02 + 0.2 * rng.standard_normal((40, 1))  # a little above, within chance
    verdict = judge(records(lucky.clip(0, 1)), None, POLICY, guess=records(guess))
    assert verdict.overall is not None and verdict.overall.difference > 0
    assert not verdict.promote
    assert "not shown to be better than a guess" in verdict.reason


def test_a_first_champion_that_draws_nothing_is_refused_without_a_guess_too() -> None:
    assert not judge(records(even(0.0)), None, POLICY).promote


def test_a_first_champion_must_reach_the_minimum_score_of_the_task() -> None:
    policy = GatePolicy(min_score=0.85, resamples=200)
    verdict = judge(records(even(0.8)), None, policy, guess=records(even(0.2)))
    assert not verdict.promote
    assert "0.800; a first champion must reach 0.850" in verdict.reason
    assert judge(records(even(0.9)), None, policy, guess=records(even(0.2))).promote


def test_a_first_champion_needs_enough_cases_as_well() -> None:
    assert not judge(records(even(1.0, cases=9)), None, POLICY).promote


def test_without_any_held_out_case_the_answer_is_no_not_a_crash() -> None:
    verdict = judge([], None, POLICY)
    assert not verdict.promote and verdict.overall is None
    assert "Nothing could be compared." in verdict_markdown(verdict)


# What must not be compared


def test_models_scored_on_different_cases_are_not_compared() -> None:
    scores = records(even(0.5))
    with pytest.raises(ScoreError, match="1 cases were scored by one model only"):
        judge(scores, scores[1:], POLICY)
    with pytest.raises(ScoreError, match="twice"):
        judge([*scores, scores[0]], scores, POLICY)
    with pytest.raises(ScoreError, match="different patients or labels"):
        judge(scores, records(even(0.5), [0] * 20), POLICY)
    with pytest.raises(ScoreError, match="different patients or labels"):
        judge(scores, records(even(0.5, labels=2)), POLICY)


@pytest.mark.parametrize("score", [float("nan"), -0.01, 1.01, float("inf")])
def test_a_score_that_is_none_is_refused(score: float) -> None:
    with pytest.raises(ScoreError, match="expected 0 to 1"):
        CaseScore("case-1", "p-1", {"a": score})


def test_held_out_patients_that_trained_a_model_refuse_it() -> None:
    leaks = find_leaks(["p-1", "p-2"], candidate=["p-2", "p-3"], champion=["p-4"])
    assert leaks == ("1 held-out patients trained the candidate: p-2",)
    verdict = judge(records(even(0.9)), records(even(0.5)), POLICY, leaks=leaks)
    assert not verdict.promote
    assert verdict.reasons == leaks


def test_a_champion_that_has_seen_the_held_out_patients_is_no_yardstick() -> None:
    leaks = find_leaks([f"p-{n}" for n in range(9)], candidate=[], champion=["p-1", "p-7"])
    assert leaks == ("2 held-out patients trained the champion: p-1, p-7",)


def test_held_out_cases_that_trained_under_another_pseudonym_are_a_leak() -> None:
    leaks = find_leaks(["case-1"], candidate=[], champion=["case-1", "case-2"], what="cases")
    assert leaks == ("1 held-out cases trained the champion: case-1",)


def test_separate_patients_are_no_leak() -> None:
    assert find_leaks(["p-1"], candidate=["p-2"], champion=["p-3"]) == ()


# What people and programs read

SUBJECT = Subject("Dice", "Task001_heart", "run-1", "snap-1", "model-b", "model-a")


def refused() -> Verdict:
    candidate, champion = even(0.9, labels=2), even(0.7, labels=2)
    candidate[:, 1] = 0.6
    return judge(records(candidate), records(champion), POLICY, subject=SUBJECT)


def test_the_page_answers_in_its_first_sentence() -> None:
    page = verdict_markdown(refused()).splitlines()
    assert page[0] == "# Not promoted: `model-b`"
    assert page[2] == "**No: `model-b` does not replace `model-a`, which keeps serving.**"
    promoted = judge(records(even(0.9)), records(even(0.7)), POLICY, subject=SUBJECT)
    assert "Yes: `model-b` is better than `model-a`" in verdict_markdown(promoted)
    first = judge(records(even(0.9)), None, POLICY, subject=SUBJECT)
    assert "becomes the first champion" in verdict_markdown(first)
    nothing_yet = judge(records(even(0.0)), None, POLICY, subject=SUBJECT)
    assert "nothing is served yet" in verdict_markdown(nothing_yet)


def test_the_page_holds_a_row_per_label_the_reasons_and_what_to_do() -> None:
    page = verdict_markdown(refused())
    assert "| b | 0.700 | 0.600 | -0.100 | -0.100 to -0.100 | 20 | 20 |" in page
    assert "| all labels | 0.700 | 0.750 | +0.050 |" in page
    assert "b got worse by 0.100" in page
    assert "## What to do next" in page and "label more examples of it" in page
    assert "Snapshot: `snap-1`" in page and "20, of 20 patients" in page
    assert "95% confidence" in page


def test_a_label_name_cannot_break_the_table() -> None:
    def named(score: float) -> list[CaseScore]:
        return [CaseScore(f"c{n}", f"p{n}", {"a|b": score}) for n in range(12)]

    assert "| a\\|b | 0.500 |" in verdict_markdown(judge(named(0.7), named(0.5), POLICY))


def test_the_verdict_survives_json_with_all_its_numbers() -> None:
    verdict = refused()
    record: Mapping[str, object] = json.loads(json.dumps(verdict.to_json()))
    assert record["format"] == 1 and record["promote"] is False
    assert record["reasons"] == list(verdict.reasons)
    assert record["subject"]["candidate"] == "model-b"  # type: ignore[index]
    assert record["labels"][1]["difference"] == pytest.approx(-0.1)  # type: ignore[index]
    assert record["overall"]["cases"] == 20  # type: ignore[index]
    assert (record["candidate_score"], record["champion_score"]) == pytest.approx((0.75, 0.7))
    first = judge(records(even(0.8)), None, POLICY).to_json()
    assert (first["candidate_score"], first["champion_score"]) == (pytest.approx(0.8), None)


def test_five_hundred_cases_are_judged_within_a_second() -> None:
    rng = np.random.default_rng(8)
    candidate, champion = records(rng.random((500, 10))), records(rng.random((500, 10)))
    started = time.perf_counter()
    judge(candidate, champion, GatePolicy(resamples=2000))
    assert time.perf_counter() - started < 1.0
