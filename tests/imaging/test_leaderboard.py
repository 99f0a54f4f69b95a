"""The leaderboard: ranked on the same cases, or not at all."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from imaging.dataset.snapshot import Snapshot, freeze_snapshot
from imaging.layout import Nas
from imaging.leaderboard import Standing, leaderboard
from imaging.publish import MANIFEST, manifest_files, write_json
from imaging.registry import promote
from imaging.runs import request_run
from tests.imaging.dataset.lab import SEGMENTATION, TASK, label_cases, make_nas

A, B, C = (f"model-20260314T09{minute}00Z-0000" for minute in (10, 20, 30))


@pytest.fixture
def nas(tmp_path: Path) -> Nas:
    return make_nas(tmp_path)


def freeze(nas: Nas, numbers: range) -> Snapshot:
    label_cases(nas.task(TASK), numbers)
    return freeze_snapshot(nas.task(TASK), SEGMENTATION)


def add_version(
    nas: Nas, version: str, snapshot: str, figures: Mapping[str, float] | None = None
) -> None:
    folder = nas.model(TASK).version(version)
    record = {"created_at": "2026-03-14T09:10:00Z", "run": "run-1", "snapshot": snapshot}
    write_json(folder / "labloop.json", record | {"metrics": dict(figures or {})})
    write_json(folder / MANIFEST, {"format": 1, "files": manifest_files(folder)})


def add_run(nas: Nas, snapshot: str, **sides: tuple[str, float]) -> None:
    run = request_run(nas, TASK, snapshot, requested_by="person", reason="test")
    record: dict[str, Any] = {"format": 1, "snapshot": snapshot, "champion": None}
    for side, (version, dice) in sides.items():
        scores = [{"case": f"case-{n}", "patient": f"p-{n}", "scores": {}} for n in range(3)]
        figures = {"mean Dice": dice, "Dice of lv": dice}
        record[side] = {"version": version, "summary": figures, "scores": scores}
    write_json(run.metrics, record)


def places(nas: Nas) -> dict[str, Standing]:
    return {one.version: one for one in leaderboard(nas, TASK).standings}


def test_versions_on_the_same_cases_are_ranked_best_first(nas: Nas) -> None:
    snapshot = freeze(nas, range(8)).id
    for version, dice in ((A, 0.7), (B, 0.9), (C, 0.8)):
        add_version(nas, version, snapshot)
        add_run(nas, snapshot, candidate=(version, dice))
    promote(nas, TASK, C, "chosen")
    board = leaderboard(nas, TASK)

    assert [(one.rank, one.version) for one in board.standings] == [(1, B), (2, C), (3, A)]
    assert [one.is_champion for one in board.standings] == [False, True, False]
    assert (board.snapshot, board.measure) == (snapshot, "mean Dice")
    assert board.standings[0].measured is not None and board.standings[0].measured.cases == 3


def test_a_champion_is_ranked_by_what_a_later_run_found_about_it(nas: Nas) -> None:
    first = freeze(nas, range(8)).id
    add_version(nas, A, first)
    add_run(nas, first, candidate=(A, 0.95))
    second = freeze(nas, range(8, 30)).id
    add_version(nas, B, second)
    add_run(nas, second, candidate=(B, 0.8), champion=(A, 0.7))
    board = leaderboard(nas, TASK)
    assert [(one.rank, one.version) for one in board.standings] == [(1, B), (2, A)]


def test_what_was_measured_on_other_cases_has_no_rank_and_says_so(nas: Nas) -> None:
    first, second = freeze(nas, range(8)), freeze(nas, range(8, 30))
    assert len(first.of("test")) < len(second.of("test"))
    add_version(nas, A, first.id)
    add_run(nas, first.id, candidate=(A, 0.95))
    add_version(nas, B, second.id)
    add_run(nas, second.id, candidate=(B, 0.8))
    found = places(nas)
    assert found[B].rank == 1 and found[A].rank is None and first.id in found[A].note


def test_another_snapshot_with_the_same_held_out_cases_is_as_good(nas: Nas) -> None:
    first = freeze(nas, range(30))
    number = 30
    second = first
    while second.id == first.id or len(second.of("test")) != len(first.of("test")):
        second = freeze(nas, range(number, number + 1))
        number += 1
        if len(second.of("test")) > len(first.of("test")):
            first = second
    add_version(nas, A, first.id)
    add_run(nas, first.id, candidate=(A, 0.9))
    add_version(nas, B, second.id)
    add_run(nas, second.id, candidate=(B, 0.8))
    assert [one.rank for one in leaderboard(nas, TASK).standings] == [1, 2]


def test_a_version_whose_run_is_gone_goes_by_its_bundle(nas: Nas) -> None:
    snapshot = freeze(nas, range(8)).id
    add_version(nas, A, snapshot, {"mean Dice": 0.6})
    add_version(nas, B, snapshot)
    found = places(nas)
    assert found[A].rank == 1
    assert found[B].rank is None and "not measured" in found[B].note


def test_equal_figures_share_a_rank(nas: Nas) -> None:
    snapshot = freeze(nas, range(8)).id
    for version, dice in ((A, 0.8), (B, 0.8), (C, 0.7)):
        add_version(nas, version, snapshot, {"mean Dice": dice})
    assert [one.rank for one in leaderboard(nas, TASK).standings] == [1, 1, 3]


def test_a_broken_run_or_version_spoils_nothing(nas: Nas) -> None:
    snapshot = freeze(nas, range(8)).id
    add_version(nas, A, snapshot, {"mean Dice": 0.6})
    add_version(nas, B, snapshot, {"mean Dice": 0.7})
    (nas.model(TASK).version(B) / "labloop.json").write_text("{")
    run = request_run(nas, TASK, snapshot, requested_by="person", reason="test")
    write_json(run.metrics, {"candidate": 3})
    found = places(nas)
    assert found[A].rank == 1 and "labloop.json" in found[B].note


def test_a_task_without_a_version_has_an_empty_board(nas: Nas) -> None:
    board = leaderboard(nas, TASK)
    assert board.standings == () and board.to_json()["snapshot"] is None
