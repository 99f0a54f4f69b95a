"""A file that a working loop touches, so that a hung loop is seen as unhealthy.

The file holds one line, the reason, when the loop is paused: alive, but not well.
"""

import os
import time
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """Written by one loop, read by its health check."""

    path: Path

    def beat(self, trouble: str = "") -> None:
        """Say that the loop went round; `trouble` says why it cannot do its work now."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        part = self.path.with_name(f".{self.path.name}.{os.getpid()}.part")
        part.write_text(trouble.replace("\n", " "), encoding="utf-8")
        part.replace(self.path)

    def check(self, stale_s: float) -> str:
        """An empty string when all is well, else one line of reason."""
        try:
            age_s = time.time() - self.path.stat().st_mtime
            trouble = self.path.read_text(encoding="utf-8")
        except OSError:
            return "no heartbeat yet"
        if age_s > stale_s:
            return f"no heartbeat for {age_s:.0f} s, expected one every {stale_s:.0f} s"
        return trouble
