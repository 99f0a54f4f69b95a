"""How long ingest waits for what, in seconds."""

from dataclasses import dataclass
from typing import Self

# A file that cannot be decoded may be one whose copy has stalled: with the usual 5 s of quiet, a
# network may hold its breath for 20 s. A mask copied before its picture may wait a minute, from the
# last file that came to their two folders.
BAD_TIMES = 4.0
ORPHAN_TIMES = 12.0
# A series is hundreds of files, and one cut in two would be two cases for ever. Copies stall for
# seconds between files, not between three looks.
FOLDER_TIMES = 3.0


@dataclass(frozen=True, slots=True)
class Tempo:
    """One set of waits; the same for all tasks."""

    quiet_s: float  # a file that looked the same for this long is whole
    bad_wait_s: float  # … and this long, if it cannot be decoded
    orphan_wait_s: float  # a mask waits this long for its picture once nothing more comes
    folder_wait_s: float  # DICOM is looked at once no file has come to its folder for this long
    retry_s: float  # after an I/O error
    full_scan_s: float  # between looks at every file

    @classmethod
    def steady(cls, quiet_s: float, full_scan_s: float) -> Self:
        """For a service that has all the time in the world."""
        return cls(
            quiet_s=quiet_s,
            bad_wait_s=BAD_TIMES * quiet_s,
            orphan_wait_s=ORPHAN_TIMES * quiet_s,
            folder_wait_s=FOLDER_TIMES * quiet_s,
            retry_s=2 * quiet_s,
            full_scan_s=full_scan_s,
        )

    @classmethod
    def once(cls, quiet_s: float, full_scan_s: float) -> Self:
        """For `--once`: what has not become whole in one quiet time is judged as it is."""
        return cls(quiet_s, quiet_s, quiet_s, quiet_s, quiet_s, full_scan_s)
