"""An engine that answers as a test says, on a socket: for what is looked at before a start."""

import json
import re
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any


@dataclass
class FakeEngine:
    """Knows its version and its folder; has no image, and makes nothing."""

    version: str
    root: Path
    changes: list[str] = field(default_factory=list)  # everything asked of it but questions

    def answer(self, path: str) -> Any:
        """What the path's question is answered with; None: there is no such thing."""
        versions = {"Version": self.version, "ApiVersion": "1.41", "MinAPIVersion": "1.12"}
        lists = {"containers": [], "volumes": {"Volumes": []}, "networks": [], "images": []}
        if path == "_ping":
            return "OK"
        if path == "version":
            return versions
        if path == "info":
            info = {"DockerRootDir": str(self.root), "Runtimes": {"runc": {}}}
            return {**info, "ServerVersion": self.version, "OperatingSystem": "Debian"}
        return lists.get(path.partition("/json")[0])


class Answers(BaseHTTPRequestHandler):
    """One conversation; the address of whoever asks on a socket has no parts."""

    engine: FakeEngine
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        path = re.sub(r"^/(v[0-9.]+/)?", "", self.path.partition("?")[0])
        found = self.engine.answer(path)
        content = {"message": f"No such image: {path}"} if found is None else found
        body = json.dumps(content).encode()
        self.send_response(404 if found is None else 200)
        headers = {"Api-Version": "1.41", "Content-Type": "application/json"}
        for key, value in (headers | {"Content-Length": str(len(body))}).items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_HEAD = do_GET

    def do_POST(self) -> None:
        self.engine.changes.append(f"{self.command} {self.path}")
        self.send_error(500)

    do_PUT = do_DELETE = do_POST

    def log_message(self, *_: object) -> None:
        pass

    def address_string(self) -> str:
        return "a socket"


@contextmanager
def fake_engine(folder: Path, version: str, root: Path) -> Iterator[tuple[str, FakeEngine]]:
    """The engine, and what DOCKER_HOST must be to reach it."""
    engine = FakeEngine(version, root)
    handler = type("Handler", (Answers,), {"engine": engine})
    socket = folder / "docker.sock"
    with socketserver.ThreadingUnixStreamServer(str(socket), handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"unix://{socket}", engine
        finally:
            server.shutdown()
            thread.join()
