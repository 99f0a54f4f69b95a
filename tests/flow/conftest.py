"""One real Label Studio for all flow tests of a session, on a share of its own."""

import itertools
import os
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from imaging.layout import Nas, TaskFolder
from stack.runtime.label_studio import LabelStudio

ROOT = Path(__file__).resolve().parents[2]
PYTHON = ROOT / ".envs" / "label-studio" / "bin" / "python"
START_TIMEOUT_S = 240.0  # the first start of a version makes the template database
_numbers = itertools.count(100)


@dataclass(frozen=True, slots=True)
class RealLabelStudio:
    """A running server; its share lies at `nas`."""

    url: str
    token: str
    token_file: Path
    username: str
    password: str
    nas: Nas
    client: LabelStudio


def free_port() -> int:
    """A port that nothing listens on; the kernel does not give it out again soon."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


class Server:
    """Label Studio as a child process, in a home that survives its restarts."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.nas = Nas(home / "nas")
        self.username = "admin@labloop.local"
        self.process: subprocess.Popen[bytes] | None = None
        self.nas.dataset.mkdir(parents=True)
        self.nas.marker.touch()
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.password, self.token = secrets.token_urlsafe(12), secrets.token_hex(20)
        for name, value in (
            ("password", self.password),
            ("token", self.token),
            ("key", secrets.token_hex()),
        ):
            (home / name).write_text(value)
            (home / name).chmod(0o600)

    @property
    def log(self) -> str:
        return (self.home / "log").read_text(errors="replace")

    def environment(self) -> dict[str, str]:
        return os.environ | {
            "LABEL_STUDIO_BASE_DATA_DIR": str(self.home / "label-studio"),
            "LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT": str(self.nas.root),
            "LABEL_STUDIO_PORT": str(self.port),
            "LABEL_STUDIO_USERNAME": self.username,
            "LABEL_STUDIO_PASSWORD_FILE": str(self.home / "password"),
            "LABEL_STUDIO_TOKEN_FILE": str(self.home / "token"),
            "SECRET_KEY_FILE": str(self.home / "key"),
        }

    def start(self) -> None:
        command = [str(PYTHON), str(ROOT / "services" / "label_studio" / "start.py")]
        with (self.home / "log").open("ab") as log:
            self.process = subprocess.Popen(
                command, env=self.environment(), stdout=log, stderr=subprocess.STDOUT
            )

    def wait_until_up(self) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        with LabelStudio(self.url, self.token) as client:
            while not client.is_up():
                if self.process is None or self.process.poll() is not None:
                    pytest.fail(f"Label Studio ended while starting:\n{self.log[-3000:]}")
                if time.monotonic() > deadline:
                    pytest.fail(f"Label Studio was not up in time:\n{self.log[-3000:]}")
                time.sleep(0.2)

    def kill(self) -> None:
        """SIGKILL, and wait until the workers have noticed: they end by themselves in a second."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()
        deadline = time.monotonic() + 15
        while self.is_listening():
            if time.monotonic() > deadline:
                pytest.fail("workers of a killed Label Studio still listen after 15 s")
            time.sleep(0.1)

    def is_listening(self) -> bool:
        with socket.socket() as caller:
            return caller.connect_ex(("127.0.0.1", self.port)) == 0

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


@pytest.fixture(scope="session")
def label_studio_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The process behind `label_studio`, for tests that read its log or its settings."""
    if not PYTHON.is_file():
        pytest.skip(f"no Label Studio environment at {PYTHON.parents[1]}: run `make setup`")
    server = Server(tmp_path_factory.mktemp("label-studio-home"))
    server.start()
    try:
        server.wait_until_up()
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="session")
def label_studio(label_studio_server: Server) -> Iterator[RealLabelStudio]:
    """A real Label Studio; tests share it and each uses a task folder of its own."""
    server = label_studio_server
    with LabelStudio(server.url, server.token) as client:
        yield RealLabelStudio(
            server.url,
            server.token,
            server.home / "token",
            server.username,
            server.password,
            server.nas,
            client,
        )


@pytest.fixture
def task_folder(label_studio: RealLabelStudio) -> Iterator[TaskFolder]:
    """An empty task folder on Label Studio's share; it leaves with its test.

    The services of a later test visit every task of the share: one whose cases were put there
    without their rawdata would hold them up, as it should.
    """
    task = label_studio.nas.task(f"Task{next(_numbers)}_flow")
    task.rawdata.mkdir(parents=True)
    yield task
    shutil.rmtree(task.root)
