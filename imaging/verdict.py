"""What the gate answered: numbers for programs, and one page for people."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

Opponent = Literal["champion", "guess"]


@dataclass(frozen=True, slots=True)
class Subject:
    """What was judged, in names; only told to the reader, never decided on."""

    measure: str = "score"  # what the numbers are: "Dice", "certainty"
    task: str = ""
    run: str = ""
    snapshot: str = ""
    candidate: str = ""
    champion: str | None = None


@dataclass(frozen=True, slots=True)
class Comparison:
    """One label, or the mean over all, on the held-out cases that both models were scored on.

    The true difference lies above `low` with the confidence asked for, and below `high` with
    the same. Both are None where fewer than two patients show the label.
    """

    label: str
    candidate: float
    opponent: float
    low: float | None
    high: float | None
    cases: int
    patients: int

    @property
    def difference(self) -> float:
        return self.candidate - self.opponent


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether the candidate is to be served, and everything that was weighed."""

    promote: bool
    reasons: tuple[str, ...]
    notes: tuple[str, ...]  # what a reader should know, without weight in the answer
    next_steps: tuple[str, ...]
    opponent: Opponent  # a first champion is compared with a guess that ignores the picture
    confidence: float
    cases: int
    patients: int
    overall: Comparison | None  # None: there was nothing to compare
    labels: tuple[Comparison, ...]
    subject: Subject

    @property
    def reason(self) -> str:
        """All reasons in one line, for logs."""
        return "; ".join(self.reasons)

    def to_json(self) -> dict[str, Any]:
        rows = [_row(comparison) for comparison in self.labels]
        overall = None if self.overall is None else _row(self.overall)
        candidate = self.overall.candidate if self.overall else None
        opponent = self.overall.opponent if self.overall else None
        scores = {
            "candidate_score": candidate,
            "champion_score": opponent if self.opponent == "champion" else None,
        }
        return {"format": 1} | asdict(self) | scores | {"overall": overall, "labels": rows}


def verdict_markdown(verdict: Verdict) -> str:
    """`verdict.md`: the answer in one sentence, then the table, the reasons and what to do."""
    answer = "Promoted" if verdict.promote else "Not promoted"
    parts = [
        f"# {answer}: {_name(verdict.subject.candidate)}",
        f"**{_answer(verdict)}**",
        "## Why",
        _bullets(verdict.reasons),
        "## Label by label",
        _table(verdict),
        "## What was compared",
        _bullets(_circumstances(verdict)),
    ]
    if verdict.notes:
        parts += ["## Good to know", _bullets(verdict.notes)]
    if verdict.next_steps:
        parts += ["## What to do next", _bullets(verdict.next_steps)]
    return "\n\n".join(parts) + "\n"


def percent(share: float) -> str:
    """0.95 as `95%`, 0.999 as `99.9%`."""
    return f"{share:.1%}".replace(".0%", "%")


def _row(comparison: Comparison) -> Mapping[str, Any]:
    return asdict(comparison) | {"difference": comparison.difference}


def _name(version: str | None) -> str:
    return f"`{version}`" if version else "the candidate"


def _answer(verdict: Verdict) -> str:
    candidate = _name(verdict.subject.candidate)
    champion = f"`{verdict.subject.champion}`" if verdict.subject.champion else "the champion"
    if verdict.opponent == "champion":
        if verdict.promote:
            return f"Yes: {candidate} is better than {champion} and takes its place."
        return f"No: {candidate} does not replace {champion}, which keeps serving."
    if verdict.promote:
        return f"Yes: {candidate} becomes the first champion of this task."
    return f"No: {candidate} is not good enough to be the first champion; nothing is served yet."


def _table(verdict: Verdict) -> str:
    if verdict.overall is None:
        return "Nothing could be compared."
    opponent = "Champion" if verdict.opponent == "champion" else "Guess"
    lines = [
        f"| Label | {opponent} | Candidate | Difference | Likely range | Cases | Patients |",
        "|---|---:|---:|---:|:---:|---:|---:|",
    ]
    for row in (*verdict.labels, verdict.overall):
        label = row.label.replace("|", "\\|")
        between = "–" if row.low is None else f"{row.low:+.3f} to {row.high:+.3f}"
        lines.append(
            f"| {label} | {row.opponent:.3f} | {row.candidate:.3f} | {row.difference:+.3f}"
            f" | {between} | {row.cases} | {row.patients} |"
        )
    return "\n".join(lines)


def _circumstances(verdict: Verdict) -> list[str]:
    subject, sure = verdict.subject, percent(verdict.confidence)
    lines = [
        f"Measure: {subject.measure}; 1 is perfect, 0 the worst.",
        f"Held-out cases that show something: {verdict.cases}, of {verdict.patients} patients.",
        f"Likely range: the true difference is above its lower end with {sure} confidence, and"
        f" below its upper end with {sure}. Patients, not pictures, were drawn again and again to"
        " find it, because pictures of one patient resemble each other.",
    ]
    if verdict.opponent == "guess":
        lines.append("Guess: the best answer that can be given without looking at the picture.")
    named = {"Task": subject.task, "Run": subject.run, "Snapshot": subject.snapshot}
    return [f"{word}: `{value}`" for word, value in named.items() if value] + lines


def _bullets(lines: list[str] | tuple[str, ...]) -> str:
    return "\n".join(f"- {line}" for line in lines)
