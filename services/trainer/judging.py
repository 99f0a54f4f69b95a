"""Candidate against champion: measured once, judged, promoted if better, written down.

Each step can be repeated after a kill. `metrics.json` says whom the candidate was measured
against, so that a verdict whose promotion has already happened comes out the same again.
"""

import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from imaging.dataset.snapshot import Snapshot
from imaging.errors import BundleError, RecordError, RegistryError
from imaging.gate import CaseScore, find_leaks, judge
from imaging.layout import Nas, RunFolder
from imaging.model.bundle import Bundle, load_bundle
from imaging.model.evaluate import Evaluation, evaluate, guess
from imaging.model.predict import load_predictor
from imaging.pointer import Champion
from imaging.publish import read_json, write_json, write_text
from imaging.registry import champion, promote
from imaging.task import GatePolicy
from imaging.verdict import Subject, Verdict, verdict_markdown
from services.trainer.errors import HopelessRunError

log = logging.getLogger(__name__)
MEASURES = {"segmentation": "Dice", "classification": "certainty"}


@dataclass(frozen=True, slots=True)
class Measured:
    """Both models on the held-out cases."""

    version: str
    candidate: tuple[CaseScore, ...]
    champion_version: str | None
    champion: tuple[CaseScore, ...] | None
    champion_patients: frozenset[str]  # whom the champion knows
    champion_cases: frozenset[str]
    guess: tuple[CaseScore, ...]


def judge_run(
    nas: Nas,
    run: RunFolder,
    bundle: Bundle,
    snapshot: Snapshot,
    policy: GatePolicy,
    evaluation: Evaluation | None = None,
) -> Verdict:
    """The verdict on a published bundle, with all that follows from it.

    Args:
        nas: the share.
        run: where metrics and verdict are written.
        bundle: the candidate.
        snapshot: holds the held-out cases.
        policy: the gate section of task.yaml.
        evaluation: the candidate's, when it was measured a moment ago.

    Raises:
        HopelessRunError: the champion cannot be read.
        RegistryError: the champion changed while this one was judged; try again.
    """
    present = champion(nas, snapshot.task)
    measured = _read_measured(run)
    serving = present.version if present else None
    if (
        measured is None
        or measured.version != bundle.version  # an earlier attempt's, made anew since
        or serving not in (measured.champion_version, bundle.version)
    ):
        measured = _measure(run, bundle, present, snapshot, evaluation)
    verdict = judge(
        measured.candidate,
        measured.champion,
        policy,
        guess=measured.guess,
        leaks=_leaks(bundle, measured, snapshot),
        subject=Subject(
            measure=MEASURES[snapshot.kind],
            task=snapshot.task,
            run=run.run_id,
            snapshot=snapshot.id,
            candidate=bundle.version,
            champion=measured.champion_version,
        ),
    )
    if verdict.promote:
        _promote(nas, snapshot.task, run, bundle.version, measured.champion_version)
    write_text(run.verdict_text, verdict_markdown(verdict))
    write_json(run.verdict, verdict.to_json())
    return verdict


def _leaks(bundle: Bundle, measured: Measured, snapshot: Snapshot) -> tuple[str, ...]:
    held_out = snapshot.of("test")
    by_patient = find_leaks(
        {case.patient for case in held_out},
        candidate=bundle.known_patients,
        champion=measured.champion_patients,
    )
    by_case = find_leaks(
        {case.case for case in held_out},
        candidate=bundle.known_cases,
        champion=measured.champion_cases,
        what="cases",
    )
    return by_patient + by_case


def _promote(nas: Nas, task: str, run: RunFolder, version: str, over: str | None) -> None:
    try:
        promote(nas, task, version, f"promoted by run {run.run_id}", over=over)
    except RegistryError:
        present = champion(nas, task)
        if present is None or version not in {change.version for change in present.history}:
            raise
        # It was promoted before a kill, and somebody has rolled it back since: that stands.
        log.info("run %s: %s was rolled back meanwhile", run.run_id, version)


def _measure(
    run: RunFolder,
    bundle: Bundle,
    present: Champion | None,
    snapshot: Snapshot,
    evaluation: Evaluation | None,
) -> Measured:
    cases = snapshot.of("test")
    if evaluation is None:
        evaluation = evaluate(load_predictor(bundle.folder), snapshot, cases)
    opponent: Evaluation | None = None
    patients: frozenset[str] = frozenset()
    known: frozenset[str] = frozenset()
    if present is not None:
        served = _champion_bundle(present)
        patients, known = served.known_patients, served.known_cases
        opponent = evaluate(load_predictor(present.folder), snapshot, cases)
    measured = Measured(
        version=bundle.version,
        candidate=evaluation.scores,
        champion_version=present.version if present else None,
        champion=opponent.scores if opponent else None,
        champion_patients=patients,
        champion_cases=known,
        guess=guess(snapshot, cases),
    )
    write_json(run.metrics, _record(measured, snapshot, evaluation, opponent))
    return measured


def _champion_bundle(present: Champion) -> Bundle:
    try:
        return load_bundle(present.folder)
    except BundleError as error:
        raise HopelessRunError(
            f"the champion {present.version} cannot be read, so nothing can be compared with it: "
            f"{error}. Roll back, or promote an intact version"
        ) from error


def _record(
    measured: Measured, snapshot: Snapshot, own: Evaluation, opponent: Evaluation | None
) -> dict[str, Any]:
    record: dict[str, Any] = {
        "format": 1,
        "snapshot": snapshot.id,
        "measure": MEASURES[snapshot.kind],
        "candidate": _side(measured.version, measured.candidate, own),
        "champion": None,
        "guess": [asdict(score) for score in measured.guess],
    }
    if opponent is not None and measured.champion is not None:
        side = _side(str(measured.champion_version), measured.champion, opponent)
        record["champion"] = side | {
            "patients": sorted(measured.champion_patients),
            "cases": sorted(measured.champion_cases),
        }
    return record


def _side(version: str, scores: tuple[CaseScore, ...], found: Evaluation) -> dict[str, Any]:
    return {
        "version": version,
        "summary": found.summary,
        "scores": [asdict(score) for score in scores],
        "details": found.details,
    }


def _read_measured(run: RunFolder) -> Measured | None:
    """What metrics.json says; None when it is absent or unusable, and then it is made anew."""
    if not run.metrics.is_file():
        return None
    try:
        record = read_json(run.metrics)
        other = record["champion"]
        return Measured(
            version=str(record["candidate"]["version"]),
            candidate=_scores(record["candidate"]),
            champion_version=None if other is None else str(other["version"]),
            champion=None if other is None else _scores(other),
            champion_patients=frozenset(() if other is None else other["patients"]),
            champion_cases=frozenset(() if other is None else other["cases"]),
            guess=tuple(CaseScore(**score) for score in record["guess"]),
        )
    except (RecordError, KeyError, TypeError) as error:
        log.warning("run %s: metrics.json is measured again: %r", run.run_id, error)
        return None


def _scores(side: Mapping[str, Any]) -> tuple[CaseScore, ...]:
    return tuple(CaseScore(**score) for score in side["scores"])
