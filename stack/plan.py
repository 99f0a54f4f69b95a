"""What to do so that the wanted services run: pure decisions, carried out by a runner.

A plan is a list of steps. Each step names the steps' effects it must wait for, so that a runner
starts everything as early as it may: a slow first start of Label Studio holds up only those who
said that they need it healthy.
"""

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Literal

from stack.compose import Condition, Service

State = Literal[
    "stopped",  # not running, and nobody wants it to
    "waiting",  # for a service it depends on
    "starting",  # running, not yet answering, still young
    "healthy",
    "unhealthy",  # running, but its health check says no
    "restarting",  # ended by itself; starts again after a pause
    "failing",  # keeps ending; tried again now and then
    "stopping",
]
RUNNING: frozenset[State] = frozenset({"starting", "healthy", "unhealthy"})

# A service that dies is started again after 1, 2, 4 … 60 s; a minute of life shortens the pause
# to 1 s again, but forgets no death.
FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 60.0
STABLE_S = 60.0
# So many deaths within so long are not bad luck: say so, and try only once a minute.
FAILING_DEATHS = 5
FAILING_WINDOW_S = 300.0
REMEMBER_S = 3600.0  # deaths are counted for people that long
WRONG_SETTINGS = 2  # exit code of a process that would only say the same again


@dataclass(frozen=True, slots=True)
class Start:
    """Start a service once the services in `after` have got that far."""

    service: str
    after: Mapping[str, Condition]


@dataclass(frozen=True, slots=True)
class Stop:
    """Stop a service once the services in `after`, which need it, are gone."""

    service: str
    after: frozenset[str]


@dataclass(frozen=True, slots=True)
class Deaths:
    """What is remembered of a service that ended by itself, on one clock in seconds."""

    times: tuple[float, ...] = ()  # those of the last REMEMBER_S
    streak: int = 0  # deaths since the service last lived for STABLE_S

    def within(self, window_s: float, now_s: float) -> int:
        """How many there were in the last `window_s`."""
        return sum(1 for time_s in self.times if now_s - time_s < window_s)


@dataclass(frozen=True, slots=True)
class Retry:
    """What to do about a death: wait, then start again."""

    pause_s: float
    failing: bool
    deaths: Deaths


def in_start_order(services: Sequence[Service]) -> list[Service]:
    """The services, dependencies first, otherwise in the order of the file."""
    ordered: list[Service] = []
    left = list(services)
    while left:
        names = {service.name for service in left}
        free = [service for service in left if not service.depends_on.keys() & names]
        ordered += free
        left = [service for service in left if service not in free]
    return ordered


def plan_up(wanted: Sequence[Service], running: Set[str]) -> list[Start]:
    """Steps that bring the stack up, dependencies first. Touches nothing."""
    return [
        Start(service.name, service.depends_on)
        for service in in_start_order(wanted)
        if service.name not in running
    ]


def plan_down(services: Sequence[Service], running: Set[str]) -> list[Stop]:
    """Steps that bring the stack down, dependents first."""
    return [
        Stop(service.name, frozenset(o.name for o in services if service.name in o.depends_on))
        for service in reversed(in_start_order(services))
        if service.name in running
    ]


def may_start(step: Start, states: Mapping[str, State]) -> bool:
    """Whether everything that the step waits for has happened."""

    def holds(name: str, condition: Condition) -> bool:
        if condition == "service_healthy":
            return states[name] == "healthy"
        return states[name] in RUNNING

    return all(holds(name, condition) for name, condition in step.after.items())


def after_death(deaths: Deaths, *, now_s: float, lived_s: float, exit_code: int) -> Retry:
    """When to start a service again that ended by itself.

    Args:
        deaths: what was remembered up to now.
        now_s: the moment of this death.
        lived_s: how long the service had run.
        exit_code: as a shell would report it; negative for a signal.
    """
    streak = 1 if lived_s >= STABLE_S else deaths.streak + 1
    times = (*(time_s for time_s in deaths.times if now_s - time_s < REMEMBER_S), now_s)
    made = Deaths(times, streak)
    often = made.within(FAILING_WINDOW_S, now_s) >= FAILING_DEATHS
    failing = often or exit_code == WRONG_SETTINGS
    pause_s = min(FIRST_PAUSE_S * 2.0 ** (streak - 1), LONGEST_PAUSE_S)
    return Retry(LONGEST_PAUSE_S if failing else pause_s, failing, made)
