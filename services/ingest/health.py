"""`python -m services.ingest.health`: exits 0 or 1 and says why in one line."""

import os
import sys

from services.ingest.settings import heartbeat_file
from stack.runtime.heartbeat import Heartbeat

# A batch of tasks for Label Studio may take as long as LABEL_STUDIO_TIMEOUT_S.
STALE_S = 120.0


def main() -> int:
    problem = Heartbeat(heartbeat_file(os.environ)).check(STALE_S)
    sys.stdout.write((problem or "healthy") + "\n")
    return 1 if problem else 0


if __name__ == "__main__":
    sys.exit(main())
