"""Whether to ask for a training now, and if not, what for it waits. Pure: no clock, no disk."""

from dataclasses import dataclass
from datetime import datetime, time

from imaging.task import RetrainPolicy


@dataclass(frozen=True, slots=True)
class Standing:
    """What the NAS says about a task's labels and runs."""

    new: int  # cases whose answers the newest requested snapshot does not have
    landed_at: datetime | None  # when a label landed last
    requested_at: datetime | None  # when a run was requested last
    open_run: str  # the run that is not over, as a sentence; empty for none


@dataclass(frozen=True, slots=True)
class Decision:
    """Ask, or wait; the sentence says why."""

    ask: bool
    message: str
    again_in_s: float | None = None  # when waiting will be over, if it is known to the second


def decide(standing: Standing, policy: RetrainPolicy, now: datetime) -> Decision:
    """Ask for a run when there are enough new labels and nothing speaks against it.

    Args:
        standing: labels and runs there are.
        policy: what task.yaml allows.
        now: the present in local time, which `policy.hours` is meant in.
    """
    if standing.open_run:
        return Decision(False, standing.open_run)
    if standing.new < policy.min_new_labels:
        return Decision(False, f"{standing.new} of {policy.min_new_labels} new labels")
    if not is_within(policy.hours, now.time()):
        return Decision(False, f"it is outside of the hours {policy.hours}")
    cooling_s = _left(standing.requested_at, policy.cooldown_s, now)
    if cooling_s > 0:
        since_s = policy.cooldown_s - cooling_s
        text = f"{since_s:.0f} of {policy.cooldown_s:.0f} s since the last request"
        return Decision(False, text, cooling_s)
    restless_s = _left(standing.landed_at, policy.quiet_s, now)
    if restless_s > 0:
        since_s = policy.quiet_s - restless_s
        return Decision(False, f"quiet for {since_s:.0f} of {policy.quiet_s:.0f} s", restless_s)
    return Decision(True, f"{standing.new} new labels")


def is_within(hours: str, now: time) -> bool:
    """Whether a time lies in `HH:MM-HH:MM`, which may span midnight; equal ends mean all day."""
    start, end = hours.split("-")
    clock = f"{now:%H:%M}"
    if start < end:
        return start <= clock < end
    return start == end or clock >= start or clock < end


def _left(since: datetime | None, wait_s: float, now: datetime) -> float:
    """Seconds of a wait that are left.

    A moment in the future comes from a clock that was wrong, and is not waited for.
    """
    if since is None:
        return 0.0
    past_s = (now - since).total_seconds()
    return wait_s - past_s if 0 <= past_s < wait_s else 0.0
