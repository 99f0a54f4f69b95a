"""What the local runner needs of compose.yaml: the services with `x-local`, as child processes."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from stack.compose.reader import Condition, Reader
from stack.compose.variables import fill, references

HealthKind = Literal["http", "tcp", "heartbeat"]
HEALTH_KINDS: tuple[HealthKind, ...] = ("http", "tcp", "heartbeat")
SERVICE_NAME = re.compile(r"[a-z][a-z0-9-]{0,30}")


@dataclass(frozen=True, slots=True)
class Probe:
    """One question to a service."""

    kind: HealthKind
    target: str  # URL that answers 200, host:port that accepts, or the heartbeat file


@dataclass(frozen=True, slots=True)
class HealthCheck:
    """How the runner finds out whether a service does its work: every probe must be content."""

    probes: tuple[Probe, ...]
    start_s: float = 60.0  # a service this young may still be getting ready
    stale_s: float = 60.0  # heartbeat only: older than this means that the loop hangs


@dataclass(frozen=True, slots=True)
class LocalService:
    """The `x-local` keys of a service, but for its environment."""

    env: str  # which Python environment: "labloop" or a folder of .envs/
    command: tuple[str, ...]
    health: HealthCheck
    port: str | None = None  # name of the variable that holds its port
    url: str | None = None  # what a person opens in a browser
    login: str | None = None  # who a person logs in as there
    stop_s: float = 10.0  # from SIGTERM to SIGKILL


@dataclass(frozen=True, slots=True)
class Service:
    """One service of the stack, as the local runner starts it."""

    name: str
    # The common environment with what `x-local` says in its place, before anything is filled in,
    # so that an address inside Docker never reaches a process. None: handed through, if set.
    environment: Mapping[str, str | None]
    depends_on: Mapping[str, Condition]
    local: LocalService


def local_services(read: Reader, entries: Mapping[str, Any]) -> tuple[Service, ...]:
    """The services that the local runner can start, as the file says it, nothing filled in yet."""
    services: list[Service] = []
    needs: dict[str, set[str]] = {}
    for name, entry in entries.items():
        where = f"services.{name}"
        if not SERVICE_NAME.fullmatch(name):
            read.problem(where, name, "lower-case letters, digits and '-'")
        section = read.mapping(entry, where)
        depends_on = read.depends_on(section.get("depends_on"), f"{where}.depends_on")
        needs[name] = set(depends_on)
        if "x-local" in section:
            services.append(_service(read, name, section, depends_on))
    check_dependencies(read, needs)
    return tuple(_without_others(service, services) for service in services)


def fill_in(service: Service, variables: Mapping[str, str], where: Path) -> Service:
    """The service with every variable replaced by its value.

    Raises:
        ComposeError: a variable has no value, or a reference cannot be read; all are listed.
    """
    read = Reader(where)

    def filled(text: str) -> str:
        return fill(text, variables, lambda problem: read.problems.append(problem))

    given = {
        key: variables.get(key) if text is None else filled(text)
        for key, text in service.environment.items()
    }
    local = service.local
    probes = tuple(replace(p, target=filled(p.target)) for p in local.health.probes)
    answer = replace(
        service,
        environment={key: text for key, text in given.items() if text is not None},
        local=replace(
            local,
            command=tuple(filled(part) for part in local.command),
            url=None if local.url is None else filled(local.url),
            login=None if local.login is None else filled(local.login),
            health=replace(local.health, probes=probes),
        ),
    )
    read.problems = [f"services.{service.name}: {problem}" for problem in read.problems]
    read.finish()
    return answer


def variables_in(services: Iterable[Service]) -> frozenset[str]:
    """Every variable a person may set for these services."""
    names: set[str] = set()
    for service in services:
        local = service.local
        texts = [*local.command, local.url or "", local.login or ""]
        texts += [probe.target for probe in local.health.probes]
        texts += [text for text in service.environment.values() if text is not None]
        names |= {key for key, text in service.environment.items() if text is None}
        names |= {match["name"] for match in references(texts)}
    return frozenset(names)


def check_dependencies(read: Reader, needs: Mapping[str, set[str]]) -> None:
    """Report what waits for nobody we know, or for itself."""
    for name, others in needs.items():
        for other in sorted(others - needs.keys()):
            expected = f"one of {', '.join(sorted(needs))}"
            read.problem(f"services.{name}.depends_on", other, expected)
    # Take away what depends on nothing that is left; what then remains depends on itself.
    left = dict(needs)
    while free := {name for name, others in left.items() if not others & left.keys()}:
        left = {name: others for name, others in left.items() if name not in free}
    if left:
        read.problems.append(f"depends_on goes in a circle: {', '.join(sorted(left))}")


def _service(
    read: Reader, name: str, section: Mapping[str, Any], depends_on: Mapping[str, Condition]
) -> Service:
    where = f"services.{name}"
    local = read.mapping(section["x-local"], f"{where}.x-local")
    common = read.environment(section.get("environment"), f"{where}.environment")
    own = read.environment(local.get("environment"), f"{where}.x-local.environment")
    return Service(
        name=name,
        environment=common | own,
        depends_on=depends_on,
        local=_local(read, section["x-local"], f"{where}.x-local"),
    )


def _local(read: Reader, value: object, where: str) -> LocalService:
    known = {"env", "command", "port", "url", "login", "health", "environment", "stop_s"}
    section = read.section(value, where, known)
    return LocalService(
        env=read.text(section.get("env"), f"{where}.env"),
        command=read.words(section.get("command"), f"{where}.command"),
        health=_health(read, section.get("health"), f"{where}.health"),
        port=read.text_or_none(section.get("port"), f"{where}.port"),
        url=read.text_or_none(section.get("url"), f"{where}.url"),
        login=read.text_or_none(section.get("login"), f"{where}.login"),
        stop_s=read.seconds(section.get("stop_s"), f"{where}.stop_s", default=10.0),
    )


def _health(read: Reader, value: object, where: str) -> HealthCheck:
    section = read.section(value, where, {*HEALTH_KINDS, "start_s", "stale_s"})
    kinds = [kind for kind in HEALTH_KINDS if kind in section]
    if not kinds:
        read.problem(where, value, f"at least one of {', '.join(HEALTH_KINDS)}")
    return HealthCheck(
        probes=tuple(Probe(kind, read.text(section[kind], f"{where}.{kind}")) for kind in kinds),
        start_s=read.seconds(section.get("start_s"), f"{where}.start_s", default=60.0),
        stale_s=read.seconds(section.get("stale_s"), f"{where}.stale_s", default=60.0),
    )


def _without_others(service: Service, services: list[Service]) -> Service:
    """The service, waiting only for those that the local runner starts and that go on running."""
    names = {other.name for other in services}
    needs = {
        name: condition
        for name, condition in service.depends_on.items()
        if name in names and condition != "service_completed_successfully"
    }
    return replace(service, depends_on=needs)
