"""The doctor: finds what is wrong, leaves nothing behind."""

import os
from pathlib import Path

import pytest

from stack.bootstrap import init_nas
from stack.doctor import GIB, Finding, examine_machine
from stack.environments import Checkout
from stack.home import Home


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path / "home")
    init_nas(home.nas_folder)
    return home


def found(home: Home, what: str) -> Finding:
    return next(one for one in examine_machine(home) if one.what == what)


def test_a_home_that_is_not_there_yet_is_no_trouble(tmp_path: Path) -> None:
    home = Home(tmp_path / "deep" / "home")
    assert (
        found(home, "nas").grade == found(home, "clock").grade == found(home, "ports").grade == "ok"
    )
    assert not (tmp_path / "deep").exists()


def test_a_mounted_share_is_fine_and_stays_as_it_was(home: Home) -> None:
    before = sorted(home.nas_folder.iterdir())
    assert found(home, "nas") == Finding("ok", "nas", str(home.nas.root))
    assert found(home, "clock").grade == "ok"
    assert sorted(home.nas_folder.iterdir()) == before


def test_an_unmounted_share_fails(home: Home) -> None:
    home.nas.marker.unlink()
    assert found(home, "nas").grade == "fail" and "marker" in found(home, "nas").found


def test_a_share_that_is_gone_altogether_fails(home: Home, tmp_path: Path) -> None:
    home.nas_folder.rename(tmp_path / "elsewhere")
    home.nas_folder.symlink_to(tmp_path / "nowhere")
    assert found(home, "nas").grade == "fail"


def test_environments_are_told_by_what_to_do(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Checkout, "interpreter", lambda *_: tmp_path / "python")
    assert found(home, "environments").grade == "fail"
    (tmp_path / "python").touch()
    monkeypatch.setattr(Checkout, "is_ready", lambda *_: False)
    assert found(home, "environments").grade == "warn"
    monkeypatch.setattr(Checkout, "is_ready", lambda *_: True)
    assert found(home, "environments").grade == "ok"


def test_a_clock_that_is_ahead_is_told(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    def touch(path: Path) -> None:
        path.write_text("")
        os.utime(path, (2**31 - 1, 2**31 - 1))

    monkeypatch.setattr(Path, "touch", touch)
    finding = found(home, "clock")
    assert finding.grade == "warn" and "ahead" in finding.found and "NTP" in finding.advice


@pytest.mark.parametrize(("free_gib", "grade"), [(100, "ok"), (5, "warn"), (1, "fail")])
def test_a_full_disk_is_told(
    home: Home, monkeypatch: pytest.MonkeyPatch, free_gib: int, grade: str
) -> None:
    class Usage:
        free = free_gib * GIB

    monkeypatch.setattr("shutil.disk_usage", lambda _: Usage)
    assert found(home, "disk").grade == grade


def test_a_broken_gpu_driver_is_told(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 'Driver/library version mismatch'\nexit 18\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    finding = found(home, "gpu")
    assert finding.grade == "warn" and "mismatch" in finding.found
