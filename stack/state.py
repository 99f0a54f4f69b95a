"""stack.json: what runs in a home, as its supervisor last wrote it and everybody reads it."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, cast, get_args

from imaging.errors import RecordError
from imaging.publish import read_json, write_json
from stack.home import Home
from stack.plan import State
from stack.processes import is_alive


@dataclass(frozen=True, slots=True)
class ServiceStatus:
    """One service, for people and scripts."""

    name: str
    state: State
    pid: int | None = None
    since: str | None = None  # start of its present process, UTC
    port: int | None = None
    url: str | None = None
    login: str | None = None  # who a person logs in as at that URL
    reason: str = ""  # why it is not healthy
    deaths: int = 0  # ends by itself within the last hour
    last_death: str = ""  # how it ended the last time it did
    last_lines: tuple[str, ...] = ()  # of its log, when it died


@dataclass(frozen=True, slots=True)
class StackStatus:
    """The supervisor and its services."""

    pid: int
    started: int  # the supervisor's start time in clock ticks: tells it from a later process
    since: str
    services: tuple[ServiceStatus, ...] = field(default=())

    @property
    def is_supervised(self) -> bool:
        """Whether the supervisor that wrote this still lives."""
        return is_alive(self.pid, self.started)

    @property
    def is_healthy(self) -> bool:
        return all(service.state == "healthy" for service in self.services)


def write_state(home: Home, status: StackStatus) -> None:
    """Replace stack.json in one step."""
    write_json(home.stack_state, {"format": 1} | asdict(status))


def read_state(home: Home) -> StackStatus | None:
    """What the last supervisor of this home wrote; None before the first one.

    A damaged file is as good as none: whether a stack runs, the lock knows.
    """
    try:
        record = read_json(home.stack_state)
        services = tuple(_service(entry) for entry in record["services"])
        return StackStatus(
            int(record["pid"]), int(record["started"]), str(record["since"]), services
        )
    except (RecordError, KeyError, TypeError, ValueError):
        return None


def stopped(services: Sequence[ServiceStatus]) -> tuple[ServiceStatus, ...]:
    """The same services after their supervisor has gone."""
    return tuple(
        ServiceStatus(one.name, "stopped", port=one.port, url=one.url, login=one.login)
        for one in services
    )


def _service(record: dict[str, Any]) -> ServiceStatus:
    if record["state"] not in get_args(State):
        raise ValueError(f"state is {record['state']!r}")
    fields = dict(record) | {"last_lines": tuple(record["last_lines"])}
    return ServiceStatus(**cast(dict[str, Any], fields))
