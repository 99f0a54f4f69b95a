"""Reads compose.yaml: the part of the Compose format that the local runner understands.

Every service becomes a frozen `Service`; its `x-local` keys say how it runs as a child process
(stack/README.md lists them). Values may hold `${NAME}`, `${NAME:-default}` and
`${NAME:?message}`, filled in by `fill_in` once the variables are known. Whatever is not understood
is refused by name, so that a setting is never silently without effect.
"""

import re
import shlex
from collections.abc import Callable, Iterable, Mapping, Set
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, cast

import yaml

from stack.errors import ComposeError

Condition = Literal["service_started", "service_healthy"]
HealthKind = Literal["http", "tcp", "heartbeat"]
CONDITIONS: tuple[Condition, ...] = ("service_started", "service_healthy")
HEALTH_KINDS: tuple[HealthKind, ...] = ("http", "tcp", "heartbeat")
SERVICE_NAME = re.compile(r"[a-z][a-z0-9-]{0,30}")
VARIABLE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# $$, ${NAME}, ${NAME:-default}, ${NAME:?message}; anything else after a dollar is an error.
REFERENCE = re.compile(
    r"\$(?:(?P<dollar>\$)"
    r"|\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?:(?P<how>:-|:\?)(?P<text>[^${}]*))?\}"
    r"|(?P<bad>))"
)


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
    """The `x-local` keys of a service."""

    env: str  # which Python environment: "labloop" or a folder of .envs/
    command: tuple[str, ...]
    health: HealthCheck
    port: str | None = None  # name of the variable that holds its port
    url: str | None = None  # what a person opens in a browser
    login: str | None = None  # who a person logs in as there
    environment: Mapping[str, str | None] = field(default_factory=lambda: MappingProxyType({}))
    stop_s: float = 10.0  # from SIGTERM to SIGKILL


@dataclass(frozen=True, slots=True)
class Service:
    """One service of the stack."""

    name: str
    environment: Mapping[str, str | None]  # None: handed through from the settings, if set
    depends_on: Mapping[str, Condition]
    local: LocalService


def read_compose(path: Path) -> tuple[Service, ...]:
    """The services that the local runner can start, as the file says it, nothing filled in yet.

    Raises:
        ComposeError: the file is unreadable or holds something not understood; all is listed.
    """
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ComposeError(path, [str(error).replace("\n", " ")]) from error
    read = _Reader(path)
    top = read.section(document, "the file", {"name", "services"})
    services: list[Service] = []
    entries = read.mapping(top.get("services"), "services")
    for name, entry in entries.items():
        if not SERVICE_NAME.fullmatch(name):
            read.problem(f"services.{name}", name, "lower-case letters, digits and '-'")
        service = _service(read, name, entry)
        if service is not None:
            services.append(service)
    _check_dependencies(read, services, entries.keys())
    read.finish()
    return tuple(_without_others(service, services) for service in services)


def fill_in(service: Service, variables: Mapping[str, str], where: Path) -> Service:
    """The service with every variable replaced by its value.

    Raises:
        ComposeError: a variable has no value, or a reference cannot be read; all are listed.
    """
    read = _Reader(where)

    def fill(text: str) -> str:
        return _fill(text, variables, lambda problem: read.problems.append(problem))

    def environment(mapping: Mapping[str, str | None]) -> dict[str, str | None]:
        given = {
            key: variables.get(key) if text is None else fill(text) for key, text in mapping.items()
        }
        return {key: text for key, text in given.items() if text is not None}

    local = service.local
    filled = replace(
        service,
        environment=environment(service.environment),
        local=replace(
            local,
            command=tuple(fill(part) for part in local.command),
            url=None if local.url is None else fill(local.url),
            login=None if local.login is None else fill(local.login),
            health=replace(
                local.health,
                probes=tuple(replace(p, target=fill(p.target)) for p in local.health.probes),
            ),
            environment=environment(local.environment),
        ),
    )
    read.problems = [f"services.{service.name}: {problem}" for problem in read.problems]
    read.finish()
    return filled


def variables_in(services: Iterable[Service]) -> frozenset[str]:
    """Every variable a person may set for these services."""
    names: set[str] = set()
    for service in services:
        local = service.local
        environments = (service.environment, local.environment)
        texts = [*local.command, local.url or "", local.login or ""]
        texts += [probe.target for probe in local.health.probes]
        for environment in environments:
            names |= {key for key, text in environment.items() if text is None}
            texts += [text for text in environment.values() if text is not None]
        names |= {match["name"] for text in texts for match in REFERENCE.finditer(text)} - {None}
    return frozenset(names)


def _fill(text: str, variables: Mapping[str, str], problem: Callable[[str], None]) -> str:
    def value(match: re.Match[str]) -> str:
        if match["dollar"]:
            return "$"
        if match["name"] is None:
            problem(f"found '$' in {text!r}, expected ${{NAME}}, ${{NAME:-default}} or $$")
            return ""
        found = variables.get(match["name"], "")
        if found:
            return found
        if match["how"] == ":-":
            return match["text"]
        problem(f"{match['name']} is not set" + (f": {match['text']}" if match["text"] else ""))
        return ""

    return REFERENCE.sub(value, text)


class _Reader:
    """Collects every problem of one file on the way through it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.problems: list[str] = []

    def problem(self, where: str, found: object, expected: str) -> None:
        self.problems.append(f"{where} is {found!r}, expected {expected}")

    def mapping(self, value: object, where: str) -> dict[str, Any]:
        if value is None:
            return {}
        if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
            self.problem(where, value, "a mapping with text keys")
            return {}
        return value

    def section(self, value: object, where: str, known: set[str]) -> dict[str, Any]:
        """A mapping with these keys at most; `x-…` is everybody's own business."""
        mapping = self.mapping(value, where)
        self.problems += [
            f"{where}: {key} is not understood by the local runner"
            for key in mapping
            if key not in known and not key.startswith("x-")
        ]
        return mapping

    def text(self, value: object, where: str) -> str:
        if isinstance(value, str):
            return value
        self.problem(where, value, "text")
        return ""

    def seconds(self, value: object, where: str, default: float) -> float:
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
            self.problem(where, value, "seconds, more than 0")
            return default
        return float(value)

    def environment(self, value: object, where: str) -> dict[str, str | None]:
        environment: dict[str, str | None] = {}
        for key, entry in self.mapping(value, where).items():
            if not VARIABLE_NAME.fullmatch(key):
                self.problem(f"{where}.{key}", key, "the name of an environment variable")
            if isinstance(entry, bool) or not isinstance(entry, str | int | float | None):
                self.problem(f"{where}.{key}", entry, "text or a number (true and false in quotes)")
            environment[key] = None if entry is None else str(entry)
        return environment

    def finish(self) -> None:
        if self.problems:
            raise ComposeError(self.path, self.problems)


def _service(read: _Reader, name: str, entry: object) -> Service | None:
    where = f"services.{name}"
    section = read.section(entry, where, {"environment", "depends_on"})
    if "x-local" not in section:
        return None
    return Service(
        name=name,
        environment=read.environment(section.get("environment"), f"{where}.environment"),
        depends_on=_depends_on(read, section.get("depends_on"), f"{where}.depends_on"),
        local=_local(read, section["x-local"], f"{where}.x-local"),
    )


def _depends_on(read: _Reader, value: object, where: str) -> dict[str, Condition]:
    if isinstance(value, list):
        return {read.text(name, where): "service_started" for name in value}
    conditions: dict[str, Condition] = {}
    for name, entry in read.mapping(value, where).items():
        section = read.section(entry, f"{where}.{name}", {"condition"})
        condition = section.get("condition", "service_started")
        if condition not in CONDITIONS:
            read.problem(f"{where}.{name}.condition", condition, " or ".join(CONDITIONS))
        conditions[name] = cast(Condition, condition)
    return conditions


def _local(read: _Reader, value: object, where: str) -> LocalService:
    known = {"env", "command", "port", "url", "login", "health", "environment", "stop_s"}
    section = read.section(value, where, known)

    def text_or_none(key: str) -> str | None:
        return None if section.get(key) is None else read.text(section[key], f"{where}.{key}")

    return LocalService(
        env=read.text(section.get("env"), f"{where}.env"),
        command=_command(read, section.get("command"), f"{where}.command"),
        health=_health(read, section.get("health"), f"{where}.health"),
        port=text_or_none("port"),
        url=text_or_none("url"),
        login=text_or_none("login"),
        environment=read.environment(section.get("environment"), f"{where}.environment"),
        stop_s=read.seconds(section.get("stop_s"), f"{where}.stop_s", default=10.0),
    )


def _command(read: _Reader, value: object, where: str) -> tuple[str, ...]:
    try:
        parts = shlex.split(value) if isinstance(value, str) else value
    except ValueError:  # a quote that is never closed
        parts = None
    if not isinstance(parts, list) or not parts:
        read.problem(where, value, "a command line or a list of its words")
        return ()
    return tuple(read.text(part, where) for part in parts)


def _health(read: _Reader, value: object, where: str) -> HealthCheck:
    section = read.section(value, where, {*HEALTH_KINDS, "start_s", "stale_s"})
    kinds = [kind for kind in HEALTH_KINDS if kind in section]
    if not kinds:
        read.problem(where, value, f"at least one of {', '.join(HEALTH_KINDS)}")
    return HealthCheck(
        probes=tuple(Probe(kind, read.text(section[kind], f"{where}.{kind}")) for kind in kinds),
        start_s=read.seconds(section.get("start_s"), f"{where}.start_s", default=60.0),
        stale_s=read.seconds(section.get("stale_s"), f"{where}.stale_s", default=60.0),
    )


def _check_dependencies(read: _Reader, services: list[Service], names: Set[str]) -> None:
    for service in services:
        for name in service.depends_on:
            if name not in names:
                expected = f"one of {', '.join(sorted(names))}"
                read.problem(f"services.{service.name}.depends_on", name, expected)
    # Take away what depends on nothing that is left; what then remains depends on itself.
    left = {service.name: set(service.depends_on) for service in services}
    while free := {name for name, needs in left.items() if not needs & left.keys()}:
        left = {name: needs for name, needs in left.items() if name not in free}
    if left:
        read.problems.append(f"depends_on goes in a circle: {', '.join(sorted(left))}")


def _without_others(service: Service, services: list[Service]) -> Service:
    """The service, waiting only for services that the local runner starts."""
    names = {other.name for other in services}
    needs = {name: condition for name, condition in service.depends_on.items() if name in names}
    return replace(service, depends_on=needs)
