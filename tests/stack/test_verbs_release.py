from pathlib import Path

import numpy as np
import pytest

from imaging.dataset.quarantine import QuarantineEntry, decision_for, quarantine, series_key
from imaging.deid.reader import Box
from imaging.layout import TaskFolder
from stack.bootstrap import init_nas
from stack.cli import main
from stack.home import Home

KEY = series_key(["aa"])


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path / "home")
    init_nas(home.nas_folder)
    home.nas.task("Task001_head").rawdata.mkdir(parents=True)
    return home


def labloop(home: Home, *arguments: str) -> int:
    return main([*arguments, "--home", str(home.root)])


def waiting(home: Home) -> tuple[TaskFolder, str]:
    task = home.nas.task("Task001_head")
    entry = QuarantineEntry(
        KEY, ("a.dcm",), "text was read on 1 of 1 slices", {0: (Box(1, 2, 3, 4),)}
    )
    return task, quarantine(task, entry, np.zeros((8, 8), dtype=np.uint8))


def test_what_waits_is_listed_with_its_reason_and_picture(
    home: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    task, name = waiting(home)
    assert labloop(home, "release", task.name) == 0
    words = capsys.readouterr().out
    assert name in words and "text was read on 1 of 1 slices" in words
    assert str(task.quarantine / name / "picture.png") in words and "a.dcm" not in words


@pytest.mark.parametrize(
    ("options", "decision"), [((), "release"), (("--redact",), "redact"), (("--reject",), "reject")]
)
def test_a_decision_reaches_the_share_and_leaves_the_list(
    home: Home, capsys: pytest.CaptureFixture[str], options: tuple[str, ...], decision: str
) -> None:
    task, name = waiting(home)
    assert labloop(home, "release", task.name, name, *options, "--by", "anna") == 0
    assert f"{decision} by anna" in capsys.readouterr().out
    assert decision_for(task, KEY) == decision
    assert labloop(home, "release", task.name) == 0
    assert "nothing waits" in capsys.readouterr().out


def test_a_second_decision_is_refused_with_the_first(
    home: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    task, name = waiting(home)
    labloop(home, "release", task.name, name, "--by", "anna")
    assert labloop(home, "release", task.name, name, "--reject") == 3
    words = capsys.readouterr().err
    assert "release by anna" in words and "decision.json" in words
    assert decision_for(task, KEY) == "release"


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("q-0000000000000000",), 3, "`labloop release TASK` lists what waits"),
        (("../x",), 2, "expected letters"),
        (("--reject",), 2, "without an ID"),
    ],
)
def test_a_wrong_id_is_told_with_a_hint(
    home: Home,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    code: int,
    words: str,
) -> None:
    task, _ = waiting(home)
    assert labloop(home, "release", task.name, *arguments) == code
    assert words in capsys.readouterr().err
    assert decision_for(task, KEY) is None


def test_an_unknown_task_is_wrong_usage(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    assert labloop(home, "release", "Task009_no") == 2
    assert "Task001_head" in capsys.readouterr().err
