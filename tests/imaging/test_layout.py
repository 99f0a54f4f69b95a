from datetime import UTC, datetime
from pathlib import Path

import pytest

from imaging.errors import NasGoneError, UnsafeNameError
from imaging.ids import new_id, parse_utc, utc_now
from imaging.layout import Nas


@pytest.mark.parametrize("name", ["../x", "Task1_x", "Task001_", "Task001_a/b", "Task001_a b", ""])
def test_a_task_name_cannot_leave_the_share(name: str) -> None:
    with pytest.raises(UnsafeNameError, match="TaskNNN_what"):
        Nas(Path("/nas")).task(name)


@pytest.mark.parametrize("name", ["..", ".hidden", "a/b", "", "a\x00", "x" * 200])
def test_an_identifier_cannot_leave_its_folder(name: str) -> None:
    with pytest.raises(UnsafeNameError):
        Nas(Path("/nas")).task("Task001_x").case(name)


def test_an_absent_marker_means_the_nas_is_not_mounted(tmp_path: Path) -> None:
    with pytest.raises(NasGoneError, match="not mounted"):
        Nas(tmp_path).require_marker()
    (tmp_path / ".labloop").touch()
    Nas(tmp_path).require_marker()


def test_only_task_folders_are_tasks(tmp_path: Path) -> None:
    for name in ("Task002_b", "Task001_a", "notes", ".staging"):
        (tmp_path / "dataset" / name).mkdir(parents=True)
    assert [task.name for task in Nas(tmp_path).tasks()] == ["Task001_a", "Task002_b"]
    assert list(Nas(tmp_path / "nowhere").tasks()) == []


def test_identifiers_sort_by_time_and_differ() -> None:
    early = new_id("snap", datetime(2026, 3, 14, 9, 15, 2, tzinfo=UTC))
    late = new_id("snap", datetime(2026, 3, 14, 9, 15, 3, tzinfo=UTC))
    assert early.startswith("snap-20260314T091502Z-") and early < late
    moment = datetime(2026, 3, 14, tzinfo=UTC)
    assert len({new_id("run", moment) for _ in range(20)}) > 15


def test_time_stamps_round_trip() -> None:
    assert utc_now().endswith("Z")
    assert parse_utc("2026-03-14T10:15:02.5+01:00") == datetime(
        2026, 3, 14, 9, 15, 2, 500000, tzinfo=UTC
    )
