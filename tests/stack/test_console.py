"""What people see in their terminal."""

import sys

import pytest

from stack import console


def test_columns_are_as_wide_as_they_must_be(capsys: pytest.CaptureFixture[str]) -> None:
    console.table(("A", "WORD"), [("one", "x"), ("2", "a longer one")])
    assert capsys.readouterr().out == "A    WORD\none  x\n2    a longer one\n"


def test_colour_is_for_terminals_and_does_not_shift_columns(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [("ok", "x"), ("other", "y")]
    console.table(("A", "B"), rows, {"ok": "green"})
    plain = capsys.readouterr().out
    assert "\033" not in plain
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    console.table(("A", "B"), rows, {"ok": "green"})
    painted = capsys.readouterr().out
    assert "\033[32mok\033[0m     x" in painted
    assert painted.replace("\033[32m", "").replace("\033[0m", "") == plain


def test_errors_and_hints_go_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    console.complain("it broke", "mend it")
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err == "error: it broke\nhint:  mend it\n"


def test_progress_speaks_now_and_then_where_no_line_can_be_rewritten(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    progress = console.Progress("it installs", "10 s")
    progress.tell("too soon to say more")
    monkeypatch.setattr(console, "SPEAK_EVERY_S", 0.0)
    progress.tell("half done")
    progress.finish()
    assert capsys.readouterr().out.splitlines() == [
        "it installs (usually 10 s) …",
        "    0 s, half done",
        "it installs (usually 10 s): done after 0 s",
    ]
