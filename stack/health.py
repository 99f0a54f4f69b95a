"""Asks services how they are: over HTTP, by a TCP connection, or by their heartbeat file."""

import http.client
import json
import socket
import threading
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from stack.compose import HealthCheck, Probe
from stack.runtime.heartbeat import Heartbeat

TIMEOUT_S = 5.0  # Label Studio takes seconds for anything while it imports thousands of tasks
EVERY_S = 1.0
SOON_S = 0.2  # while a service is not well: a start should not look longer than it is
REASON_LENGTH = 200


def examine(check: HealthCheck) -> str:
    """An empty string when the service is well, else one line of reason."""
    return next(filter(None, (_ask(probe, check.stale_s) for probe in check.probes)), "")


def _ask(probe: Probe, stale_s: float) -> str:
    if probe.kind == "heartbeat":
        return Heartbeat(Path(probe.target)).check(stale_s)
    try:
        return _probe_http(probe.target) if probe.kind == "http" else _probe_tcp(probe.target)
    except ConnectionRefusedError:
        return f"nothing listens on {probe.target}"
    except TimeoutError:
        return f"no answer from {probe.target} within {TIMEOUT_S:.0f} s"
    except (OSError, http.client.HTTPException, ValueError) as error:
        return f"{probe.target}: {error!r}"


def _probe_http(url: str) -> str:
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=TIMEOUT_S)
    try:
        connection.request("GET", parts.path or "/", headers={"Connection": "close"})
        answer = connection.getresponse()
        if answer.status == 200:
            return ""
        return f"answered {answer.status}: {_reason(answer.read(4096))}"
    finally:
        connection.close()


def _reason(body: bytes) -> str:
    """What the service says of itself: the `reason` of its JSON, or the text as it is."""
    text = body.decode("utf-8", "replace").strip()
    try:
        record = json.loads(text)
    except ValueError:
        record = None
    if isinstance(record, dict) and isinstance(record.get("reason"), str):
        text = record["reason"]
    return " ".join(text.split())[:REASON_LENGTH]


def _probe_tcp(address: str) -> str:
    host, _, port = address.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=TIMEOUT_S):
        return ""


class Prober:
    """Asks the watched services in turn, in a thread of its own: a slow answer holds up nobody."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._checks: dict[str, tuple[int, HealthCheck]] = {}
        self._answers: dict[str, tuple[int, str]] = {}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._work, name="prober", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._ended.set()

    def watch(self, checks: Mapping[str, tuple[int, HealthCheck]]) -> None:
        """Ask these from now on: name → (pid, check). The pid tells one life from the next."""
        with self._lock:
            self._checks = dict(checks)

    def answer(self, name: str, pid: int) -> str | None:
        """What this life of a service last answered; None when it was not asked yet."""
        with self._lock:
            asked, reason = self._answers.get(name, (0, ""))
        return reason if asked == pid else None

    def _work(self) -> None:
        pause_s = SOON_S
        while not self._ended.wait(pause_s):
            with self._lock:
                checks = dict(self._checks)
            pause_s = EVERY_S
            for name, (pid, check) in checks.items():
                reason = examine(check)
                with self._lock:
                    self._answers[name] = (pid, reason)
                if reason:
                    pause_s = SOON_S
