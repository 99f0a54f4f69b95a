"""Health checks against real sockets and files."""

import http.server
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from stack.compose import HealthCheck, HealthKind, Probe
from stack.health import Prober, examine


def ask(kind: HealthKind, target: str) -> str:
    return examine(HealthCheck((Probe(kind, target),)))


ANSWERS = {
    "/well": (200, b"ok"),
    "/json": (503, b'{"status": "DOWN", "reason": "no model yet"}'),
    "/text": (500, b"<h1>Server\nError</h1>"),
}


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        status, body = ANSWERS[self.path]
        self.send_response(status)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *words: object) -> None:
        pass


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_a_service_that_answers_200_is_well(server: str) -> None:
    assert ask("http", f"http://{server}/well") == ""
    assert ask("tcp", server) == ""


def test_the_reason_of_a_service_is_passed_on_in_one_line(server: str) -> None:
    assert ask("http", f"http://{server}/json") == "answered 503: no model yet"
    words = ask("http", f"http://{server}/text")
    assert words == "answered 500: <h1>Server Error</h1>"


def test_a_closed_port_is_named() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{closed.getsockname()[1]}"
        assert ask("tcp", address) == f"nothing listens on {address}"
        assert "nothing listens" in ask("http", f"http://{address}/")


def test_a_service_that_takes_the_call_and_says_nothing_is_not_well(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("stack.health.TIMEOUT_S", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        assert "no answer" in ask("http", url)


def test_a_heartbeat_is_judged_by_age_and_by_what_it_says(tmp_path: Path) -> None:
    file = tmp_path / "heartbeat"
    check = HealthCheck((Probe("heartbeat", str(file)),), stale_s=10.0)
    assert examine(check) == "no heartbeat yet"
    file.write_text("")
    assert examine(check) == ""
    file.write_text("the NAS is not mounted")
    assert examine(check) == "the NAS is not mounted"
    os.utime(file, (time.time() - 60, time.time() - 60))
    assert "no heartbeat for 60 s" in examine(check)


def test_every_probe_must_be_content(server: str, tmp_path: Path) -> None:
    file = tmp_path / "heartbeat"
    file.write_text("the NAS is not mounted")
    both = HealthCheck((Probe("http", f"http://{server}/well"), Probe("heartbeat", str(file))))
    assert examine(both) == "the NAS is not mounted"
    file.write_text("")
    assert examine(both) == ""


def test_an_answer_counts_only_for_the_life_that_gave_it(tmp_path: Path) -> None:
    file = tmp_path / "heartbeat"
    file.write_text("")
    prober = Prober()
    prober.watch({"a": (7, HealthCheck((Probe("heartbeat", str(file)),)))})
    prober.start()
    deadline = time.monotonic() + 5.0
    while prober.answer("a", 7) is None and time.monotonic() < deadline:
        time.sleep(0.01)
    prober.stop()
    assert prober.answer("a", 7) == ""
    assert prober.answer("a", 8) is None
    assert prober.answer("b", 7) is None
