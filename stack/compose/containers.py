"""Understands a service as Docker runs it, key by key."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stack.compose.reader import Reader
from stack.compose.records import (
    Build,
    Container,
    ContainerHealth,
    Device,
    Logging,
    Mount,
    MountKind,
    Port,
    SecretFiles,
)

KEYS = frozenset(
    {
        *("image", "build", "profiles", "command", "entrypoint", "environment", "labels"),
        *("user", "init", "read_only", "tmpfs", "cap_drop", "cap_add", "security_opt"),
        *("pids_limit", "mem_limit", "shm_size", "deploy"),
        *("restart", "stop_signal", "stop_grace_period"),
        *("hostname", "ports", "volumes", "networks", "network_mode"),
        *("depends_on", "healthcheck", "logging"),
    }
)
PROTOCOLS = ("tcp", "udp")


def read_container(read: Reader, name: str, entry: object, folder: Path) -> Container:
    """The service of that name; relative paths start at `folder`."""
    where = f"services.{name}"
    section = read.section(entry, where, KEYS)

    def at(key: str) -> tuple[Any, str]:
        return section.get(key), f"{where}.{key}"

    return Container(
        name=name,
        image=read.text_or_none(*at("image")),
        build=_build(read, *at("build"), folder),
        profiles=read.texts(*at("profiles")),
        hostname=read.text_or_none(*at("hostname")),
        user=read.text_or_none(*at("user")),
        init=None if section.get("init") is None else read.flag(*at("init")),
        read_only=read.flag(*at("read_only")),
        tmpfs=read.texts(*at("tmpfs")),
        cap_drop=read.texts(*at("cap_drop")),
        cap_add=read.texts(*at("cap_add")),
        security_opt=read.texts(*at("security_opt")),
        pids_limit=read.whole(*at("pids_limit")),
        mem_limit_bytes=read.size_bytes(*at("mem_limit")),
        shm_size_bytes=read.size_bytes(*at("shm_size")),
        restart=read.text_or_none(*at("restart")),
        stop_signal=read.text_or_none(*at("stop_signal")),
        stop_grace_s=read.duration_s(*at("stop_grace_period")),
        logging=_logging(read, *at("logging")),
        command=_words_or_none(read, *at("command")),
        entrypoint=_words_or_none(read, *at("entrypoint")),
        environment=read.environment(*at("environment")),
        ports=_ports(read, *at("ports")),
        mounts=_mounts(read, *at("volumes"), folder),
        networks=_networks(read, *at("networks")),
        network_mode=read.text_or_none(*at("network_mode")),
        health=_health(read, *at("healthcheck")),
        depends_on=read.depends_on(*at("depends_on")),
        labels=read.options(*at("labels")),
        devices=_devices(read, *at("deploy")),
        secrets=_secret_files(read, *at("x-secrets")),
    )


def absolute(path: str, folder: Path) -> str:
    """As Compose has it: a relative path without `.` and `..`; an absolute one as it is."""
    if path.startswith("/"):
        return path
    parts: list[str] = []
    for part in (folder / path).parts[1:]:
        if part == "..":
            parts = parts[:-1]
        else:
            parts.append(part)
    return f"/{'/'.join(parts)}"


def split_mount(text: str) -> tuple[str, str, str]:
    """Source, target and mode of a volume in the short syntax; empty where it says nothing."""
    source, _, rest = text.partition(":")
    target, _, mode = rest.partition(":")
    return source, target, mode


def split_port(text: str) -> tuple[str, str, str, str]:
    """Address, published port, target and protocol of a port in the short syntax."""
    left, _, protocol = text.partition("/")
    rest, _, target = left.rpartition(":")
    host_ip, _, published = rest.rpartition(":")
    return host_ip, published, target, protocol or "tcp"


def _words_or_none(read: Reader, value: object, where: str) -> tuple[str, ...] | None:
    return None if value is None else read.words(value, where)


def _build(read: Reader, value: object, where: str, folder: Path) -> Build | None:
    if value is None:
        return None
    known = {"context", "dockerfile", "args", "secrets", "additional_contexts", "network"}
    section = read.section(value, where, known)
    context = read.text(section.get("context", "."), f"{where}.context")
    others = read.options(section.get("additional_contexts"), f"{where}.additional_contexts")
    return Build(
        context=absolute(context, folder),
        dockerfile=read.text(section.get("dockerfile", "Dockerfile"), f"{where}.dockerfile"),
        args=read.environment(section.get("args"), f"{where}.args"),
        secrets=read.texts(section.get("secrets"), f"{where}.secrets"),
        additional_contexts={
            name: path if "://" in path else absolute(path, folder) for name, path in others.items()
        },
        network=read.text_or_none(section.get("network"), f"{where}.network"),
    )


def _logging(read: Reader, value: object, where: str) -> Logging | None:
    if value is None:
        return None
    section = read.section(value, where, {"driver", "options"})
    return Logging(
        driver=read.text_or_none(section.get("driver"), f"{where}.driver"),
        options=read.options(section.get("options"), f"{where}.options"),
    )


def _ports(read: Reader, value: object, where: str) -> tuple[Port, ...]:
    ports = []
    for number, text in enumerate(read.texts(value, where)):
        host_ip, published, target, protocol = split_port(text)
        if not (published.isdigit() and target.isdigit() and protocol in PROTOCOLS):
            expected = "[ADDRESS:]PUBLISHED:TARGET[/udp] with one number for each port"
            read.problem(f"{where}[{number}]", text, expected)
            continue
        ports.append(Port(int(target), published, host_ip or None, protocol))
    return tuple(ports)


def _mounts(read: Reader, value: object, where: str, folder: Path) -> tuple[Mount, ...]:
    if value is not None and not isinstance(value, list):
        read.problem(where, value, "a list of volumes")
        return ()
    mounts = []
    for number, entry in enumerate(value or ()):
        one = f"{where}[{number}]"
        if isinstance(entry, str):
            mounts.append(_short_mount(read, entry, one, folder))
        else:
            mounts.append(_long_mount(read, entry, one, folder))
    return tuple(mounts)


def _short_mount(read: Reader, text: str, where: str, folder: Path) -> Mount:
    source, target, mode = split_mount(text)
    modes = set(mode.split(",")) if mode else set()
    is_path = source.startswith((".", "/"))
    known = {"ro", "rw"} if is_path else {"ro", "rw", "nocopy"}
    if not (source and target.startswith("/") and modes <= known):
        read.problem(where, text, "SOURCE:/TARGET, SOURCE:/TARGET:ro or the long syntax")
    if not is_path and ("/" in source or source.startswith("~")):
        read.problem(where, text, "a volume's name, or a path that starts with '.' or '/'")
    if is_path:
        source = absolute(source, folder)
        return Mount("bind", source, target, "ro" in modes, create_host_path=True)
    return Mount("volume", source, target, "ro" in modes, no_copy="nocopy" in modes)


def _long_mount(read: Reader, entry: object, where: str, folder: Path) -> Mount:
    known = {"type", "source", "target", "read_only"}
    kind: MountKind = "bind" if read.mapping(entry, where).get("type") == "bind" else "volume"
    section = read.section(entry, where, {*known, kind})
    if section.get("type") not in ("bind", "volume"):
        read.problem(f"{where}.type", section.get("type"), "bind or volume")
    source = read.text(section.get("source"), f"{where}.source")
    target = read.text(section.get("target"), f"{where}.target")
    read_only = read.flag(section.get("read_only"), f"{where}.read_only")
    where = f"{where}.{kind}"
    if kind == "bind":
        more = read.section(section.get("bind"), where, {"create_host_path"})
        create = read.flag(more.get("create_host_path"), f"{where}.create_host_path")
        source = absolute(source, folder)
        return Mount("bind", source, target, read_only, create_host_path=create)
    more = read.section(section.get("volume"), where, {"nocopy"})
    no_copy = read.flag(more.get("nocopy"), f"{where}.nocopy")
    return Mount("volume", source, target, read_only, no_copy=no_copy)


def _networks(read: Reader, value: object, where: str) -> dict[str, tuple[str, ...]]:
    if isinstance(value, list):
        return dict.fromkeys(read.texts(value, where), ())
    networks = {}
    for name, entry in read.mapping(value, where).items():
        section = read.section(entry, f"{where}.{name}", {"aliases"})
        networks[name] = read.texts(section.get("aliases"), f"{where}.{name}.aliases")
    return networks


def _health(read: Reader, value: object, where: str) -> ContainerHealth | None:
    if value is None:
        return None
    durations = ("interval", "timeout", "start_period", "start_interval")
    section = read.section(value, where, {"test", "retries", "disable", *durations})
    test = section.get("test")
    line = ("CMD-SHELL", test) if isinstance(test, str) else None
    words = line or read.texts(test, f"{where}.test")
    if words and words[0] not in ("CMD", "CMD-SHELL"):
        read.problem(f"{where}.test", test, "a line, or a list that starts with CMD or CMD-SHELL")
    times = {f"{key}_s": read.duration_s(section.get(key), f"{where}.{key}") for key in durations}
    return ContainerHealth(
        test=words or None,
        retries=read.whole(section.get("retries"), f"{where}.retries"),
        disable=read.flag(section.get("disable"), f"{where}.disable"),
        **times,
    )


def _devices(read: Reader, value: object, where: str) -> tuple[Device, ...]:
    deploy = read.section(value, where, {"resources"})
    where = f"{where}.resources"
    resources = read.section(deploy.get("resources"), where, {"reservations"})
    where = f"{where}.reservations"
    reservations = read.section(resources.get("reservations"), where, {"devices"})
    found = reservations.get("devices") or []
    if not isinstance(found, list):
        read.problem(f"{where}.devices", found, "a list of devices")
        return ()
    return tuple(
        _device(read, entry, f"{where}.devices[{number}]") for number, entry in enumerate(found)
    )


def _device(read: Reader, entry: object, where: str) -> Device:
    section = read.section(entry, where, {"driver", "count", "capabilities", "device_ids"})
    count: object = section.get("count")
    return Device(
        driver=read.text_or_none(section.get("driver"), f"{where}.driver"),
        capabilities=read.texts(section.get("capabilities"), f"{where}.capabilities"),
        count=-1 if count == "all" else read.whole(count, f"{where}.count"),
        ids=read.texts(section.get("device_ids"), f"{where}.device_ids"),
    )


def _secret_files(read: Reader, value: object, where: str) -> SecretFiles:
    section: Mapping[str, Any] = read.section(value, where, {"owner", "files"})
    owner = read.whole(section.get("owner"), f"{where}.owner")
    return SecretFiles(
        files=read.texts(section.get("files"), f"{where}.files"),
        owner=None if owner is None else str(owner),
    )
