"""A lab's day: up, up again, looking, people, down, up."""

import os
import signal
import ssl
import subprocess
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from stack.engine.settings import GATEWAY_PORTS
from stack.home import Home
from tests.docker.engine import docker, wait_for
from tests.docker.labs import DockerLab, a_lab, free_ports

pytestmark = [pytest.mark.docker, pytest.mark.label_studio]


def test_a_second_up_changes_nothing(stack: DockerLab) -> None:
    before = stack.containers()
    files = {path: path.stat().st_mtime_ns for path in stack.home.run.iterdir() if path.is_file()}
    said = stack.up()
    assert "nothing to do" in said
    assert stack.containers() == before
    kept = {path: path.stat().st_mtime_ns for path in files}
    assert kept == files, "not even a file of the home was written anew"


def test_the_last_screen_says_where_to_go_and_as_whom(stack: DockerLab) -> None:
    said = stack.up()
    for app in ("", "LABEL", "FILES", "BOARD"):
        assert stack.url(app) in said
    assert str(stack.home.secret("admin-password")) in said
    assert "SHA-256" in said and "/ca.crt" in said
    assert "trainings run on the CPU: Docker knows no NVIDIA runtime" in said
    assert not [value for value in stack.secret_values() if value in said]


def test_status_tells_every_service_and_the_machine(stack: DockerLab) -> None:
    said = stack.labloop("status")
    for name in ("gateway", "db", "label-studio", "ml-backend", "ingest", "watchdog", "trainer"):
        assert f"{name} " in said
    assert "unhealthy" not in said
    assert "GPU: trainings run on" in said and "GiB free" in said


def test_a_hung_service_is_told_with_its_reason(stack: DockerLab) -> None:
    container = stack.container("ingest")
    docker("pause", container)
    try:
        said = stack.labloop("status", expect=1)
        assert "docker unpause" in said
    finally:
        docker("unpause", container)
    wait_for("ingest is well", lambda: health(stack, "ingest") == "healthy", 90)


def test_a_killed_service_is_brought_back_by_up(stack: DockerLab) -> None:
    stack.kill("watchdog")
    assert "ended with exit code 137" in stack.labloop("status", expect=1)
    stack.up()
    assert "exit code 137" not in stack.labloop("status")


def test_a_crashed_service_comes_back_by_itself(stack: DockerLab) -> None:
    """Its process ends as after a fault: the restart policy's business, nobody's hand."""
    pid = int(stack.inspect("ml-backend")["State"]["Pid"])
    os.kill(pid, signal.SIGKILL)

    def is_well() -> bool:
        state = stack.inspect("ml-backend")["State"]
        return state["Pid"] not in (0, pid) and state["Health"]["Status"] == "healthy"

    wait_for("it is healthy again", is_well, 90)


def health(stack: DockerLab, service: str) -> str:
    return str(stack.inspect(service)["State"]["Health"]["Status"])


def test_people_get_one_password_for_pages_and_files(stack: DockerLab) -> None:
    said = stack.labloop(
        "users", "add", "alice", "alice@lab.example", "--stdin", stdin="correct-horse-9\n"
    )
    assert "alice was added" in said and "correct-horse-9" not in said
    again = stack.labloop(
        "users", "add", "alice", "alice@lab.example", "--stdin", stdin="another-horse-9\n"
    )
    assert "password is as it was" in again
    assert "alice@lab.example" in stack.labloop("users", "list")
    with stack.browser() as browser:
        stack.log_in(browser, "alice@lab.example", "correct-horse-9")
        assert browser.get(f"{stack.url('LABEL')}/api/current-user/whoami").status_code == 200
        assert browser.get(stack.url("BOARD")).status_code == 200, "the same login opens the board"
    with stack.browser() as browser:
        files = browser.get(
            f"{stack.url('FILES')}/?ls", auth=("alice", "correct-horse-9"), follow_redirects=True
        )
        assert files.status_code == 200, files.text[:300]
    stack.labloop("users", "password", "alice", "--stdin", stdin="battery-staple-3\n")
    with stack.browser() as browser:
        stack.log_in(browser, "alice@lab.example", "battery-staple-3")
    stack.labloop("users", "disable", "alice")
    with stack.browser() as browser, pytest.raises(AssertionError):
        stack.log_in(browser, "alice@lab.example", "battery-staple-3")


def test_logs_are_shown_by_service(stack: DockerLab) -> None:
    assert "watchdog started" in stack.labloop("logs", "watchdog", "-n", "200")
    assert "expected one of" in stack.labloop("logs", "nobody", expect=2)


def test_the_doctor_finds_nothing_wrong(stack: DockerLab) -> None:
    # It was just given other accounts.
    wait_for("files-lite is well", lambda: health(stack, "files-lite") == "healthy", 60)
    said = stack.labloop("doctor", "--env-file", str(stack.env_file))
    assert "containers are healthy" in said and "fail" not in said


def test_an_export_that_cannot_be_mounted_is_refused_with_the_engines_words(
    stack: DockerLab, tmp_path: Path
) -> None:
    """Nothing listens there; a kernel without NFS says so even sooner."""
    given = {**stack.settings, "STACK_NAME": f"{stack.name}-nfs", "NAS_NFS": "127.0.0.1:/export"}
    ports = {name: str(port) for name, port in zip(GATEWAY_PORTS, free_ports(), strict=True)}
    env_file = tmp_path / "nfs.env"
    env_file.write_text("".join(f"{key}={value}\n" for key, value in {**given, **ports}.items()))
    other = replace(stack, home=Home(tmp_path / "home"), env_file=env_file)
    said = " ".join(other.up(expect=3).split())
    assert "127.0.0.1:/export is not usable" in said and "mount" in said and "showmount" in said
    assert not docker("volume", "ls", "--quiet", "--filter", f"name={stack.name}-nfs")
    assert not docker("ps", "--all", "--quiet", "--filter", f"name={stack.name}-nfs")


def test_a_second_box_that_only_trains_has_one_container_and_no_door(
    stack: DockerLab, tmp_path: Path
) -> None:
    """On the same share: trainers meet there and nowhere else."""
    given = {"COMPOSE_PROFILES": "trainer", "NAS_PATH": str(stack.home.nas.root)}
    with a_lab(tmp_path / "second", **given) as second:
        said = second.up()
        assert "https://" not in said and "trainings run on" in said
        assert list(second.containers()) == ["trainer"]
        assert "only trains" in second.labloop("users", "list", expect=2)
        assert second.inspect("trainer")["NetworkSettings"]["Ports"] == {}
        assert not second.home.secrets.exists(), "it needs none, so it makes none"


def test_the_labs_own_certificate_takes_the_place_of_the_authoritys(
    stack: DockerLab, tmp_path: Path
) -> None:
    certificate, key = tmp_path / "lab.crt", tmp_path / "lab.key"
    words = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=the lab"]
    words += ["-addext", "subjectAltName=IP:127.0.0.1", "-out", str(certificate)]
    subprocess.run(["openssl", *words, "-keyout", str(key)], check=True, capture_output=True)
    given = {**stack.settings, "TLS_CERTIFICATE": str(certificate), "TLS_KEY": str(key)}
    other = tmp_path / "own.env"
    other.write_text("".join(f"{name}={value}\n" for name, value in given.items() if value))
    kept = stack.containers()["label-studio"]
    try:
        said = stack.labloop("up", "--env-file", str(other))
        assert f"the lab's own, {certificate}" in said
        assert stack.containers()["label-studio"] == kept, "only the gateway was made anew"
        context = ssl.create_default_context(cafile=str(certificate))
        assert httpx.get(stack.url(), verify=context, trust_env=False).status_code == 200
    finally:
        stack.up()
    with stack.browser() as browser:
        assert browser.get(stack.url()).status_code == 200
