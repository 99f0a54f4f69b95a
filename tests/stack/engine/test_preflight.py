import os
import socket
from pathlib import Path

import pytest

from imaging.layout import MARKER
from stack.engine import preflight
from stack.engine.settings import LabSettings
from stack.errors import RefusedError


def settings(**given: str) -> LabSettings:
    return LabSettings.from_env({"GATEWAY_BIND": "127.0.0.1", **given})


def share(folder: Path, gid: int) -> Path:
    for name in ("dataset", "runs", "models"):
        (folder / name).mkdir()
    (folder / MARKER).touch()
    for path in (folder, *folder.iterdir()):
        os.chown(path, -1, gid)
        path.chmod(0o2775)
    return folder


@pytest.mark.parametrize(
    ("version", "grade"),
    [("20.10.24+dfsg1", "fail"), ("25.0.4", "fail"), ("25.0.5", "ok"), ("26.1.5+dfsg1", "ok")],
)
def test_an_engine_too_old_is_refused(version: str, grade: str) -> None:
    finding = preflight.engine_version(version)
    assert finding.grade == grade and version in finding.found


@pytest.mark.parametrize(
    ("version", "grade"), [("", "fail"), ("2.20.3", "fail"), ("v2.26.1-4", "ok"), ("5.0.0", "ok")]
)
def test_a_compose_too_old_or_absent_is_refused(version: str, grade: str) -> None:
    assert preflight.compose_version(version).grade == grade


def test_a_busy_port_is_named_with_its_setting() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        finding = preflight.ports(settings(GATEWAY_FILES_PORT=str(port)), frozenset())
        assert finding.grade == "fail"
        assert f"{port} (GATEWAY_FILES_PORT)" in finding.found
        ours = preflight.ports(settings(GATEWAY_FILES_PORT=str(port)), frozenset({port}))
        assert f"{port} (" not in ours.found


def test_a_share_without_marker_is_refused_and_told_how_to_become_one(tmp_path: Path) -> None:
    (finding,) = preflight.nas(tmp_path, settings())
    assert finding.grade == "fail" and MARKER in finding.found
    assert f"labloop nas init {tmp_path}" in finding.advice


def test_a_share_that_is_not_there_is_refused(tmp_path: Path) -> None:
    (finding,) = preflight.nas(tmp_path / "nas", settings())
    assert finding.grade == "fail" and "not a folder" in finding.found


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files to other groups")
def test_the_lab_must_be_able_to_write(tmp_path: Path) -> None:
    folder = tmp_path / "nas"
    folder.mkdir()
    tmp_path.chmod(0o700)  # who stands above a mount does not count in a container
    share(folder, 2000)
    assert [one.grade for one in preflight.nas(folder, settings())][1:] == ["ok", "ok"]
    os.chown(folder / "runs", 0, 0)
    (folder / "runs").chmod(0o755)
    finding = preflight.writable(folder, settings())
    assert finding.grade == "fail"
    assert f"{folder / 'runs'} (0:0 0755)" in finding.found and "2000:2000" in finding.found
    assert "chgrp -R 2000" in finding.advice


def test_all_failures_are_told_at_once_and_nothing_else() -> None:
    findings = [
        preflight.engine_version("20.10.24"),
        preflight.compose_version("2.26.1"),
        preflight.compose_version(""),
    ]
    with pytest.raises(RefusedError) as caught:
        preflight.refuse_failures(findings)
    assert "20.10.24" in str(caught.value) and "is not there" in str(caught.value)
    assert "2.26.1" not in str(caught.value) and caught.value.exit_code == 3
    preflight.refuse_failures(findings[1:2])
