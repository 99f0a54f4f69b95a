"""`python -m services.label_studio.health`: exits 0 or 1 and says why in one line."""

import json
import os
import sys
import urllib.error
import urllib.request

from services.label_studio.settings import listening_url

TIMEOUT_S = 5.0


def reason(url: str) -> str:
    """An empty string when Label Studio answers, else one line of reason."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"{url}/health", timeout=TIMEOUT_S) as answer:
            status = json.loads(answer.read()).get("status")
    except (OSError, ValueError, AttributeError) as error:
        return f"{url}/health does not answer: {error}"
    return "" if status == "UP" else f"{url}/health says {status!r}, expected 'UP'"


def main() -> int:
    problem = reason(listening_url(os.environ))
    sys.stdout.write((problem or "healthy") + "\n")
    return 1 if problem else 0


if __name__ == "__main__":
    sys.exit(main())
