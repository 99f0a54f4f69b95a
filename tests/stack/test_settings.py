"""What the command line takes from the environment and from .env."""

from pathlib import Path

import pytest

from stack.errors import UsageError
from stack.settings import home_folder, read_env_file


def env_file(folder: Path, text: str) -> Path:
    path = folder / ".env"
    path.write_text(text, encoding="utf-8")
    return path


def test_env_files_read_as_compose_reads_them(tmp_path: Path) -> None:
    text = """
    # a comment
    PLAIN=a b
    export EXPORTED = 1
    QUOTED="a # b" # why
    SINGLE='x'
    COMMENTED=3 # three
    EMPTY=
    URL=http://h/?a=b#c
    """
    assert read_env_file(env_file(tmp_path, text)) == {
        "PLAIN": "a b",
        "EXPORTED": "1",
        "QUOTED": "a # b",
        "SINGLE": "x",
        "COMMENTED": "3",
        "EMPTY": "",
        "URL": "http://h/?a=b#c",
    }


def test_every_bad_line_is_reported_at_once(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        read_env_file(env_file(tmp_path, "A=1\nnonsense\n2B=3\n"))
    assert "line 2 is 'nonsense'" in str(caught.value) and "line 3" in str(caught.value)


def test_the_home_is_as_given_or_from_the_environment_or_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LABLOOP_HOME", raising=False)
    assert home_folder() == tmp_path / ".labloop-home"
    monkeypatch.setenv("LABLOOP_HOME", "lab")
    assert home_folder() == tmp_path / "lab"
    assert home_folder(Path("given")) == tmp_path / "given"
