"""What `labloop up` refuses, how it says so, and that nothing is left behind when it does."""

import json
import os
import signal
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from imaging.layout import MARKER
from stack.home import Home
from tests.docker.engine import docker, try_docker, wait_for
from tests.docker.fake_engine import fake_engine
from tests.docker.labs import DockerLab, lab_settings
from tests.docker.our_engine import our_engine

pytestmark = pytest.mark.docker
NO_BASE = "127.0.0.1:1/nobody/python:3.11"  # nothing listens there: refused at once
Settings = Mapping[str, str]


@pytest.fixture(scope="module")
def usual(engine: None) -> dict[str, str]:
    return lab_settings("files-lite")


@pytest.fixture
def folder() -> Iterator[Path]:
    """Where the lab's user may look, too; pytest's own folders keep it out."""
    with tempfile.TemporaryDirectory(prefix="labloop-refused-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture
def lab(usual: dict[str, str], folder: Path) -> DockerLab:
    """A clean box: no .env yet, all settings from the environment."""
    return DockerLab(Home(folder / "home"), folder / "lab.env", usual, usual)


def with_settings(lab: DockerLab, **more: str) -> DockerLab:
    environment = {**lab.environment, **more}
    return replace(lab, settings={**lab.settings, **more}, environment=environment)


def nothing_was_made(lab: DockerLab) -> None:
    """Neither in the engine nor on the disk; a plan in the home's `run` is no start."""
    for words in (("ps", "--all"), ("network", "ls"), ("volume", "ls")):
        shape = "{{.Names}}" if words[0] == "ps" else "{{.Name}}"
        found = docker(*words, "--format", shape).split()
        assert not [name for name in found if name.startswith(lab.name)], words
    assert not lab.env_file.exists() and not lab.home.secrets.exists()
    left = {path.name for path in lab.home.run.iterdir()} if lab.home.run.is_dir() else set()
    assert left <= {"stack.next.env"}
    assert not (lab.home.logs / "build.log").exists()


# --- six refusals, and some more -----------------------------------------------------------------


@contextmanager
def a_share(lab: DockerLab, folder: Path) -> Iterator[DockerLab]:
    """A share as the admin makes one."""
    share = folder / "nas"
    lab.labloop("nas", "init", str(share), "--gid", "2000")
    yield with_settings(lab, NAS_PATH=str(share))


@contextmanager
def no_marker(lab: DockerLab, folder: Path) -> Iterator[DockerLab]:
    with a_share(lab, folder) as found:
        (folder / "nas" / MARKER).unlink()
        yield found


@contextmanager
def wrong_gid(lab: DockerLab, folder: Path) -> Iterator[DockerLab]:
    with a_share(lab, folder) as found:
        yield with_settings(found, LAB_GID="2345", LAB_UID="2345")


@contextmanager
def full_share(lab: DockerLab, folder: Path) -> Iterator[DockerLab]:
    """A disk of one megabyte; the lab's marker is all that it holds."""
    share = folder / "nas"
    share.mkdir()
    with tmpfs(share):
        (share / MARKER).touch()
        yield with_settings(lab, NAS_PATH=str(share))


@contextmanager
def tmpfs(folder: Path) -> Iterator[None]:
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(folder)]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        pytest.skip(f"no disk can be mounted: {error}")
    if answer.returncode != 0:
        pytest.skip(f"no disk can be mounted: {answer.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@contextmanager
def full_engine(lab: DockerLab, folder: Path) -> Iterator[DockerLab]:
    root = folder / "docker"
    root.mkdir()
    with tmpfs(root), fake_engine(folder, "26.1.5", root) as (host, engine):
        yield with_settings(lab, DOCKER_HOST=host)
        assert engine.changes == []


@contextmanager
def old_engine(lab: DockerLab, folder: Path) -> Iterator[DockerLab]:
    with fake_engine(folder, "20.10.24+dfsg1", folder) as (host, engine):
        yield with_settings(lab, DOCKER_HOST=host)
        assert engine.changes == []


@contextmanager
def busy_port(lab: DockerLab, folder: Path) -> Iterator[DockerLab]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield with_settings(lab, GATEWAY_LABEL_PORT=str(server.getsockname()[1]))


@contextmanager
def no_base(lab: DockerLab, folder: Path) -> Iterator[DockerLab]:
    yield with_settings(lab, BASE_IMAGE=NO_BASE)


@contextmanager
def no_third_party_image(lab: DockerLab, folder: Path) -> Iterator[DockerLab]:
    yield with_settings(lab, POSTGRES_IMAGE=NO_BASE.replace("python", "postgres"))


@contextmanager
def local_home(lab: DockerLab, folder: Path) -> Iterator[DockerLab]:
    lab.home.state("label-studio").mkdir(parents=True)
    yield lab


@contextmanager
def lost_pseudonyms(lab: DockerLab, folder: Path) -> Iterator[DockerLab]:
    """A share with cases, and a home that did not make them."""
    with a_share(lab, folder) as found:
        (folder / "nas" / "dataset" / "Task001_heart" / "cases" / "case-1").mkdir(parents=True)
        yield found


Trouble = Callable[[DockerLab, Path], AbstractContextManager[DockerLab]]
# What is wrong → what was found, what was expected, what to do.
REFUSALS: dict[str, tuple[Trouble, tuple[str, ...]]] = {
    "no marker": (no_marker, (f"no marker file {MARKER}", "not mounted", "labloop nas init")),
    "wrong group": (wrong_gid, ("2345:2345 may not write", "0:2000 2775", "chgrp -R 2345")),
    "full share": (full_share, ("has 0.0 GiB free", "free 1 GiB at least")),
    "full engine": (full_engine, ("0.0 GiB free at", "free 5 GiB at least", "docker system df")),
    "old engine": (
        old_engine,
        ("Docker Engine is 20.10.24", "expected 25.0.5 or newer", "docs/operate.md"),
    ),
    "busy port": (busy_port, ("in use on 127.0.0.1", "(GATEWAY_LABEL_PORT)", "ss -ltnp")),
    "no base image": (
        no_base,
        (NO_BASE, "the base of files-lite, ingest", "Set BASE_IMAGE in .env"),
    ),
    "no image": (no_third_party_image, ("for db", "refused", "Set POSTGRES_IMAGE in .env")),
    "lost pseudonyms": (
        lost_pseudonyms,
        ("pseudonym-key is missing", "the NAS holds cases made with it", "Copy it from a backup"),
    ),
    "local home": (local_home, ("a home of the local runner", "labloop up --local", "--home")),
}


@pytest.mark.parametrize(("trouble", "words"), REFUSALS.values(), ids=REFUSALS)
def test_what_cannot_run_is_refused_before_anything_is_made(
    lab: DockerLab, folder: Path, trouble: Trouble, words: tuple[str, ...]
) -> None:
    with trouble(lab, folder) as troubled:
        said = plain(troubled.up(expect=3))
        assert not [one for one in words if one not in said], said
        assert "Traceback" not in said
        nothing_was_made(troubled)


def plain(said: str) -> str:
    """Without the line breaks that make it fit a terminal."""
    return " ".join(said.split())


def test_all_that_is_wrong_is_said_at_once(lab: DockerLab, folder: Path) -> None:
    with busy_port(lab, folder) as busy, no_marker(busy, folder) as both:
        said = plain(both.up(expect=3))
        assert "GATEWAY_LABEL_PORT" in said and "no marker file" in said
        nothing_was_made(both)


def test_an_engine_that_does_not_answer_is_a_failure(lab: DockerLab, folder: Path) -> None:
    away = with_settings(lab, DOCKER_HOST=f"unix://{folder}/nobody.sock")
    said = plain(away.up(expect=1))
    assert "no Docker engine answers" in said and "Is Docker running" in said
    assert "Traceback" not in said
    nothing_was_made(away)


MISTAKES = {
    "no number": ({"GATEWAY_PORT": "https"}, "GATEWAY_PORT is 'https'"),
    "one port twice": ({"GATEWAY_PORT": "20001", "GATEWAY_LABEL_PORT": "20001"}, "are both 20001"),
    "two shares": ({"NAS_PATH": "/srv", "NAS_NFS": "a:/b"}, "expected one place for the NAS"),
    "a name": ({"LAB_HOST": "lab_1/x"}, "expected a host name or an IP address"),
    "half a certificate": ({"TLS_CERTIFICATE": "/etc/hostname"}, "both or not at all"),
    "profile": ({"COMPOSE_PROFILES": "nextcloud"}, "COMPOSE_PROFILES"),
}


@pytest.mark.parametrize(("more", "words"), MISTAKES.values(), ids=MISTAKES)
def test_a_setting_that_cannot_be_is_wrong_usage(
    lab: DockerLab, more: dict[str, str], words: str
) -> None:
    mistaken = with_settings(lab, **more)
    assert words in plain(mistaken.up(expect=2))
    nothing_was_made(mistaken)


def test_a_setting_that_nobody_knows_is_wrong_usage(lab: DockerLab) -> None:
    lab.env_file.write_text("GATEWAY_PROT=1\n")
    said = plain(lab.up(expect=2))
    assert "GATEWAY_PROT" in said and "GATEWAY_PORT" in said, "with a guess of what was meant"
    lab.env_file.unlink()
    nothing_was_made(lab)


# --- what the doctor says of the same ------------------------------------------------------------


@pytest.mark.parametrize("name", ["no marker", "full engine", "old engine", "busy port"])
def test_the_doctor_finds_it_too_and_says_what_to_do(
    lab: DockerLab, folder: Path, name: str
) -> None:
    trouble, words = REFUSALS[name]
    with trouble(lab, folder) as troubled:
        said = troubled.labloop("doctor", "--env-file", str(lab.env_file), expect=1)
        failed = [line for line in said.splitlines() if line.startswith("fail")]
        assert len(failed) == 1
        assert not [one for one in words if one not in plain(said)], said
        nothing_was_made(troubled)


def test_the_doctor_says_what_will_be_built_and_that_there_is_no_gpu(lab: DockerLab) -> None:
    said = plain(with_settings(lab, BASE_IMAGE=NO_BASE).labloop("doctor"))
    assert "to be built: " in said and "ingest" in said
    assert "Docker knows no NVIDIA runtime, and this machine no NVIDIA driver" in said


def test_the_doctor_says_that_no_engine_answers(lab: DockerLab, folder: Path) -> None:
    away = with_settings(lab, DOCKER_HOST=f"unix://{folder}/nobody.sock")
    said = plain(away.labloop("doctor", expect=1))
    assert "fail engine no Docker engine answers" in said


# --- a runtime for GPUs that does not work -------------------------------------------------------

DAEMON_SETTINGS = Path("/etc/docker/daemon.json")
BROKEN = """#!/bin/sh
echo "nvidia-container-cli: initialization error: nvml error: driver not loaded" >&2
exit 1
"""


@contextmanager
def a_broken_runtime(folder: Path) -> Iterator[None]:
    """The engine knows a runtime `nvidia`, for as short as can be; told without a restart."""
    our_engine()  # somebody else's settings are not ours to change
    program = folder / "nvidia-container-runtime"
    program.write_text(BROKEN)
    program.chmod(0o755)
    before = DAEMON_SETTINGS.read_text() if DAEMON_SETTINGS.exists() else None
    settings = json.loads(before or "{}")
    known = settings.get("runtimes", {})
    try:
        reload_engine({**settings, "runtimes": {**known, "nvidia": {"path": str(program)}}})
        yield
    finally:
        # An engine that finds no word of runtimes keeps those it has: it is told the former ones.
        try:
            reload_engine({**settings, "runtimes": known})
        finally:
            if before is None:
                DAEMON_SETTINGS.unlink()
            else:
                DAEMON_SETTINGS.write_text(before)


def reload_engine(settings: Mapping[str, Any]) -> None:
    """Let the engine read these settings, and wait until it has."""
    DAEMON_SETTINGS.parent.mkdir(exist_ok=True)
    DAEMON_SETTINGS.write_text(json.dumps(settings))
    os.kill(our_engine(), signal.SIGHUP)
    has_nvidia = "nvidia" in settings["runtimes"]

    def has_read() -> bool:
        found = try_docker("info", "--format", "{{json .Runtimes}}").stdout
        return ('"nvidia"' in found) is has_nvidia

    wait_for("the engine read its settings", has_read, 20.0)


def test_a_gpu_runtime_that_is_broken_is_refused_with_the_engines_words(
    lab: DockerLab, folder: Path
) -> None:
    with no_marker(lab, folder) as unmarked, a_share(lab, folder / "well") as well:
        with a_broken_runtime(folder):
            refused = plain(well.up(expect=3))
            doctor = plain(well.labloop("doctor", expect=1))
            off = plain(with_settings(unmarked, GPU="off").up(expect=3))
        nothing_was_made(well)
    for said in (refused, doctor):
        assert "Docker has an NVIDIA runtime that does not work" in said
        assert 'could not select device driver "nvidia" with capabilities: [[gpu]]' in said
        assert "NVIDIA Container Toolkit" in said and "GPU=off" in said
    assert "no marker file" in off and "NVIDIA" not in off, "GPU=off goes on to the next check"


def test_a_gpu_that_is_asked_for_and_not_there_is_refused(lab: DockerLab, folder: Path) -> None:
    with a_share(lab, folder) as well:
        said = plain(with_settings(well, GPU="on").up(expect=3))
        assert "GPU=on, and no GPU that works: Docker knows no NVIDIA runtime" in said
        nothing_was_made(well)
