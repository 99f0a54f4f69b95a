import json
from dataclasses import replace
from pathlib import Path

import pytest

from imaging.dataset.snapshot import Snapshot, load_snapshot
from imaging.gate import CaseScore
from imaging.layout import Nas, RunFolder
from imaging.model.bundle import Bundle, describe_model, load_bundle, write_bundle
from imaging.model.evaluate import Evaluation
from imaging.publish import read_json
from imaging.recipes.facts import measure_facts
from imaging.recipes.plan import plan_recipe
from imaging.registry import champion, promote, roll_back
from imaging.task import TaskConfig
from services.trainer.errors import HopelessRunError
from services.trainer.judging import judge_run
from tests.imaging.model.models import random_weights
from tests.phantoms import TASK, class_config
from tests.services.trainer.runs import request_again, requested_run

CONFIG = class_config()


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> tuple[Nas, Snapshot]:
    nas, run = requested_run(tmp_path_factory.mktemp("lab"), CONFIG, count=30)
    snapshot_id = read_json(run.request)["snapshot"]
    return nas, load_snapshot(nas.task(TASK).snapshot(snapshot_id))


@pytest.fixture
def fresh(lab: tuple[Nas, Snapshot]) -> tuple[Nas, Snapshot, RunFolder]:
    """The lab with no champion and one more waiting run."""
    nas, snapshot = lab
    nas.model(TASK).champion.unlink(missing_ok=True)
    return nas, snapshot, request_again(nas, CONFIG)


def model(nas: Nas, run: RunFolder, snapshot: Snapshot, name: str) -> Bundle:
    """A published bundle with random weights."""
    folder = nas.model(TASK).version(name)
    if folder.exists():
        return load_bundle(folder)
    recipe = plan_recipe(CONFIG, measure_facts(snapshot))
    record = describe_model(folder, run.run_id, recipe, snapshot, {})
    return write_bundle(record, random_weights(CONFIG, seed=len(name)))


def scored(snapshot: Snapshot, value: float) -> Evaluation:
    """A model that is equally sure of every held-out case."""
    cases = [
        CaseScore(
            case.case,
            case.patient,
            {name: value if name in (case.classes or ()) else None for name in ("left", "right")},
        )
        for case in snapshot.of("test")
    ]
    return Evaluation(tuple(cases), {"accuracy": value}, {"cases": []})


def test_a_good_first_model_becomes_champion(fresh: tuple[Nas, Snapshot, RunFolder]) -> None:
    nas, snapshot, run = fresh
    bundle = model(nas, run, snapshot, "model-a")
    verdict = judge_run(nas, run, bundle, snapshot, CONFIG.gate, scored(snapshot, 0.99))
    assert verdict.promote
    present = champion(nas, TASK)
    assert present is not None
    assert (present.version, present.reason) == ("model-a", f"promoted by run {run.run_id}")
    assert read_json(run.verdict)["promote"] is True
    assert "first champion" in run.verdict_text.read_text()
    assert read_json(run.metrics)["candidate"]["summary"] == {"accuracy": 0.99}


def test_a_model_that_only_guesses_is_refused(fresh: tuple[Nas, Snapshot, RunFolder]) -> None:
    nas, snapshot, run = fresh
    bundle = model(nas, run, snapshot, "model-a")
    verdict = judge_run(nas, run, bundle, snapshot, CONFIG.gate, scored(snapshot, 0.75))
    assert not verdict.promote
    assert champion(nas, TASK) is None
    assert run.verdict.is_file()


def test_the_champion_is_measured_with_the_bundle_that_serves(
    fresh: tuple[Nas, Snapshot, RunFolder],
) -> None:
    nas, snapshot, run = fresh
    model(nas, run, snapshot, "model-a")
    promote(nas, TASK, "model-a", "by hand")
    bundle = model(nas, run, snapshot, "model-bb")
    verdict = judge_run(nas, run, bundle, snapshot, CONFIG.gate, scored(snapshot, 0.99))
    assert verdict.opponent == "champion"
    assert verdict.promote
    record = read_json(run.metrics)
    assert record["champion"]["version"] == "model-a"
    assert len(record["champion"]["scores"]) == len(snapshot.of("test"))
    assert champion(nas, TASK).version == "model-bb"  # type: ignore[union-attr]


def test_judging_again_after_a_kill_gives_the_same_verdict(
    fresh: tuple[Nas, Snapshot, RunFolder],
) -> None:
    nas, snapshot, run = fresh
    model(nas, run, snapshot, "model-a")
    promote(nas, TASK, "model-a", "by hand")
    bundle = model(nas, run, snapshot, "model-bb")
    first = judge_run(nas, run, bundle, snapshot, CONFIG.gate, scored(snapshot, 0.99))
    run.verdict.unlink()  # killed after the promotion, before the verdict was written
    run.verdict_text.unlink()
    second = judge_run(nas, run, bundle, snapshot, CONFIG.gate)
    assert second == first
    present = champion(nas, TASK)
    assert present is not None
    assert [change.version for change in present.history] == ["model-a", "model-bb"]


def test_a_champion_that_changed_meanwhile_is_measured_anew(
    fresh: tuple[Nas, Snapshot, RunFolder],
) -> None:
    nas, snapshot, run = fresh
    for name in ("model-a", "model-ccc"):
        model(nas, run, snapshot, name)
    promote(nas, TASK, "model-a", "by hand")
    bundle = model(nas, run, snapshot, "model-bb")
    judge_run(nas, run, bundle, snapshot, CONFIG.gate, scored(snapshot, 0.1))
    promote(nas, TASK, "model-ccc", "by hand")
    judge_run(nas, run, bundle, snapshot, CONFIG.gate)
    assert read_json(run.metrics)["champion"]["version"] == "model-ccc"


def test_a_roll_back_after_the_promotion_stands(fresh: tuple[Nas, Snapshot, RunFolder]) -> None:
    nas, snapshot, run = fresh
    model(nas, run, snapshot, "model-a")
    promote(nas, TASK, "model-a", "by hand")
    bundle = model(nas, run, snapshot, "model-bb")
    judge_run(nas, run, bundle, snapshot, CONFIG.gate, scored(snapshot, 0.99))
    roll_back(nas, TASK)
    assert judge_run(nas, run, bundle, snapshot, CONFIG.gate).promote
    assert champion(nas, TASK).version == "model-a"  # type: ignore[union-attr]


def test_a_model_that_saw_a_held_out_patient_is_refused(
    fresh: tuple[Nas, Snapshot, RunFolder],
) -> None:
    nas, snapshot, run = fresh
    bundle = model(nas, run, snapshot, "model-a")
    leaked = {**bundle.patients, "train": bundle.patients["train"] + bundle.patients["test"][:1]}
    leaky = replace(bundle, patients=leaked)
    verdict = judge_run(nas, run, leaky, snapshot, CONFIG.gate, scored(snapshot, 0.99))
    assert not verdict.promote
    assert "held-out patients trained the candidate" in verdict.reason


def test_a_candidate_that_saw_a_held_out_case_under_another_pseudonym_is_refused(
    fresh: tuple[Nas, Snapshot, RunFolder],
) -> None:
    nas, snapshot, run = fresh
    leaky = knowing_a_held_out_case(model(nas, run, snapshot, "model-a"))
    verdict = judge_run(nas, run, leaky, snapshot, CONFIG.gate, scored(snapshot, 0.99))
    assert not verdict.promote
    assert "1 held-out cases trained the candidate" in verdict.reason


def test_a_champion_that_saw_a_held_out_case_under_another_pseudonym_is_no_yardstick(
    fresh: tuple[Nas, Snapshot, RunFolder],
) -> None:
    nas, snapshot, run = fresh
    leaky = knowing_a_held_out_case(model(nas, run, snapshot, "model-a"))
    leaky = replace(leaky, folder=nas.model(TASK).version("model-leaky"), version="model-leaky")
    write_bundle(leaky, random_weights(CONFIG))
    promote(nas, TASK, "model-leaky", "by hand")
    bundle = model(nas, run, snapshot, "model-bb")
    for _ in range(2):  # measured, and read back from metrics.json
        verdict = judge_run(nas, run, bundle, snapshot, CONFIG.gate, scored(snapshot, 0.99))
        assert not verdict.promote
        assert "1 held-out cases trained the champion" in verdict.reason


def knowing_a_held_out_case(bundle: Bundle) -> Bundle:
    train = bundle.cases["train"] + bundle.cases["test"][:1]
    return replace(bundle, cases={**bundle.cases, "train": train})


def test_a_champion_that_cannot_be_read_stops_the_run_with_a_reason(
    fresh: tuple[Nas, Snapshot, RunFolder],
) -> None:
    nas, snapshot, run = fresh
    broken = model(nas, run, snapshot, "model-dddd")
    promote(nas, TASK, "model-dddd", "by hand")
    (broken.folder / "labloop.json").write_text("{}")
    bundle = model(nas, run, snapshot, "model-bb")
    with pytest.raises(HopelessRunError, match="champion model-dddd cannot be read"):
        judge_run(nas, run, bundle, snapshot, CONFIG.gate, scored(snapshot, 0.99))


def test_unreadable_metrics_are_measured_again(fresh: tuple[Nas, Snapshot, RunFolder]) -> None:
    nas, snapshot, run = fresh
    bundle = model(nas, run, snapshot, "model-a")
    run.metrics.write_text(json.dumps({"format": 1}))
    judge_run(nas, run, bundle, snapshot, CONFIG.gate)
    assert len(read_json(run.metrics)["candidate"]["scores"]) == len(snapshot.of("test"))


def test_figures_of_another_model_are_not_taken_for_the_candidates(
    fresh: tuple[Nas, Snapshot, RunFolder],
) -> None:
    nas, snapshot, run = fresh
    good = model(nas, run, snapshot, "model-a")
    judge_run(nas, run, good, snapshot, replace(CONFIG.gate, min_score=1.0), scored(snapshot, 0.99))
    other = model(nas, run, snapshot, "model-bb")
    judge_run(nas, run, other, snapshot, CONFIG.gate)
    assert read_json(run.metrics)["candidate"]["version"] == "model-bb"


def test_too_few_held_out_cases_are_a_refusal_with_a_reason(
    tmp_path: Path,
) -> None:
    config: TaskConfig = replace(CONFIG, split=replace(CONFIG.split, held_out=0.0))
    nas, run = requested_run(tmp_path, config, count=8)
    snapshot = load_snapshot(nas.task(TASK).snapshot(read_json(run.request)["snapshot"]))
    assert not snapshot.of("test")
    bundle = model(nas, run, snapshot, "model-a")
    verdict = judge_run(nas, run, bundle, snapshot, config.gate)
    assert not verdict.promote
    assert "too few held-out cases" in verdict.reason
