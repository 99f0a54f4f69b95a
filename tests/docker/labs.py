"""A lab's stack in Docker, brought up with the command line as its admin does."""

import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from stack.credentials import ADMIN_PASSWORD, LABEL_STUDIO_TOKEN
from stack.demo.dataset import DemoSet
from stack.demo.narrator import Narrator
from stack.demo.story import Story
from stack.environments import ROOT
from stack.home import Home
from stack.runtime.label_studio import LabelStudio
from tests.docker.bases import CACHE, CADDY, POSTGRES, PYTHON, REDIS, RESTIC, ensure_base
from tests.docker.engine import docker, try_docker
from tests.docker.images import build_words, certificates

UP_LIMIT_S = 900.0
ADMIN = "admin@labloop.local"
PORTS = ("HTTP_PORT", "PORT", "LABEL_PORT", "FILES_PORT", "BOARD_PORT")
# A replaced guess goes after two seconds in place of the hour that open editors are given.
HURRY = {
    "ML_BACKEND_KEEP_OLD_S": "2",
    "ML_BACKEND_PUSH_EVERY_S": "1",
    "INGEST_QUIET_S": "1",
    "POLL_S": "1",
    "TRAINER_THREADS": "1",
}


@dataclass(frozen=True, slots=True)
class DockerLab:
    """One stack, in a home of its own."""

    home: Home
    env_file: Path
    settings: Mapping[str, str]
    environment: Mapping[str, str] = field(default_factory=dict)  # of the person who calls

    @property
    def name(self) -> str:
        return self.settings["STACK_NAME"]

    def url(self, app: str = "") -> str:
        """Of `LABEL`, `FILES`, `BOARD`, or the portal."""
        port = self.settings[f"GATEWAY_{app}_PORT" if app else "GATEWAY_PORT"]
        return f"https://127.0.0.1:{port}"

    def labloop(
        self, *words: str, expect: int = 0, limit_s: float = UP_LIMIT_S, stdin: str | None = None
    ) -> str:
        """Run the command; what it wrote. The test fails when it ends with another code."""
        command = [sys.executable, "-m", "stack.cli", "--home", str(self.home.root), *words]
        answer = subprocess.run(
            command,
            cwd=ROOT,
            env={**clean_environment(), **self.environment},
            input=stdin or "",
            capture_output=True,
            text=True,
            check=False,
            timeout=limit_s,
        )
        said = answer.stdout + answer.stderr
        if answer.returncode != expect:
            pytest.fail(f"labloop {' '.join(words)}: {answer.returncode}, not {expect}:\n{said}")
        return said

    def up(self, *words: str, expect: int = 0) -> str:
        return self.labloop("up", "--env-file", str(self.env_file), *words, expect=expect)

    def container(self, service: str) -> str:
        return f"{self.name}-{service}-1"

    def containers(self) -> dict[str, str]:
        """Service → id of its container, running or not."""
        words = ("--filter", f"label=com.docker.compose.project={self.name}", "--no-trunc")
        shape = '{{.Label "com.docker.compose.service"}} {{.ID}}'
        lines = docker("ps", "--all", *words, "--format", shape).splitlines()
        return dict(line.split() for line in lines)

    def inspect(self, service: str) -> dict[str, Any]:
        return dict(json.loads(docker("inspect", self.container(service)))[0])

    def kill(self, service: str) -> None:
        """As an admin, or a test, would: the engine does not start it again by itself."""
        try_docker("kill", "--signal", "KILL", self.container(service))

    @property
    def authority(self) -> Path:
        """The certificate of the lab's authority, fetched as everybody does."""
        path = self.home.root / "ca.crt"
        port = self.settings["GATEWAY_HTTP_PORT"]
        answer = httpx.get(f"http://127.0.0.1:{port}/ca.crt", trust_env=False)
        path.write_bytes(answer.raise_for_status().content)
        return path

    def client(self) -> LabelStudio:
        """Label Studio's API through the gateway's TLS, with the services' token."""
        token = self.home.secret(LABEL_STUDIO_TOKEN).read_text().strip()
        return LabelStudio(self.url("LABEL"), token, timeout_s=60.0, authority=self.authority)

    def browser(self) -> httpx.Client:
        """Somebody who trusts the lab's authority and is not logged in."""
        import ssl

        context = ssl.create_default_context(cafile=str(self.authority))
        return httpx.Client(verify=context, trust_env=False, timeout=30.0)

    def ask(self, app: str, path: str, method: str = "GET", **more: Any) -> httpx.Response:
        """One question to an application, by somebody nobody knows."""
        with self.browser() as browser:
            return browser.request(method, self.url(app) + path, **more)

    def log_in(self, browser: httpx.Client, mail: str = ADMIN, password: str = "") -> None:
        """Log in to Label Studio as a page does."""
        page = f"{self.url('LABEL')}/user/login/"
        browser.get(page).raise_for_status()
        password = password or self.home.secret(ADMIN_PASSWORD).read_text().strip()
        form = {
            "email": mail,
            "password": password,
            "csrfmiddlewaretoken": browser.cookies["csrftoken"],
        }
        answer = browser.post(page, data=form, headers={"Referer": page})
        assert answer.status_code == 302, answer.text[:500]

    def story(self, demo: DemoSet, client: LabelStudio) -> Story:
        return Story(self.home, demo, client, Narrator(print))

    def secret_values(self) -> list[str]:
        files = [path for path in self.home.secrets.iterdir() if path.is_file()]
        return [path.read_text().strip() for path in files]

    def remove(self) -> None:
        """Everything of it in the engine; the home is the test's folder."""
        label = f"label=com.docker.compose.project={self.name}"
        ids = docker("ps", "--all", "--quiet", "--filter", label).split()
        if ids:
            try_docker("rm", "--force", "--volumes", *ids)
        for kind in ("network", "volume"):
            wanted = label if kind == "network" else f"label=org.labloop.stack={self.name}"
            names = docker(kind, "ls", "--quiet", "--filter", wanted).split()
            if names:
                try_docker(kind, "rm", *names)


def clean_environment() -> dict[str, str]:
    """This process's, without a setting that a person may have in their shell."""
    wanted = ("PATH", "HOME", "LANG", "TMPDIR", "PYTHONPATH", "PIP_CERT", "SSL_CERT_FILE")
    given = {name: value for name, value in os.environ.items() if name in wanted}
    return given | {name: value for name, value in os.environ.items() if "proxy" in name.lower()}


@contextmanager
def a_lab(root: Path, profile: str = "files-lite", **more: str) -> Iterator[DockerLab]:
    """A lab that is not up yet; nothing of it is left afterwards."""
    root.mkdir(parents=True, exist_ok=True)
    settings = lab_settings(profile) | more
    env_file = root / "lab.env"
    env_file.write_text("".join(f"{key}={value}\n" for key, value in settings.items() if value))
    lab = DockerLab(Home(root / "home"), env_file, settings)
    try:
        yield lab
    finally:
        lab.remove()
        shutil.rmtree(lab.home.root, ignore_errors=True)


def lab_settings(profile: str) -> dict[str, str]:
    """What a lab without a registry sets: bases, this machine's ways to packages, free ports."""
    python = ensure_base(PYTHON)
    build_words()  # writes the files that are named below
    ports = {f"GATEWAY_{name}": str(port) for name, port in zip(PORTS, free_ports(), strict=True)}
    return {
        "STACK_NAME": f"t-{secrets.token_hex(3)}",
        "COMPOSE_PROFILES": profile,
        "LAB_HOST": "127.0.0.1",
        "GATEWAY_BIND": "127.0.0.1",
        **ports,
        "BASE_IMAGE": python,
        "DEEPO_IMAGE": python,
        "GATEWAY_IMAGE": ensure_base(CADDY),
        "POSTGRES_IMAGE": ensure_base(POSTGRES),
        "REDIS_IMAGE": ensure_base(REDIS),
        "RESTIC_IMAGE": ensure_base(RESTIC),
        "PIP_CONFIG": str(CACHE / "pip.conf"),
        "WHEELS": str(CACHE / "wheels"),
        "CA_BUNDLE": certificates() or "",
        "BUILD_NETWORK": "host",
        **HURRY,
    }


def free_ports() -> list[int]:
    """Five ports that nobody listens on, below those that the kernel gives to clients."""
    ports: list[int] = []
    while len(ports) < len(PORTS):
        port = 20000 + secrets.randbelow(12000)
        with socket.socket() as probe:
            if port not in ports and probe.connect_ex(("127.0.0.1", port)) != 0:
                ports.append(port)
    return ports


@contextmanager
def lab_umask() -> Iterator[None]:
    """What this test puts on the share is the lab's group's too, as with any of its people."""
    before = os.umask(0o002)
    try:
        yield
    finally:
        os.umask(before)


def wait_for_answer(url: str, client: httpx.Client, code: int, limit_s: float = 60.0) -> None:
    deadline = time.monotonic() + limit_s
    found: object = None
    while time.monotonic() < deadline:
        try:
            found = client.get(url).status_code
        except httpx.TransportError as error:
            found = error
        if found == code:
            return
        time.sleep(0.5)
    pytest.fail(f"{url}: {found}, expected {code} within {limit_s:.0f} s")
