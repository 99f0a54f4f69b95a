"""The back end as a process of its own, and models whose answer tells which one gave it."""

import base64
import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from imaging.layout import Nas
from imaging.model.bundle import write_bundle
from imaging.task import TaskConfig
from tests.flow.conftest import free_port
from tests.imaging.model.models import random_weights, record_of

ROOT = Path(__file__).resolve().parents[2]
TOKEN = "flow-test-token"


def one_label_bundle(nas: Nas, task: str, version: str, config: TaskConfig, index: int) -> Path:
    """A network of the usual kind that calls every pixel the label of this index."""
    weights = {name: torch.zeros_like(one) for name, one in random_weights(config).items()}
    last_bias = [name for name in weights if name.endswith("bias")][-1]
    weights[last_bias][index] = 10.0
    folder = nas.model(task).version(version)
    write_bundle(record_of(folder, config), weights)
    return folder


@dataclass(slots=True)
class BackEnd:
    """`python -m ml_backend` over a share."""

    nas: Nas
    folder: Path  # for secrets, heartbeat and log
    label_studio_url: str = "http://127.0.0.1:9"
    label_studio_token: str = "none"
    settings: dict[str, str] = field(default_factory=dict)
    port: int = field(default_factory=free_port)
    process: "subprocess.Popen[bytes] | None" = None

    @property
    def environment(self) -> dict[str, str]:
        return os.environ | {
            "NAS_ROOT": str(self.nas.root),
            "HEARTBEAT_FILE": str(self.folder / "heartbeat"),
            "LABEL_STUDIO_URL": self.label_studio_url,
            "LABEL_STUDIO_TOKEN_FILE": str(self.folder / "ls-token"),
            "ML_BACKEND_PORT": str(self.port),
            "ML_BACKEND_TOKEN_FILE": str(self.folder / "token"),
        } | self.settings  # fmt: skip

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text(errors="replace")

    def start(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "token").write_text(TOKEN)
        (self.folder / "ls-token").write_text(self.label_studio_token)
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "ml_backend"],
                cwd=ROOT, env=self.environment, stdout=log, stderr=subprocess.STDOUT,
            )  # fmt: skip
        self.wait_for(lambda: self.call("GET", "/health")[0] == 200, "the back end answers")

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal and wait; the exit code."""
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(30)

    def call(self, method: str, path: str, body: object = None) -> tuple[int, Any]:
        """Status and decoded answer."""
        credentials = base64.b64encode(f"x:{TOKEN}".encode()).decode()
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            headers = {"Authorization": f"Basic {credentials}"}
            connection.request(method, path, json.dumps(body), headers)
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())
        finally:
            connection.close()

    def version(self, task: str) -> str:
        return str(self.call("POST", f"/{task}/setup", {})[1]["model_version"])

    def wait_for(self, look: Any, what: str, limit_s: float = 60.0) -> float:
        """Seconds until `look` came true."""
        begun = time.monotonic()
        while time.monotonic() - begun < limit_s:
            try:
                if look():
                    return time.monotonic() - begun
            except OSError:
                pass
            assert self.process is not None and self.process.poll() is None, self.log
            time.sleep(0.05)
        raise AssertionError(f"not within {limit_s:.0f} s: {what}\n{self.log}")


@contextmanager
def running(back_end: BackEnd) -> Iterator[BackEnd]:
    back_end.start()
    try:
        yield back_end
    finally:
        if back_end.process is not None and back_end.process.poll() is None:
            back_end.stop(signal.SIGKILL)
