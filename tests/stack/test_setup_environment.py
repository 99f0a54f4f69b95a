"""What `make setup` hands to pip and uv where there is no network."""

from pathlib import Path

import pytest

from stack import settings
from stack.pip_settings import parse_pip_config, uv_options
from stack.settings import setup_environment


@pytest.fixture(autouse=True)
def nothing_given(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("WHEELS", "OFFLINE", "PIP_NO_INDEX", "PIP_FIND_LINKS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(settings, "BUNDLED_WHEELS", tmp_path / "bundled")


def test_nothing_is_added_unasked() -> None:
    assert not {"PIP_NO_INDEX", "PIP_FIND_LINKS"} & setup_environment().keys()


def test_a_folder_of_wheels_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WHEELS", "/media/wheels")
    assert setup_environment()["PIP_FIND_LINKS"] == "/media/wheels"
    monkeypatch.setenv("PIP_FIND_LINKS", "/mine")
    assert setup_environment()["PIP_FIND_LINKS"] == "/media/wheels /mine"
    assert "PIP_NO_INDEX" not in setup_environment(), "indexes are asked, too"


def test_offline_no_index_is_asked_and_the_bundles_wheels_are_found(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("OFFLINE", "1")
    assert "PIP_FIND_LINKS" not in setup_environment(), "there is no bundle"
    (tmp_path / "bundled").mkdir()
    found = setup_environment()
    assert found["PIP_FIND_LINKS"] == str(tmp_path / "bundled")
    # As `pip config list` prints the variable; uv knows no variable for it.
    listed = f":env:.no-index='{found['PIP_NO_INDEX']}'"
    assert uv_options(parse_pip_config(listed)) == ["--no-index"]
