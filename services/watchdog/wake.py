"""Label Studio's webhook, which shortens the loop's wait. A hint: calls are lost and repeated."""

import hmac
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

SECRET_HEADER = "X-Labloop-Secret"
# Label Studio sends whole annotations along; nobody reads them here.
MAX_BODY_BYTES = 64 << 20
CHUNK_BYTES = 1 << 16
MAX_CALLS = 50  # at once; Label Studio has a few threads, and one call is as good as many
# Label Studio waits a second for the answer, while the annotator waits for Label Studio.
CALL_TIMEOUT_S = 5.0


class WebhookServer(ThreadingHTTPServer):
    """Answers 202 to whoever knows the secret, and wakes the loop."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, address: tuple[str, int], secret: str, wake: threading.Event) -> None:
        self.secret, self.wake = secret.encode(), wake
        super().__init__(address, _WebhookHandler)

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    def start(self) -> None:
        threading.Thread(target=self.serve_forever, name="webhook", daemon=True).start()

    def stop(self) -> None:
        self.shutdown()
        self.server_close()

    def verify_request(self, request: object, client_address: object) -> bool:
        return threading.active_count() < MAX_CALLS

    def handle_error(self, request: object, client_address: object) -> None:
        """A caller that went away in the middle of its call is no news."""


class _WebhookHandler(BaseHTTPRequestHandler):
    server: WebhookServer
    timeout = CALL_TIMEOUT_S
    server_version, sys_version = "labloop", ""

    def do_POST(self) -> None:
        given = self.headers.get(SECRET_HEADER, "").encode("latin-1", "replace")
        if not hmac.compare_digest(given, self.server.secret):
            self._answer(401)
            return
        length = self.headers.get("Content-Length", "0")
        if not length.isdecimal() or int(length) > MAX_BODY_BYTES:
            self._answer(413)
            return
        self.server.wake.set()
        self._answer(202)
        left = int(length)
        while left > 0:  # unread, the body would turn the answer into a reset connection
            left -= len(self.rfile.read(min(left, CHUNK_BYTES))) or left

    def _answer(self, status: int) -> None:
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()
        self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:
        """The loop logs what it landed; calls are not worth a line."""
