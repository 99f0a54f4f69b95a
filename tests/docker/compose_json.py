"""Our understanding of the Compose files, in the words of `docker compose config --format json`.

What Compose writes and does not mean is taken out of its answer by `without_spelling`: empty
mappings that tell only in which syntax something was written.
"""

from collections.abc import Mapping
from typing import Any

from stack.compose import (
    Build,
    BuildSecret,
    Container,
    ContainerHealth,
    Device,
    Mount,
    Network,
    Port,
    Stack,
    Volume,
)

UNITS = (("h", 3600), ("m", 60), ("s", 1))


def as_json(stack: Stack) -> dict[str, Any]:
    parts = {
        "name": stack.project,
        "services": {name: _service(one) for name, one in stack.containers.items()},
        "networks": {name: _network(one) for name, one in stack.networks.items()},
        "volumes": {name: _volume(one) for name, one in stack.volumes.items()},
        "secrets": {name: _secret(one) for name, one in stack.secrets.items()},
    }
    return _escaped(_filled(parts))


def without_spelling(answer: Any, path: tuple[str, ...] = ()) -> Any:
    """Compose's answer, or ours, without `x-…` and without what only tells the syntax used."""
    if isinstance(answer, list):
        return [without_spelling(entry, path) for entry in answer]
    if not isinstance(answer, dict):
        return answer
    kept = {
        key: without_spelling(value, (*path, key))
        for key, value in answer.items()
        if not key.startswith("x-")
    }
    if path[:1] == ("services",) and path[2:] == ("networks",):  # `web:` and `web: {}`
        return {key: value or None for key, value in kept.items()}
    if path[:1] == ("services",) and path[2:] == ("volumes",):  # short and long syntax
        return {k: v for k, v in kept.items() if not (k in ("bind", "volume") and v == {})}
    return kept


def duration(seconds: float) -> str:
    """As Go writes it: 90 → 1m30s, 0.5 → 500ms."""
    if 0 < seconds < 1:
        return f"{seconds * 1000:g}ms"
    text, rest = "", seconds
    for unit, size in UNITS:
        count = int(rest // size) if unit != "s" else rest
        rest -= count * size
        if count or text or unit == "s":
            text += f"{count:g}{unit}"
    return text


def _service(one: Container) -> dict[str, Any]:
    return {
        "profiles": list(one.profiles),
        "image": one.image,
        "build": one.build and _build(one.build),
        "hostname": one.hostname,
        "user": one.user,
        "init": one.init,
        "read_only": one.read_only or None,
        "tmpfs": list(one.tmpfs),
        "cap_drop": list(one.cap_drop),
        "cap_add": list(one.cap_add),
        "security_opt": list(one.security_opt),
        "pids_limit": one.pids_limit,
        "mem_limit": _bytes(one.mem_limit_bytes),
        "shm_size": _bytes(one.shm_size_bytes),
        "restart": one.restart,
        "stop_signal": one.stop_signal,
        "stop_grace_period": _duration(one.stop_grace_s),
        "logging": one.logging
        and _filled({"driver": one.logging.driver, "options": dict(one.logging.options)}),
        "command": NULL if one.command is None else list(one.command),
        "entrypoint": NULL if one.entrypoint is None else list(one.entrypoint),
        "environment": _environment(one.environment),
        "ports": [_port(port) for port in one.ports],
        "volumes": [_mount(mount) for mount in one.mounts],
        "networks": {
            name: {"aliases": list(aliases)} if aliases else NULL
            for name, aliases in one.networks.items()
        },
        "network_mode": one.network_mode,
        "healthcheck": one.health and _health(one.health),
        "depends_on": {
            name: {"condition": condition, "required": True}
            for name, condition in one.depends_on.items()
        },
        "labels": dict(one.labels),
        "deploy": _deploy(one.devices),
    }


def _build(build: Build) -> dict[str, Any]:
    return {
        "context": build.context,
        "dockerfile": build.dockerfile,
        "args": _environment(build.args),
        "secrets": [{"source": name} for name in build.secrets],
        "additional_contexts": dict(build.additional_contexts),
        "network": build.network,
    }


def _environment(environment: Mapping[str, str | None]) -> dict[str, Any]:
    return {key: NULL if value is None else value for key, value in environment.items()}


def _port(port: Port) -> dict[str, Any]:
    return {
        "mode": "ingress",
        "host_ip": port.host_ip,
        "target": port.target,
        "published": port.published,
        "protocol": port.protocol,
    }


def _mount(mount: Mount) -> dict[str, Any]:
    return {
        "type": mount.kind,
        "source": mount.source,
        "target": mount.target,
        "read_only": mount.read_only or None,
        "volume": {"nocopy": True} if mount.no_copy else None,
        "bind": {"create_host_path": True} if mount.create_host_path else None,
    }


def _health(health: ContainerHealth) -> dict[str, Any]:
    return {
        "test": list(health.test) if health.test else None,
        "interval": _duration(health.interval_s),
        "timeout": _duration(health.timeout_s),
        "start_period": _duration(health.start_period_s),
        "start_interval": _duration(health.start_interval_s),
        "retries": health.retries,
        "disable": health.disable or None,
    }


def _deploy(devices: tuple[Device, ...]) -> dict[str, Any] | None:
    if not devices:
        return None
    words = [
        {
            "driver": device.driver,
            "capabilities": list(device.capabilities),
            "count": device.count,
            "device_ids": list(device.ids),
        }
        for device in devices
    ]
    return {"resources": {"reservations": {"devices": words}}, "placement": EMPTY}


def _network(one: Network) -> dict[str, Any]:
    return {
        "name": one.name,
        "ipam": EMPTY,
        "internal": one.internal or None,
        "driver_opts": dict(one.driver_opts),
    }


def _volume(one: Volume) -> dict[str, Any]:
    return {
        "name": one.name,
        "external": one.external or None,
        "driver": one.driver,
        "driver_opts": dict(one.driver_opts),
    }


def _secret(one: BuildSecret) -> dict[str, Any]:
    return {"name": one.name, "file": one.file}


def _duration(seconds: float | None) -> str | None:
    return None if seconds is None else duration(seconds)


def _bytes(size: int | None) -> str | None:
    return None if size is None else str(size)


# Compose leaves out what is not said, but says these.
NULL = object()
EMPTY = object()


def _filled(value: Any) -> Any:
    """Without what is not said."""
    if value is NULL:
        return None
    if value is EMPTY:
        return {}
    if isinstance(value, list):
        return [_filled(entry) for entry in value]
    if isinstance(value, dict):
        said = {k: v for k, v in value.items() if v is not None and not (v == {} or v == [])}
        return {key: _filled(entry) for key, entry in said.items()}
    return value


def _escaped(value: Any) -> Any:
    """Compose writes a file that it could read again."""
    if isinstance(value, str):
        return value.replace("$", "$$")
    if isinstance(value, list):
        return [_escaped(entry) for entry in value]
    if isinstance(value, dict):
        return {key: _escaped(entry) for key, entry in value.items()}
    return value
