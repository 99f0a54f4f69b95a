"""Reads Compose files whole, for Docker and for the local runner."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from stack.compose.containers import absolute, read_container
from stack.compose.document import load
from stack.compose.local import Service, check_dependencies, local_services
from stack.compose.merge import merged, without_resets
from stack.compose.reader import Reader
from stack.compose.records import BuildSecret, Container, Network, Stack, Volume
from stack.compose.variables import fill_all, references

TOP = frozenset({"name", "services", "networks", "volumes", "secrets"})
LOCAL = "x-local"


def read_compose(path: Path) -> tuple[Service, ...]:
    """The services that the local runner can start, as the file says it, nothing filled in yet.

    What is Docker's alone is checked as it stands, with no variable set.

    Raises:
        ComposeError: the file is unreadable or holds something not understood; all is listed.
    """
    document = load(path)
    read = Reader(path)
    services = local_services(read, read.mapping(document.get("services"), "services"))
    _sections(read, fill_all(_for_docker(document), {}, lambda _: None), None, path.parent)
    read.finish()
    return services


def read_stack(
    files: Sequence[Path],
    variables: Mapping[str, str],
    *,
    project: str | None = None,
    folder: Path | None = None,
) -> Stack:
    """What Docker Compose makes of these files and variables, in all profiles.

    Args:
        files: compose.yaml, then what is laid over it.
        variables: what Compose would find in its environment and in its `--env-file`s.
        project: `--project-name`; without it, the file's own name.
        folder: `--project-directory`; without it, the first file's.

    Raises:
        ComposeError: a file is unreadable or holds something not understood; all is listed.
    """
    base = (folder or files[0].parent).absolute()
    document: dict[str, Any] = {}
    for path in files:
        read = Reader(path)
        part = fill_all(_for_docker(load(path)), variables, read.problems.append)
        _sections(read, without_resets(part), project, base)
        read.finish()
        document = merged(document, part)
    read = Reader(files[0])
    stack = _sections(read, document, project, base)
    _check(read, stack)
    read.finish()
    return replace(
        stack,
        containers={
            name: _handed_through(container, variables)
            for name, container in stack.containers.items()
        },
    )


def all_variables(files: Iterable[Path]) -> frozenset[str]:
    """Every variable that occurs anywhere in these files, for Docker or for the local runner."""
    names: set[str] = set()
    for path in files:
        document = load(path)
        names |= {match["name"] for match in references(document)}
        read = Reader(path)
        for name, entry in read.mapping(document.get("services"), "services").items():
            service = read.mapping(entry, name)
            parts = (service, service.get(LOCAL), service.get("build"))
            for part in parts:
                section = part if isinstance(part, dict) else {}
                for key in ("environment", "args"):
                    given = read.mapping(section.get(key), key)
                    names |= {variable for variable, value in given.items() if value is None}
    return frozenset(names)


def _for_docker(document: Mapping[str, Any]) -> dict[str, Any]:
    """The document without what Compose passes over; `x-secrets` stays, for the containers."""
    kept = {key: value for key, value in document.items() if not key.startswith("x-")}
    services = kept.get("services")
    if isinstance(services, dict):
        kept["services"] = {
            name: {key: value for key, value in entry.items() if key != LOCAL}
            if isinstance(entry, dict)
            else entry
            for name, entry in services.items()
        }
    return kept


def _sections(read: Reader, document: object, project: str | None, folder: Path) -> Stack:
    top = read.section(document, "the file", TOP)
    project = project or read.text(top.get("name", "labloop"), "name")
    services = read.mapping(top.get("services"), "services").items()
    networks = read.mapping(top.get("networks"), "networks").items()
    volumes = read.mapping(top.get("volumes"), "volumes").items()
    secrets = read.mapping(top.get("secrets"), "secrets").items()
    return Stack(
        project=project,
        folder=folder,
        containers={name: read_container(read, name, entry, folder) for name, entry in services},
        networks={name: _network(read, name, entry, project) for name, entry in networks},
        volumes={name: _volume(read, name, entry, project) for name, entry in volumes},
        secrets={name: _secret(read, name, entry, project, folder) for name, entry in secrets},
    )


def _network(read: Reader, name: str, entry: object, project: str) -> Network:
    where = f"networks.{name}"
    section = read.section(entry, where, {"name", "internal", "driver_opts"})
    return Network(
        name=read.text(section.get("name", f"{project}_{name}"), f"{where}.name"),
        internal=read.flag(section.get("internal"), f"{where}.internal"),
        driver_opts=read.options(section.get("driver_opts"), f"{where}.driver_opts"),
    )


def _volume(read: Reader, name: str, entry: object, project: str) -> Volume:
    where = f"volumes.{name}"
    section = read.section(entry, where, {"name", "external", "driver", "driver_opts"})
    return Volume(
        name=read.text(section.get("name", f"{project}_{name}"), f"{where}.name"),
        external=read.flag(section.get("external"), f"{where}.external"),
        driver=read.text_or_none(section.get("driver"), f"{where}.driver"),
        driver_opts=read.options(section.get("driver_opts"), f"{where}.driver_opts"),
    )


def _secret(read: Reader, name: str, entry: object, project: str, folder: Path) -> BuildSecret:
    where = f"secrets.{name}"
    section = read.section(entry, where, {"name", "file"})
    return BuildSecret(
        name=read.text(section.get("name", f"{project}_{name}"), f"{where}.name"),
        file=absolute(read.text(section.get("file"), f"{where}.file"), folder),
    )


def _check(read: Reader, stack: Stack) -> None:
    """Report what Compose would refuse or, worse, fill in by itself."""
    for name, one in stack.containers.items():
        where = f"services.{name}"
        if one.image is None:
            read.problem(f"{where}.image", one.image, "a name, also for what is built")
        if not one.networks and one.network_mode is None:
            # Compose would add a network of its own, with a way out of the machine.
            read.problem(f"{where}.networks", None, "networks, or network_mode: none")
        volumes = [mount.source for mount in one.mounts if mount.kind == "volume"]
        secrets = one.build.secrets if one.build else ()
        _check_names(read, f"{where}.networks", one.networks, stack.networks)
        _check_names(read, f"{where}.volumes", volumes, stack.volumes)
        _check_names(read, f"{where}.build.secrets", secrets, stack.secrets)
    check_dependencies(read, {name: set(one.depends_on) for name, one in stack.containers.items()})


def _check_names(read: Reader, where: str, used: Iterable[str], known: Iterable[str]) -> None:
    for name in sorted(set(used) - set(known)):
        read.problem(where, name, f"one of {', '.join(sorted(known)) or 'none'}")


def _handed_through(container: Container, variables: Mapping[str, str]) -> Container:
    """With the values of keys that stand without one, as far as they are set."""

    def given(environment: Mapping[str, str | None]) -> dict[str, str | None]:
        return {
            key: variables.get(key) if value is None else value
            for key, value in environment.items()
        }

    build = container.build and replace(container.build, args=given(container.build.args))
    return replace(container, environment=given(container.environment), build=build)
