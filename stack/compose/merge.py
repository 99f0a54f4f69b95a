"""Lays override files over compose.yaml, as Compose does.

Mappings are merged key by key. Of lists, `command`, `entrypoint` and `test` are replaced; in the
others what is there stays in its place, what is new is added at the end, and what is the same
thing (a volume by its target, a port by its numbers, a tmpfs by its folder …) is replaced where
it stands. A key without a value leaves what is there, but in `environment` and `args`, where it
means that the value is handed through. `!reset` takes a key away; `!override` is not understood.
"""

from collections.abc import Callable, Mapping
from typing import Any

from stack.compose.containers import split_mount, split_port
from stack.compose.document import RESET

REPLACED = frozenset({"command", "entrypoint", "test"})
HANDED_THROUGH = frozenset({"environment", "args"})


def merged(base: Mapping[str, Any], extra: Mapping[str, Any]) -> dict[str, Any]:
    """One document of two."""
    return _mappings(_spelt_out(base), _spelt_out(extra), parent="")


def without_resets(value: Any) -> Any:
    """A document as it is when nothing lies below it."""
    if isinstance(value, dict):
        kept = {key: entry for key, entry in value.items() if entry is not RESET}
        return {key: without_resets(entry) for key, entry in kept.items()}
    return value


def _spelt_out(document: Mapping[str, Any]) -> Mapping[str, Any]:
    """The document with the lists that are short for mappings turned into these."""
    services = document.get("services")
    if not isinstance(services, dict):
        return document
    return {
        **document,
        "services": {
            name: _service(entry) if isinstance(entry, dict) else entry
            for name, entry in services.items()
        },
    }


def _service(entry: Mapping[str, Any]) -> dict[str, Any]:
    spelt: dict[str, Any] = {}
    for key, value in entry.items():
        if key == "networks" and isinstance(value, list):
            spelt[key] = dict.fromkeys(value)
        elif key == "depends_on" and isinstance(value, list):
            spelt[key] = {name: {"condition": "service_started"} for name in value}
        else:
            spelt[key] = value
    return spelt


def _mappings(base: Mapping[str, Any], extra: Mapping[str, Any], parent: str) -> dict[str, Any]:
    result = dict(base)
    for key, value in extra.items():
        before = result.get(key)
        if value is RESET:
            result.pop(key, None)
            continue
        if value is None and before is not None and parent not in HANDED_THROUGH:
            continue
        if isinstance(before, dict) and isinstance(value, dict):
            result[key] = _mappings(before, value, key)
        elif isinstance(before, list) and isinstance(value, list) and key not in REPLACED:
            result[key] = _lists(before, value, IDENTITIES.get(key, repr))
        else:
            result[key] = value
    return result


def _lists(base: list[Any], extra: list[Any], identity: Callable[[Any], object]) -> list[Any]:
    return list({identity(entry): entry for entry in [*base, *extra]}.values())


def _mount(entry: Any) -> object:
    if isinstance(entry, str):
        return split_mount(entry)[1]
    return entry.get("target") if isinstance(entry, dict) else repr(entry)


def _port(entry: Any) -> object:
    host_ip, published, target, protocol = split_port(str(entry))
    return host_ip or "0.0.0.0", published, target, protocol


def _before_equals(entry: Any) -> object:
    return str(entry).partition("=")[0]


IDENTITIES: Mapping[str, Callable[[Any], object]] = {
    "volumes": _mount,
    "ports": _port,
    **dict.fromkeys(("tmpfs", "cap_add", "cap_drop", "profiles", "aliases"), _before_equals),
}
