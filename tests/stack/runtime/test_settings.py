from pathlib import Path

import pytest

from stack.runtime.heartbeat import Heartbeat
from stack.runtime.settings import EnvReader, SettingsError


def test_all_problems_are_reported_at_once(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    env = {
        "COUNT": "two",
        "SMALL": "1",
        "SPEED": "fast",
        "NAN": "nan",
        "MODE": "maybe",
        "SECRET_FILE": str(tmp_path / "absent"),
        "EMPTY_FILE": str(tmp_path / "empty"),
    }
    with pytest.raises(SettingsError) as caught, EnvReader(env) as read:
        read.text("MISSING")
        read.integer("COUNT")
        read.integer("SMALL", at_least=5)
        read.number("SPEED")
        read.number("NAN")
        read.choice("MODE", ("on", "off"), "on")
        read.secret("SECRET_FILE")
        read.secret("EMPTY_FILE")
    assert [problem.split()[0].rstrip(":") for problem in caught.value.problems] == [
        "MISSING",
        "COUNT",
        "SMALL",
        "SPEED",
        "NAN",
        "MODE",
        "SECRET_FILE",
        "EMPTY_FILE",
    ]


def test_defaults_fill_what_is_absent_or_blank(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("s3cret\n")
    with EnvReader({"BLANK": " ", "TOKEN_FILE": str(tmp_path / "token")}) as read:
        assert read.text("BLANK", "x") == "x"
        assert read.integer("N", 3) == 3
        assert read.number("F", 0.5) == 0.5
        assert read.folder("D", "/nas") == Path("/nas")
        assert read.secret("TOKEN_FILE") == "s3cret"


def test_an_error_of_the_reader_itself_is_not_hidden() -> None:
    with pytest.raises(ZeroDivisionError), EnvReader({}) as read:
        read.text("MISSING")
        raise ZeroDivisionError


def test_a_heartbeat_says_alive_troubled_or_stale(tmp_path: Path) -> None:
    heart = Heartbeat(tmp_path / "x" / "heartbeat")
    assert heart.check(10) == "no heartbeat yet"
    heart.beat()
    assert heart.check(10) == ""
    heart.beat("the NAS is\nnot mounted")
    assert heart.check(10) == "the NAS is not mounted"
    assert "expected one every" in heart.check(-1)
