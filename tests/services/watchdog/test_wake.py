import socket
import threading
from collections.abc import Iterator

import httpx
import pytest

from services.watchdog.wake import MAX_BODY_BYTES, SECRET_HEADER, WebhookServer

SECRET = "a secret of this test"


@pytest.fixture(scope="module")
def running() -> Iterator[WebhookServer]:
    server = WebhookServer(("127.0.0.1", 0), SECRET, threading.Event())
    server.start()
    yield server
    server.stop()


@pytest.fixture
def server(running: WebhookServer) -> WebhookServer:
    running.wake.clear()
    return running


def post(server: WebhookServer, body: bytes = b"{}", secret: str = SECRET) -> int:
    url = f"http://127.0.0.1:{server.port}/"
    answer = httpx.post(url, content=body, headers={SECRET_HEADER: secret}, trust_env=False)
    return answer.status_code


def test_a_call_with_the_secret_wakes_the_loop(server: WebhookServer) -> None:
    assert post(server) == 202
    assert server.wake.wait(5)


@pytest.mark.parametrize("secret", ["", "wrong", SECRET + "x"])
def test_a_call_without_the_secret_does_nothing(server: WebhookServer, secret: str) -> None:
    assert post(server, secret=secret) == 401
    assert not server.wake.is_set()


def test_large_bodies_are_taken_and_thrown_away(server: WebhookServer) -> None:
    assert post(server, body=b"x" * (8 << 20)) == 202


@pytest.mark.parametrize("length", [str(MAX_BODY_BYTES + 1), "-1", "many"])
def test_absurd_bodies_are_refused_unread(server: WebhookServer, length: str) -> None:
    head = f"POST / HTTP/1.1\r\n{SECRET_HEADER}: {SECRET}\r\nContent-Length: {length}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as connection:
        connection.sendall(head.encode())
        assert b" 413 " in connection.recv(200)
    assert not server.wake.is_set()


def test_other_methods_are_not_served(server: WebhookServer) -> None:
    assert httpx.get(f"http://127.0.0.1:{server.port}/", trust_env=False).status_code == 501


def test_the_answer_does_not_wait_for_a_slow_caller(server: WebhookServer) -> None:
    head = f"POST / HTTP/1.1\r\n{SECRET_HEADER}: {SECRET}\r\nContent-Length: 1000\r\n\r\n"
    with socket.create_connection(("127.0.0.1", server.port), timeout=2) as connection:
        connection.sendall(head.encode())
        assert b" 202 " in connection.recv(200)
        assert post(server) == 202
