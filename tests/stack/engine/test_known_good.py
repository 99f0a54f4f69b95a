from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import pytest

from stack.engine.compose_call import Compose
from stack.engine.known_good import NothingKnownGoodError, go_back, keep_good
from stack.engine.lab import make_lab, open_lab, save_lab
from stack.engine.settings import LabSettings
from stack.home import Home


@dataclass(frozen=True)
class Rendering:
    """Compose, as far as `config` goes."""

    env_file: Path
    text: str

    def run(self, *words: str) -> str:
        assert words == ("config",)
        return self.text


def test_a_home_goes_back_to_what_was_healthy(tmp_path: Path) -> None:
    home = Home(tmp_path)
    given = {"STACK_NAME": "heart", "LOG_LEVEL": "INFO"}
    old = save_lab(make_lab(home, LabSettings.from_env(given), [], "0-old"), given)
    rendering = Rendering(old.compose.env_file, "name: heart\n")
    keep_good(replace(old, compose=cast(Compose, rendering)))
    newer = {**given, "LOG_LEVEL": "DEBUG"}
    save_lab(make_lab(home, LabSettings.from_env(newer), ["gpu"], "0-new"), newer)
    assert open_lab(home).image_tag == "0-new"

    back = go_back(home)
    assert back.image_tag == "0-old" == open_lab(home).image_tag
    assert back.settings.values["LOG_LEVEL"] == "INFO"
    assert [path.read_text() for path in back.compose.files] == ["name: heart\n"]


def test_without_a_healthy_past_there_is_no_way_back(tmp_path: Path) -> None:
    with pytest.raises(NothingKnownGoodError):
        go_back(Home(tmp_path))
