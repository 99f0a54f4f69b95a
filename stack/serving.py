"""Asks the running ml-backend of a home which model version it serves."""

import base64
import http.client
import json
import time

from stack.credentials import ML_BACKEND_TOKEN
from stack.home import Home
from stack.state import read_state

SERVICE = "ml-backend"
LOOK_EVERY_S = 0.1


def served_version(home: Home, task: str) -> str | None:
    """The version that answers this task's predictions now; None when there is no answer."""
    status = read_state(home)
    if status is None or not status.is_supervised:
        return None
    port = next((one.port for one in status.services if one.name == SERVICE), None)
    if port is None:
        return None
    token = home.secret(ML_BACKEND_TOKEN).read_text(encoding="utf-8").strip()
    credentials = base64.b64encode(f"labloop:{token}".encode()).decode()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2.0)
    try:
        headers = {"Authorization": f"Basic {credentials}", "Content-Type": "application/json"}
        connection.request("POST", f"/{task}/setup", body="{}", headers=headers)
        answer = json.loads(connection.getresponse().read())
    except (OSError, http.client.HTTPException, ValueError):
        return None
    finally:
        connection.close()
    version = answer.get("model_version") if isinstance(answer, dict) else None
    return version if isinstance(version, str) else None


def wait_until_served(home: Home, task: str, version: str, timeout_s: float) -> float | None:
    """Seconds until the back end named this version; None when it does not run, or never did."""
    begun = time.monotonic()
    while True:
        served = served_version(home, task)
        waited_s = time.monotonic() - begun
        if served == version:
            return waited_s
        if served is None or waited_s > timeout_s:
            return None
        time.sleep(LOOK_EVERY_S)
