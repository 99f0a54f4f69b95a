"""Secrets: made once, at random, closed to others; the pseudonym key is never replaced."""

import re
import stat
from pathlib import Path

import pytest

from stack.bootstrap import init_nas
from stack.credentials import LABEL_STUDIO_TOKEN, MAKERS, PSEUDONYM_KEY, ensure_secrets
from stack.errors import RefusedError
from stack.home import Home


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path / "home")
    init_nas(home.nas_folder)
    return home


def values(home: Home) -> dict[str, str]:
    return {path.name: path.read_text() for path in home.secrets.iterdir()}


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_every_secret_is_made_and_closed_to_others(home: Home) -> None:
    ensure_secrets(home)
    assert values(home).keys() == MAKERS.keys()
    assert mode(home.secrets) == 0o700
    assert {mode(path) for path in home.secrets.iterdir()} == {0o600}
    assert re.fullmatch(r"[0-9a-f]{40}\n", values(home)[LABEL_STUDIO_TOKEN])


def test_secrets_are_made_once(home: Home) -> None:
    ensure_secrets(home)
    before = values(home)
    ensure_secrets(home)
    assert values(home) == before


def test_two_homes_have_no_secret_in_common(home: Home, tmp_path: Path) -> None:
    other = Home(tmp_path / "other")
    init_nas(other.nas_folder)
    for one in (home, other):
        ensure_secrets(one)
    assert not set(values(home).values()) & set(values(other).values())


def test_a_secret_that_others_could_read_is_closed_up(home: Home) -> None:
    ensure_secrets(home)
    home.secret(LABEL_STUDIO_TOKEN).chmod(0o644)
    home.secrets.chmod(0o755)
    ensure_secrets(home)
    assert (mode(home.secret(LABEL_STUDIO_TOKEN)), mode(home.secrets)) == (0o600, 0o700)


def test_a_lost_pseudonym_key_is_not_replaced_while_cases_need_it(home: Home) -> None:
    ensure_secrets(home)
    home.nas.task("Task001_heart").case("case-1").mkdir(parents=True)
    home.secret(PSEUDONYM_KEY).unlink()
    with pytest.raises(RefusedError, match="pseudonym-key is missing"):
        ensure_secrets(home)
    assert not home.secret(PSEUDONYM_KEY).exists()
