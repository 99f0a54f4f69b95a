"""Keeps one claimed run alive: a child process per attempt, the lease's heartbeat meanwhile.

The child may be killed by the system for its memory, or crash in a library: that costs an
attempt, and the next one goes on from the checkpoint. This process survives and tells.
"""

import logging
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Literal

from imaging.layout import RunFolder
from imaging.runs import OVER, load_state, save_state
from services.trainer.claims import Lease
from services.trainer.errors import LeaseLostError
from services.trainer.exits import CRASHED, DONE, GIVEN_BACK, HOPELESS, PAUSED
from services.trainer.settings import TrainerSettings

log = logging.getLogger("services.trainer")

Outcome = Literal["over", "given back", "paused", "lost"]
STOP_S = 20.0  # a child that was asked to stop writes its checkpoint and goes
CHECK_EVERY_S = 0.5


def supervise(
    lease: Lease, settings: TrainerSettings, stop: threading.Event, beat: Callable[[], None]
) -> Outcome:
    """Work on a run until it is over, or nothing more can be done about it now.

    Args:
        lease: ours.
        settings: how often to try, and the rest.
        stop: set when the trainer shall end.
        beat: says that this process is alive.

    Raises:
        OSError: the run's state cannot be written.
    """
    run = lease.run
    while True:
        state = load_state(run)
        if state.state in OVER:
            return "over"
        if state.attempts >= settings.max_attempts:
            reason = f"failed {state.attempts} times. The last time: {state.message}"
            log.error("run %s: %s", run.run_id, reason)
            save_state(run, replace(state, state="failed", message=reason))
            return "over"
        if stop.is_set():
            return "given back"
        save_state(run, replace(state, state="claimed", attempts=state.attempts + 1, message=""))
        try:
            code = _one_attempt(lease, settings, stop, beat)
        except LeaseLostError as error:
            log.warning("%s", error)
            return "lost"
        if code in (GIVEN_BACK, PAUSED) or stop.is_set():
            _uncount(run)
            return "paused" if code == PAUSED else "given back"
        if code not in (DONE, HOPELESS):
            _note_crash(run, code)
            beat()
            stop.wait(settings.poll_s)  # a share that hiccups gets a moment


def _one_attempt(
    lease: Lease, settings: TrainerSettings, stop: threading.Event, beat: Callable[[], None]
) -> int:
    """The exit code of a child that works on the run; negative when a signal ended it.

    Raises:
        LeaseLostError: somebody took the run over; the child is gone.
    """
    # Our end of its standard input closes when we die, however we die; it then ends too.
    child = subprocess.Popen(child_command(lease), stdin=subprocess.PIPE)
    beat_every_s = settings.lease_stale_s / 4
    next_beat, asked_at = 0.0, None
    try:
        while child.poll() is None:
            now = time.monotonic()
            if now >= next_beat:
                _beat(lease)
                next_beat = now + beat_every_s
            beat()
            if stop.is_set() and asked_at is None:
                child.terminate()
                asked_at = now
            if asked_at is not None and now - asked_at > STOP_S:
                child.kill()
            try:
                child.wait(CHECK_EVERY_S)
            except subprocess.TimeoutExpired:
                continue
        return child.returncode
    finally:
        if child.poll() is None:
            child.kill()
            child.wait()
        if child.stdin is not None:
            child.stdin.close()


def child_command(lease: Lease) -> list[str]:
    """How an attempt at a run is started."""
    run = lease.run
    module = [sys.executable, "-m", "services.trainer.work"]
    return [*module, run.task, run.run_id, str(lease.number)]


def _beat(lease: Lease) -> None:
    try:
        lease.beat()
    except OSError as error:
        # The share is away for a moment, or for good: the child finds out and ends.
        log.warning("run %s: no heartbeat: %s", lease.run.run_id, error)


def _uncount(run: RunFolder) -> None:
    """An attempt that was interrupted from outside is no failure."""
    try:
        state = load_state(run)
        if state.state not in OVER:
            message = "waiting to go on"
            attempts = max(0, state.attempts - 1)
            save_state(run, replace(state, state="claimed", attempts=attempts, message=message))
    except OSError as error:
        log.warning("run %s: its state was not written: %s", run.run_id, error)


def _note_crash(run: RunFolder, code: int) -> None:
    state = load_state(run)
    if code == CRASHED and state.message:
        reason = state.message  # the attempt itself wrote what was wrong
    elif code == -signal.SIGKILL:
        reason = "the training was killed; if nobody did, the machine ran out of memory"
    elif code < 0:
        reason = f"the training was ended by {signal.Signals(-code).name}"
    else:
        reason = "the training crashed; the trainer's log tells where"
    log.warning("run %s: attempt %d: %s", run.run_id, state.attempts, reason)
    if state.state not in OVER:
        save_state(run, replace(state, message=reason))
