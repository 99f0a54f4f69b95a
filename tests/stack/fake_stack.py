"""A compose.yaml of tiny fake services, for tests that start real processes."""

import textwrap
from pathlib import Path

import yaml

# argv[1] says what the service does; every line of it is what a test needs, no more.
SERVICE = """
    import http.server, os, signal, subprocess, sys, time
    from pathlib import Path

    kind = sys.argv[1]
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(0))
    print(f"{kind} says hello", flush=True)
    if kind == "deaf-web":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if kind.endswith("web"):
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_response(200)
                self.end_headers()
            def log_message(self, *words):
                pass
        http.server.HTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
    if kind == "beat":
        while True:
            Path(os.environ["HEARTBEAT_FILE"]).write_text(os.environ.get("TROUBLE", ""))
            time.sleep(0.05)
    if kind == "stubborn":  # ignores SIGTERM, and so does its child in a session of its own
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        subprocess.Popen([sys.executable, __file__, "beat"], start_new_session=True)
        while True:
            time.sleep(1)
    if kind == "crash":
        print("the disk is on fire", flush=True)
        sys.exit(int(sys.argv[2]))
"""


def beat(**local: object) -> dict[str, object]:
    """A service that says by its heartbeat that it is well."""
    return service("beat", **local)


def web(**local: object) -> dict[str, object]:
    """A service that answers over HTTP on its own port."""
    address = "http://${HOST}:${WEB_PORT}/"
    settings = {
        "port": "WEB_PORT",
        "url": address,
        "environment": {"PORT": "${WEB_PORT}"},
        "health": {"http": address},
    }
    return service("web", **settings | local)


def service(*words: str, **local: object) -> dict[str, object]:
    """A service that runs the fake program with these words."""
    settings = {
        "env": "labloop",
        "command": ["python", "service.py", *words],
        "environment": {"HEARTBEAT_FILE": "${STATE_DIR}/heartbeat"},
        "health": {"heartbeat": "${STATE_DIR}/heartbeat"},
    }
    return {"x-local": settings | local}


def write_stack(folder: Path, **services: object) -> Path:
    """The compose file of these services, beside their program."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "service.py").write_text(textwrap.dedent(SERVICE), encoding="utf-8")
    path = folder / "compose.yaml"
    path.write_text(yaml.safe_dump({"services": services}, sort_keys=False), encoding="utf-8")
    return path
