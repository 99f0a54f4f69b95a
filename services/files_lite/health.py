"""`python -m services.files_lite.health`: exits 0 or 1 and says why in one line."""

import os
import sys
import urllib.error
import urllib.request
from pathlib import Path

from imaging.layout import Nas
from services.files_lite.config import PORT
from services.files_lite.settings import nas_root

TIMEOUT_S = 5.0


def reason(root: Path, port: int = PORT) -> str:
    """An empty string when copyparty answers and the share is there, else one line of reason."""
    if not Nas(root).marker.is_file():
        return f"{root} has no marker file, expected the NAS to be mounted there"
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        opener.open(f"http://127.0.0.1:{port}/", timeout=TIMEOUT_S).close()
    except urllib.error.HTTPError as error:
        error.close()
        return (
            "" if error.code in (401, 403) else f"copyparty answers {error.code}, expected a page"
        )
    except OSError as error:
        return f"copyparty does not answer on port {port}: {error}"
    return ""


def main() -> int:
    problem = reason(nas_root(os.environ))
    sys.stdout.write((problem or "healthy") + "\n")
    return 1 if problem else 0


if __name__ == "__main__":
    sys.exit(main())
