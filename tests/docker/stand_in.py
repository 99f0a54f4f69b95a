"""Stands in for the applications behind the gateway: says what reached it. Runs in the base image.

Port 8080 is Label Studio (it knows one session and one token), 6006 TensorBoard, 80 the files.
"""

import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

SESSION = "labloop-0123456789ab=good"
TOKEN = "Token good"
PORTS = (8080, 6006, 80)
BLOCK = 1 << 20
OWN = (("Strict-Transport-Security", "max-age=9"), ("Referrer-Policy", "same-origin"))


class StandIn(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "StandIn"

    def do_GET(self) -> None:
        path, port = self.path.partition("?")[0], self.server.server_address[1]
        if port == 8080 and path == "/api/current-user/whoami":
            known = SESSION in self.headers.get("Cookie", "")
            known |= self.headers.get("Authorization") == TOKEN
            if "text/html" in self.headers.get("Accept", ""):
                self.answer(406, {})  # there is no page of it, as in Label Studio
            else:
                self.answer(200 if known else 401, {})
        elif port == 8080 and path == "/user/login/":
            self.answer(200, {}, ("Set-Cookie", f"{SESSION}; Path=/; Secure; HttpOnly"))
        elif path == "/status.php":
            self.answer(503, {})
        else:
            self.answer(200, self.seen())

    def seen(self) -> dict[str, object]:
        """The request as it came; the body as its length and hash, because it may be long."""
        digest, left = hashlib.sha256(), int(self.headers.get("Content-Length", 0))
        size = left
        while left:
            block = self.rfile.read(min(left, BLOCK))
            digest.update(block)
            left -= len(block)
        headers = {key.lower(): value for key, value in self.headers.items()}
        return {
            "port": self.server.server_address[1],
            "method": self.command,
            "path": self.path,
            "headers": headers,
            "size": size,
            "sha256": digest.hexdigest(),
        }

    do_POST = do_PUT = do_GET

    def answer(self, code: int, content: object, *headers: tuple[str, str]) -> None:
        body = json.dumps(content).encode()
        self.send_response(code)
        common = (("Content-Length", str(len(body))), ("Content-Type", "application/json"))
        for key, value in (*common, *headers, *OWN):
            self.send_header(key, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


if __name__ == "__main__":
    servers = [ThreadingHTTPServer(("", port), StandIn) for port in PORTS]
    for server in servers[1:]:
        threading.Thread(target=server.serve_forever, daemon=True).start()
    servers[0].serve_forever()
