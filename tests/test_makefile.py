"""The menu on a fresh clone: verbs that need the setup say so, and set nothing up by themselves."""

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def make(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    shutil.copy(ROOT / "Makefile", folder)
    command = ["make", "-C", str(folder), *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


@pytest.mark.parametrize("verb", [("status",), ("down",), ("logs",), ("train", "TASK=Task001_a")])
def test_before_the_setup_a_verb_says_what_to_run_first(
    tmp_path: Path, verb: tuple[str, ...]
) -> None:
    answer = make(tmp_path, *verb)
    assert answer.returncode == 2 and "run `make setup` first" in answer.stderr


def test_training_needs_to_know_the_task(tmp_path: Path) -> None:
    (tmp_path / ".venv/bin").mkdir(parents=True)
    (tmp_path / ".venv/bin/labloop").touch()
    answer = make(tmp_path, "train")
    assert answer.returncode == 2 and "make train TASK=Task001_kidney" in answer.stderr
