"""Log files: rotated, tailed, followed."""

import itertools
from pathlib import Path

import pytest

from stack.logs import KEPT, follow, last_lines, rotate


def test_a_log_that_grew_too_big_is_put_aside_while_its_writer_goes_on(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    with log.open("a") as writer:  # as a service holds it: open for appending all its life
        for number in range(KEPT + 2):
            writer.write(f"{number} {'x' * 100}\n")
            writer.flush()
            assert rotate(log, limit_bytes=50)
        writer.write("after\n")
        writer.flush()
    assert log.read_text() == "after\n"
    assert [log.with_name(f"a.log.{n}").read_text()[0] for n in (1, 2, 3)] == ["4", "3", "2"]
    assert len(list(tmp_path.iterdir())) == 1 + KEPT


def test_a_small_or_absent_log_is_left_alone(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    assert not rotate(log)
    log.write_text("few words\n")
    assert not rotate(log, limit_bytes=100)


def test_last_lines_are_those_since_a_start(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    log.write_text("old\nnew 1\nnew 2\nnew 3\n")
    assert last_lines(log, 2) == ["new 2", "new 3"]
    assert last_lines(log, 9, since=4) == ["new 1", "new 2", "new 3"]
    assert last_lines(log, 9, since=10_000) == ["old", "new 1", "new 2", "new 3"]  # was rotated
    assert last_lines(log, 0) == []
    assert last_lines(tmp_path / "absent.log", 5) == []


def test_the_tail_of_a_big_log_begins_with_a_whole_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "a.log"
    log.write_text("first line\nsecond line\nthird line\n")
    monkeypatch.setattr("stack.logs.TAIL_BYTES", 26)
    assert last_lines(log, 9) == ["second line", "third line"]


def test_following_shows_whole_new_lines_of_several_logs_across_a_rotation(tmp_path: Path) -> None:
    logs = {"a": tmp_path / "a.log", "b": tmp_path / "b.log"}
    logs["a"].write_text("before\n")
    rounds = itertools.count()

    def act() -> bool:
        number = next(rounds)
        if number == 0:
            with logs["a"].open("a") as stream:
                stream.write("one\ntw")
            logs["b"].write_text("hello\n")
        if number == 1:
            with logs["a"].open("a") as stream:
                stream.write("o\n")
        if number == 2:
            logs["a"].write_text("3\n")  # rotated: shorter than before
        return number == 4

    assert list(follow(logs, act)) == [("a", "one"), ("b", "hello"), ("a", "two"), ("a", "3")]
