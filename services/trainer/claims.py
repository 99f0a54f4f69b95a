"""One trainer per run: leases on the NAS, without a lock service.

A claim is a numbered file `.lease.N`, created exclusively: whoever creates the next number has
the run, so of any number of racing trainers one wins. `lease.json` then tells people and other
trainers who it is; its modification time is the heartbeat. A lease is stale when the heartbeat
is old, by the NAS's own clock, or when its owner is known to be dead because it ran on this very
machine. The next claim takes over a stale one.
"""

import json
import logging
import os
import re
import secrets
import socket
from dataclasses import asdict, dataclass
from pathlib import Path

from imaging.errors import RecordError
from imaging.ids import utc_now
from imaging.layout import RunFolder
from imaging.publish import read_json, write_json
from services.trainer.errors import LeaseLostError

log = logging.getLogger(__name__)
CLAIM = re.compile(r"\.lease\.(\d+)")
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True, slots=True)
class Owner:
    """A process, so precisely named that another one on the same machine can tell if it lives."""

    host: str
    boot: str  # empty where the system does not tell
    pid: int
    started: str  # in clock ticks since boot; process numbers are used again
    nonce: str


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to work on a run, until somebody finds its heartbeat too old."""

    run: RunFolder
    number: int

    def beat(self) -> None:
        """Show that the owner is alive.

        Raises:
            LeaseLostError: somebody else has taken over.
            OSError: the share cannot be reached.
        """
        self.check()
        os.utime(self.run.lease)

    def check(self) -> None:
        """Make sure that the run is still ours, before anything is published.

        Raises:
            LeaseLostError: somebody else has taken over.
        """
        if _newest_claim(self.run) != self.number:
            raise LeaseLostError(f"run {self.run.run_id}: another trainer has taken over")

    def release(self) -> None:
        """Let others claim the run at once. A lease that was taken over is left alone."""
        if _newest_claim(self.run) == self.number:
            self.run.lease.unlink(missing_ok=True)
            # The file stays: numbers are never used again, so a slow racer cannot win with one.
            write_json(_claim_file(self.run, self.number), {"released_at": utc_now()})


def this_process() -> Owner:
    """The owner that this process is."""
    pid = os.getpid()
    return Owner(socket.gethostname(), _boot_id(), pid, _started(pid), secrets.token_hex(4))


def claim(run: RunFolder, owner: Owner, stale_s: float) -> Lease | None:
    """The lease of a run; None while another trainer holds it, or when one was faster.

    Args:
        run: a requested run.
        owner: who claims.
        stale_s: age of the heartbeat from which on a lease counts as abandoned.
    """
    number = _newest_claim(run)
    if number and not _is_abandoned(run, number, stale_s):
        return None
    try:
        descriptor = os.open(_claim_file(run, number + 1), os.O_CREAT | os.O_EXCL | os.O_WRONLY)
    except FileExistsError:
        return None
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        json.dump(asdict(owner), stream)
    if number:
        _claim_file(run, number).unlink(missing_ok=True)
    record = {"format": 1, "owner": f"{owner.host}:{owner.pid}", "claimed_at": utc_now()}
    write_json(run.lease, record)
    return Lease(run, number + 1)


def _is_abandoned(run: RunFolder, number: int, stale_s: float) -> bool:
    try:
        record = read_json(_claim_file(run, number))
        if "released_at" in record or _is_dead(Owner(**record)):
            return True
    except (RecordError, TypeError):
        log.debug("run %s: claim %d is being written, or never was", run.run_id, number)
    beats = [_modified(path) for path in (_claim_file(run, number), run.lease)]
    known = [beat for beat in beats if beat is not None]
    return not known or _now_on(run) - max(known) > stale_s


def _is_dead(owner: Owner) -> bool:
    """Whether the owner ran on this machine since its last start, and runs no more."""
    here = owner.boot and owner.boot == _boot_id() and owner.host == socket.gethostname()
    return bool(here) and _started(owner.pid) != owner.started


def _newest_claim(run: RunFolder) -> int:
    """The highest claim there is; 0 when nobody has claimed the run."""
    matches = (CLAIM.fullmatch(entry.name) for entry in os.scandir(run.root))
    return max((int(match[1]) for match in matches if match), default=0)


def _claim_file(run: RunFolder, number: int) -> Path:
    return run.root / f".lease.{number}"


def _modified(path: Path) -> float | None:
    try:
        return path.stat().st_mtime
    except OSError:
        return None


def _now_on(run: RunFolder) -> float:
    """The present by the clock of whoever keeps the share: it stamps the heartbeats too, and the
    clocks of two machines differ."""
    probe = run.root / f".clock.{secrets.token_hex(4)}"
    probe.touch()
    try:
        return probe.stat().st_mtime
    finally:
        probe.unlink(missing_ok=True)


def _boot_id() -> str:
    try:
        return BOOT_ID.read_text(encoding="ascii").strip()
    except OSError:
        return ""


def _started(pid: int) -> str:
    """When a process began; empty when there is none of that number. Field 22 of proc(5)."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except OSError:
        return ""
    return text.rpartition(")")[2].split()[19]
