"""The gate: may the candidate take the champion's place? It says no unless shown otherwise.

Both models are scored on the same held-out cases, of patients neither has seen. The candidate
must be better overall, beyond what the choice of patients explains, and no label may have got
worse by more than the policy allows. A first champion must be better than a guess that ignores
the picture. `docs/decisions/0005-gate.md` gives the reasons and the measured error rates.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from imaging.bootstrap import PairedScores, compare_labels, compare_overall, pair, resample
from imaging.errors import ScoreError
from imaging.task import GatePolicy
from imaging.verdict import Comparison, Subject, Verdict, percent

OVERALL: Final = "all labels"

# Of two equal models one in four would pass on two patients, one in eight on three: with so few,
# the interval asks that every single patient improved.
MIN_PATIENTS: Final = 3

ROUNDING: Final = 1e-9
UNNAMED: Final = Subject()

MORE_PATIENTS = "Add pictures of more patients; a share of all patients is held out by itself."
NEW_SPLIT = "Find out how they got into training, freeze a new snapshot and train again."
BY_HAND = "Whoever knows better can put it in service with `labloop promote`."


@dataclass(frozen=True, slots=True)
class CaseScore:
    """One model on one held-out case.

    `scores` holds for each label a number in [0, 1], more is better, or None where there was
    nothing to score: `dice_by_label` or `quadratic_scores` of imaging/model/metrics.py make it.

    Raises:
        ScoreError: a score is outside [0, 1], or not a number.
    """

    case: str
    patient: str
    scores: Mapping[str, float | None]

    def __post_init__(self) -> None:
        for label, score in self.scores.items():
            if score is not None and not 0.0 <= score <= 1.0:
                raise ScoreError(f"{self.case}: {label!r} scored {score}, expected 0 to 1 or None")


@dataclass(frozen=True, slots=True)
class _Finding:
    """Something that speaks against the candidate, and what can be done about it."""

    reason: str
    next_step: str


def judge(
    candidate: Sequence[CaseScore],
    champion: Sequence[CaseScore] | None,
    policy: GatePolicy,
    *,
    guess: Sequence[CaseScore] | None = None,
    leaks: Sequence[str] = (),
    subject: Subject = UNNAMED,
) -> Verdict:
    """Weigh a candidate against the champion or, where there is none, against a guess.

    Args:
        candidate: its scores on every held-out case.
        champion: the champion's on the very same cases; None when the task has none yet.
        policy: the `gate` section of task.yaml.
        guess: the scores of the best answer that ignores the picture (imaging/model/guess.py),
            used where there is no champion. Absent, the guess is wrong everywhere.
        leaks: what `find_leaks` found; any refuses.
        subject: what is judged, for the reader.

    Returns:
        The verdict with all its reasons; the same input always gives the same.

    Raises:
        ScoreError: the two were not scored on the same cases, patients and labels.
    """
    first = champion is None
    opponent = champion if champion is not None else guess or _all_wrong(candidate)
    paired = pair(candidate, opponent)
    overall, labels = _compare(paired, policy)
    findings = [_Finding(leak, NEW_SPLIT) for leak in leaks]
    findings += _too_few(paired, policy)
    if overall is not None and first:
        findings += _against_guess(overall, policy)
    elif overall is not None:
        findings += _against_champion(overall, labels, policy)
    reasons = [one.reason for one in findings]
    if overall is not None and not findings:
        reasons = [_praise(overall, policy, first)]
    return Verdict(
        promote=not findings,
        reasons=tuple(reasons),
        notes=tuple(_notes(paired, labels, policy)),
        next_steps=tuple(dict.fromkeys(one.next_step for one in findings)),
        opponent="guess" if first else "champion",
        confidence=policy.confidence,
        cases=paired.cases,
        patients=paired.patients,
        overall=overall,
        labels=tuple(labels),
        subject=subject,
    )


def find_leaks(
    held_out: Collection[str],
    *,
    candidate: Collection[str],
    champion: Collection[str] = (),
    what: str = "patients",
) -> tuple[str, ...]:
    """Reasons to distrust what is held out; empty when nothing of it trained a model.

    Args:
        held_out: pseudonyms of the held-out patients, or the held-out cases: a case is the same
            under whatever pseudonym its patient goes.
        candidate: patients or cases the candidate was trained on or its checkpoint chosen with.
        champion: the same for the champion.
        what: `patients` or `cases`.
    """
    found = []
    for model, trained_on in (("the candidate", candidate), ("the champion", champion)):
        seen = sorted(set(held_out) & set(trained_on))
        if seen:
            shown = ", ".join(seen[:5]) + (", …" if len(seen) > 5 else "")
            found.append(f"{len(seen)} held-out {what} trained {model}: {shown}")
    return tuple(found)


def _compare(
    paired: PairedScores, policy: GatePolicy
) -> tuple[Comparison | None, list[Comparison]]:
    if not paired.cases:
        return None, []
    resampled_RL = resample(paired, policy.resamples, policy.seed)
    overall = compare_overall(OVERALL, paired, resampled_RL, policy.confidence)
    return overall, compare_labels(paired, resampled_RL, policy.confidence)


def _too_few(paired: PairedScores, policy: GatePolicy) -> Iterator[_Finding]:
    if paired.cases < policy.min_held_out_cases:
        yield _Finding(
            f"too few held-out cases: {paired.cases} show something, the task asks for"
            f" {policy.min_held_out_cases} (gate.min_held_out_cases)",
            MORE_PATIENTS,
        )
    if paired.patients < MIN_PATIENTS:
        yield _Finding(
            f"too few held-out patients: {paired.patients}; with fewer than {MIN_PATIENTS}"
            " the answer is chance",
            MORE_PATIENTS,
        )


def _against_champion(
    overall: Comparison, labels: Sequence[Comparison], policy: GatePolicy
) -> Iterator[_Finding]:
    for label in labels:
        if label.difference < -policy.max_label_drop - ROUNDING:
            yield _Finding(
                f"{label.label} got worse by {-label.difference:.3f}; at most"
                f" {policy.max_label_drop:.3f} is allowed (gate.max_label_drop)",
                f"Look at the held-out cases of {label.label}, and label more examples of it.",
            )
    if overall.low is None or overall.low <= 0:
        yield _Finding(
            f"not shown to be better: {overall.difference:+.3f} on average{_at_worst(overall)}",
            "Nothing has to be done: the champion keeps serving, and new labels start the next"
            f" run. {BY_HAND}",
        )


def _against_guess(overall: Comparison, policy: GatePolicy) -> Iterator[_Finding]:
    if overall.low is None or overall.low <= 0:
        yield _Finding(
            "not shown to be better than a guess that ignores the picture:"
            f" {overall.difference:+.3f} on average{_at_worst(overall)}",
            "Look at some labels: are they right, and do they belong to their pictures? If so,"
            f" label more cases or raise recipe.budget_s. {BY_HAND}",
        )
    if overall.candidate < policy.min_score - ROUNDING:
        yield _Finding(
            f"its score is {overall.candidate:.3f}; a first champion must reach"
            f" {policy.min_score:.3f} (gate.min_score)",
            "Label more cases, or raise recipe.budget_s in task.yaml.",
        )


def _at_worst(overall: Comparison) -> str:
    return "" if overall.low is None else f", {overall.low:+.3f} at worst"


def _praise(overall: Comparison, policy: GatePolicy, first: bool) -> str:
    gain = f"by {overall.difference:+.3f} on average{_at_worst(overall)}"
    if first:
        return f"better than a guess that ignores the picture {gain}"
    return f"better {gain}; no label fell by more than {policy.max_label_drop:.3f}"


def _notes(paired: PairedScores, labels: Sequence[Comparison], policy: GatePolicy) -> Iterator[str]:
    for name in paired.labels:
        if name not in {label.label for label in labels}:
            yield f"{name} could not be judged: no held-out case shows it."
    for label in labels:
        if label.patients < MIN_PATIENTS <= paired.patients:
            few = f"{label.patients} of {paired.patients}"
            yield f"{label.label} shows in {few} held-out patients only: a weak witness."
    if paired.patients >= MIN_PATIENTS and 0.5**paired.patients > 1 - policy.confidence:
        sure = percent(policy.confidence)
        yield (
            f"With {paired.patients} held-out patients no answer is {sure} sure: of models that are"
            f" only equally good, about one in {2**paired.patients} passes."
        )


def _all_wrong(candidate: Sequence[CaseScore]) -> list[CaseScore]:
    return [
        CaseScore(
            one.case, one.patient, {k: None if v is None else 0.0 for k, v in one.scores.items()}
        )
        for one in candidate
    ]
