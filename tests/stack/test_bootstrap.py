"""Making a home ready: NAS, settings, launches."""

import json
from pathlib import Path

import pytest

from imaging.errors import NasGoneError
from stack.bootstrap import Wishes, connect_nas, init_nas, prepare
from stack.errors import NotInstalledError, RefusedError, UsageError
from stack.home import Home
from tests.stack.fake_stack import beat, service, web, write_stack


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


def prepared(home: Home, tmp_path: Path, env: str = "", **services: object) -> dict[str, str]:
    """The environment of the first service of a stack."""
    wishes = Wishes(write_stack(tmp_path / "stack", **services))
    (tmp_path / "stack" / ".env").write_text(env)
    return prepare(home, wishes)[0].environment(home, {"PATH": "/bin", "SECRET_OF_MINE": "x"})


def test_a_service_gets_its_settings_and_little_else(home: Home, tmp_path: Path) -> None:
    given = prepared(home, tmp_path, a=web(), b=beat())
    ports = json.loads(home.ports.read_text())["ports"]
    assert given["PORT"] == str(ports["a"])
    assert given["LABLOOP_STACK"] == str(home.root)
    assert given["PATH"].endswith(":/bin")
    assert "SECRET_OF_MINE" not in given and "WEB_PORT" not in given


def test_state_lies_apart_for_each_service_and_off_the_nas(home: Home, tmp_path: Path) -> None:
    wishes = Wishes(write_stack(tmp_path / "stack", a=beat(), b=beat()))
    files = [one.environment(home, {})["HEARTBEAT_FILE"] for one in prepare(home, wishes)]
    assert files == [f"{home.root}/state/{name}/heartbeat" for name in "ab"]
    assert home.states.stat().st_mode & 0o777 == 0o700


def test_settings_come_from_the_env_file_and_the_environment_wins(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = {"environment": {"LEVEL": None, "SIZE": "${SIZE:-1}"}} | beat()
    monkeypatch.setenv("SIZE", "3")
    given = prepared(home, tmp_path, "LEVEL=loud\nSIZE=2\n", a=entry)
    assert (given["LEVEL"], given["SIZE"]) == ("loud", "3")


def test_settings_nobody_reads_are_errors_with_a_guess(home: Home, tmp_path: Path) -> None:
    entry = {"environment": {"LEVEL": None}} | web()
    text = "LEVLE=loud\nWEB_PORT=80\nNAS_ROOT=/x\n"
    with pytest.raises(UsageError) as caught:
        prepared(home, tmp_path, text, a=entry)
    message = str(caught.value)
    assert "LEVLE is not a known setting; LEVEL is" in message
    assert "WEB_PORT is decided by the local runner" in message
    assert "NAS_ROOT is decided" in message


def test_one_env_file_serves_both_runners(home: Home, tmp_path: Path) -> None:
    entry = {"image": "x:${X_VERSION:-1}", "mem_limit": "${X_MEMORY:-1g}"} | beat()
    override = tmp_path / "stack" / "stack" / "overrides" / "more.yaml"
    override.parent.mkdir(parents=True)
    override.write_text('services: {a: {labels: {b: "${X_LABEL:?}"}}}\n')
    text = "X_VERSION=2\nX_LABEL=y\nX_MEMORY=2g\nLAB_HOST=here\nCOMPOSE_PROFILES=trainer\n"
    assert "X_MEMORY" not in prepared(home, tmp_path, text, a=entry)
    with pytest.raises(UsageError, match="X_MEMRY is not a known setting; X_MEMORY is"):
        prepared(home, tmp_path, "X_MEMRY=1g\n", a=entry)
    with pytest.raises(UsageError, match="IMAGE_TAG is filled in by `labloop up`"):
        prepared(home, tmp_path, "IMAGE_TAG=1\n", a=entry)


def test_what_is_dockers_alone_does_not_reach_a_process(home: Home, tmp_path: Path) -> None:
    entry = beat(environment={"URL": "http://127.0.0.1", "SECURE": None, "WORKERS": None})
    common = {"URL": "http://a:80", "SECURE": "1", "WORKERS": "${WORKERS:-2}", "BOTH": "x"}
    given = prepared(home, tmp_path, "WORKERS=3\n", a={"environment": common} | entry)
    assert given["URL"] == "http://127.0.0.1" and given["BOTH"] == "x"
    assert given["WORKERS"] == "3" and "SECURE" not in given


def test_an_env_file_that_was_named_must_be_there(home: Home, tmp_path: Path) -> None:
    wishes = Wishes(write_stack(tmp_path, a=beat()), env_file=tmp_path / "absent.env")
    with pytest.raises(UsageError, match=r"absent\.env"):
        prepare(home, wishes)


def test_a_missing_environment_is_noticed_before_anything_is_made(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wishes = Wishes(write_stack(tmp_path, a=service("beat", env="label-studio")))
    monkeypatch.setattr("stack.environments.Checkout.interpreter", lambda *_: tmp_path / "none")
    with pytest.raises(NotInstalledError, match="label-studio is not there"):
        prepare(home, wishes)
    assert not home.root.exists()


def test_a_program_that_is_not_in_the_environment_is_named(home: Home, tmp_path: Path) -> None:
    wishes = Wishes(write_stack(tmp_path, a=service("beat", command="no-such-program")))
    with pytest.raises(NotInstalledError, match=r"a needs .*no-such-program"):
        _ = prepare(home, wishes)[0].program


# --- the NAS ----------------------------------------------------------------------------------


def test_a_home_has_a_share_of_its_own_unless_told_otherwise(home: Home) -> None:
    connect_nas(home, None)
    connect_nas(home, None)
    assert home.nas.marker.is_file() and home.nas.dataset.is_dir() and home.nas.runs.is_dir()


def test_a_share_that_lost_its_marker_is_not_made_anew(home: Home) -> None:
    connect_nas(home, None)
    home.nas.marker.unlink()
    with pytest.raises(NasGoneError):
        connect_nas(home, None)
    assert not home.nas.marker.exists()


def test_an_existing_share_must_carry_the_marker(home: Home, tmp_path: Path) -> None:
    share = tmp_path / "share"
    share.mkdir()
    home.root.mkdir()
    with pytest.raises(RefusedError, match="no marker file") as caught:
        connect_nas(home, share)
    assert f"labloop nas init {share}" in caught.value.hint
    init_nas(share)
    connect_nas(home, share)
    assert home.nas.root == share


def test_a_home_remembers_its_share_even_while_it_is_not_mounted(
    home: Home, tmp_path: Path
) -> None:
    share = tmp_path / "share"
    home.root.mkdir()
    init_nas(share)
    connect_nas(home, share)
    share.rename(tmp_path / "unplugged")
    with pytest.raises(NasGoneError):
        connect_nas(home, None)
    assert not share.exists()


def test_a_home_does_not_change_its_share(home: Home, tmp_path: Path) -> None:
    home.root.mkdir()
    connect_nas(home, None)
    init_nas(tmp_path / "other")
    with pytest.raises(RefusedError, match="this home uses"):
        connect_nas(home, tmp_path / "other")


def test_making_a_share_twice_keeps_what_is_there(tmp_path: Path) -> None:
    marker = init_nas(tmp_path).marker
    text = marker.read_text()
    init_nas(tmp_path)
    assert marker.read_text() == text
