"""The demo's frame: what ends it, what its exit code says, whose homes it may use."""

import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from stack.bootstrap import Wishes, init_nas
from stack.cli import INTERRUPTED, main
from stack.control import start_detached, stop
from stack.demo.narrator import DemoError
from stack.home import Home
from stack.lock import is_supervised, only_supervisor
from stack.processes import marked
from tests.stack.fake_stack import web, write_stack

pytestmark = pytest.mark.slow  # each starts and stops a stack

Tell = Callable[[], object]


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


@pytest.fixture
def play(home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Runs the verb on a stack of fakes with this story in place of the real one."""
    names = ("label-studio", "tensorboard")
    services = {name: web(port=f"PORT_{n}", **on(f"PORT_{n}")) for n, name in enumerate(names)}
    compose = write_stack(tmp_path / "stack", **services)
    monkeypatch.setattr("stack.demo.run.Wishes", lambda: Wishes(compose))
    monkeypatch.setattr("stack.demo.run.last_screen", lambda *_: "The loop turned.")

    def run(tell: Tell, *words: str) -> int:
        monkeypatch.setattr("stack.demo.run.Story.tell", lambda _: tell())
        return main(["demo", *words, "--home", str(home.root)])

    return run


def on(variable: str) -> dict[str, object]:
    address = f"http://127.0.0.1:${{{variable}}}/"
    settings = {"PORT": f"${{{variable}}}"}
    return {"url": address, "environment": settings, "health": {"http": address}}


def press_ctrl_c() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def press_ctrl_c_soon() -> None:
    threading.Timer(0.5, press_ctrl_c).start()


def test_a_ctrl_c_after_the_story_returns_what_the_story_said(
    home: Home, play: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert play(press_ctrl_c_soon) == 0
    words = capsys.readouterr()
    assert "The loop turned." in words.out and "all stopped" in words.out
    assert "error" not in words.err
    assert marked(home.root) == [] and not is_supervised(home)


def test_a_ctrl_c_after_a_story_that_went_wrong_says_so(
    home: Home, play: Callable[..., int]
) -> None:
    def fail() -> None:
        press_ctrl_c_soon()
        raise DemoError("the second model was refused")

    assert play(fail) == 1
    assert marked(home.root) == []


@pytest.mark.parametrize("words", [(), ("--exit",)])
def test_a_ctrl_c_in_the_middle_of_the_story_is_an_interruption(
    home: Home, play: Callable[..., int], words: tuple[str, ...]
) -> None:
    assert play(press_ctrl_c, *words) == INTERRUPTED
    assert marked(home.root) == [] and not is_supervised(home)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_ctrl_c_before_the_stack_is_healthy_leaves_nothing_behind(
    home: Home, play: Callable[..., int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stack.control.read_state", lambda _: press_ctrl_c())
    assert play(pytest.fail) == INTERRUPTED
    monkeypatch.undo()
    assert marked(home.root) == [] and not is_supervised(home)


def test_the_demo_never_uses_a_home_that_runs(
    home: Home, play: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with only_supervisor(home):
        assert play(pytest.fail) == 3
    assert "of its own" in capsys.readouterr().err
    start_detached(home, Wishes(tmp_path / "stack" / "compose.yaml"))
    before = marked(home.root)
    try:
        assert play(pytest.fail) == 3
        assert marked(home.root) == before
    finally:
        stop(home)


def test_the_demo_never_uses_a_home_that_holds_a_task(
    home: Home, play: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    init_nas(home.nas_folder).task("Task001_liver").root.mkdir()
    assert play(pytest.fail) == 3
    assert "Task001_liver" in capsys.readouterr().err
    assert not home.run.exists()
