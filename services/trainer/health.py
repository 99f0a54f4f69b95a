"""`python -m services.trainer.health`: exits 0 or 1 and says why in one line."""

import os
import sys

from services.trainer.settings import heartbeat_file
from stack.runtime.heartbeat import Heartbeat

# The trainer beats every second while a training runs and once per poll while none does.
STALE_S = 60.0


def main() -> int:
    problem = Heartbeat(heartbeat_file(os.environ)).check(STALE_S)
    sys.stdout.write((problem or "healthy") + "\n")
    return 1 if problem else 0


if __name__ == "__main__":
    sys.exit(main())
