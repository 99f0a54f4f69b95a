"""`python -m ml_backend.health`: exits 0 when the service is well, else 1 and says why."""

import http.client
import os
import sys

from ml_backend.settings import BackendSettings
from stack.runtime.heartbeat import Heartbeat
from stack.runtime.settings import SettingsError

STALE_S = 30.0  # the event loop beats every second
TIMEOUT_S = 3.0


def check(settings: BackendSettings) -> str:
    """An empty string when all is well, else one line of reason."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.host, settings.host)
    connection = http.client.HTTPConnection(host, settings.port, timeout=TIMEOUT_S)
    try:
        connection.request("GET", "/health", headers={"Connection": "close"})
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        return f"/health does not answer: {error!r}"
    finally:
        connection.close()
    if status != 200:
        return f"/health answers {status}"
    return Heartbeat(settings.heartbeat_file).check(STALE_S)


def main() -> int:
    try:
        reason = check(BackendSettings.from_env(os.environ))
    except SettingsError as error:
        reason = str(error)
    sys.stdout.write((reason or "healthy") + "\n")
    return 1 if reason else 0


if __name__ == "__main__":
    sys.exit(main())
