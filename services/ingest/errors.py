"""The errors of ingest.

IngestError
├── RefusedError      a file goes to rejected/; carries the keyword of the reason
├── HoldError         a task waits for a person; its files stay where they are
├── DiskFullError     the NAS, or the state folder, has no space left
└── SecondIngestError another ingest works with the same state folder
"""

from pathlib import Path


class IngestError(Exception):
    """Root of the tree."""

    hint = ""


class RefusedError(IngestError):
    """A file cannot become a case or a label. The text is for reason.txt, never for logs."""

    hint = "The file lies in rejected/ with a reason.txt."

    def __init__(self, reason: str, found: str, advice: str = "") -> None:
        """Args: the keyword; what was found; what to do, where the keyword alone does not say."""
        super().__init__(found)
        self.reason, self.found, self.advice = reason, found, advice


class HoldError(IngestError):
    """Nothing more is taken into a task until a person has put something right."""

    hint = "Other tasks go on; this one goes on by itself once it is put right."


class DiskFullError(IngestError):
    """No space is left; nothing is half-written, and the same files are tried again later."""

    hint = "Make room on the NAS; ingest goes on by itself."


class SecondIngestError(IngestError):
    """Two processes with one state folder would make every task twice."""

    hint = "Stop the other one first (`labloop status`)."

    def __init__(self, state: Path) -> None:
        super().__init__(f"another ingest works with the state folder {state}")
