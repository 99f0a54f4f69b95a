"""What every container of the stack must be, as functions that complain by the service's name.

Each exception stands here with its reason; whoever adds one adds a line.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from stack.compose import Container, Stack
from stack.environments import ROOT

# They end; their exit code says how it went. Nobody starts them again, and none has a health check.
ONE_SHOTS = {
    "label-studio-migrate": "`up` waits for its end",
    "backup": "`labloop backup` waits for its end",
    "restore": "`labloop restore` waits for its end",
}
ROOT_USERS = {
    "backup": "reads everybody's files, with no other right",
    "restore": "gives files back to their owners",
}
RIGHTS = {
    "gateway": {"NET_BIND_SERVICE"},  # the official image's program asks for it, or does not start
    "backup": {"DAC_READ_SEARCH"},
    "restore": {"CHOWN", "DAC_OVERRIDE", "FOWNER"},
}
WRITABLE_ROOTS: dict[str, str] = {}  # service → why its root cannot be read-only
WAYS_OUT = {
    "gateway": "browsers come in through it",
    "backup": "to a repository on another machine, if somebody wants one",
    "restore": "from there",
}
PUBLISHES = {"gateway"}
OUTSIDE = "outside"
# Docker gives a bridge an address, and every container there reaches the machine by it.
NO_BRIDGE_ADDRESS = "com.docker.network.bridge.inhibit_ipv4"
# Where a container would see more of the machine than is its own.
NEVER_MOUNTED = (
    "/",
    "/etc",
    "/proc",
    "/sys",
    "/dev",
    "/run",
    "/var",
    "/var/run",
    "/var/lib/docker",
)
OUR_IMAGE = re.compile(r"\$\{IMAGE_PREFIX:-labloop\}/[a-z-]+:\$\{IMAGE_TAG:-dev\}")
OTHER_IMAGE = re.compile(r"\$\{([A-Z]+_IMAGE):-([^${}]+)\}")
PINNED = re.compile(r"[a-z0-9.-]+(?:/[a-z0-9._-]+)+:(?!latest)[a-z0-9._-]*[0-9][a-z0-9._-]*")
SECRET_NAME = re.compile(r"PASSWORD|PASSWD|TOKEN|SECRET|CREDENTIAL|_KEY$|_KEY_")
SECRET_FILE = re.compile(r"/run/secrets/([a-z0-9._-]+)")
FOLDERS = {"ml-backend": "ml_backend"}  # the other rooms are in services/
ROOMS = {
    "label-studio-migrate": "label_studio",
    "nextcloud-cron": "nextcloud",
    "nextcloud-rescan": "nextcloud",
    "restore": "backup",
}

Complaints = Iterator[str]


def complaints(stack: Stack, document: Mapping[str, Any]) -> list[str]:
    """Everything that is wrong with a stack; `document` is its compose.yaml as it is written."""
    found = [
        f"{one.name}: {complaint}"
        for one in stack.containers.values()
        for rule in RULES
        for complaint in rule(one, stack)
    ]
    for name, service in document["services"].items():
        found += [f"{name}: {complaint}" for complaint in image_is_pinned(service)]
    return found + list(volumes_outlive_the_stack(stack)) + list(networks_are_internal(stack))


def has_health_check(one: Container, stack: Stack) -> Complaints:
    if one.name in ONE_SHOTS:
        if one.health is None or not one.health.disable or one.restart != "no":
            yield "ends by itself, expected healthcheck: {disable: true} and restart: 'no'"
        return
    if one.restart != "unless-stopped":
        yield f"restart is {one.restart!r}, expected unless-stopped"
    if one.health is not None and (one.health.disable or not one.health.test):
        yield "its health check is switched off or asks nothing"
    text = dockerfile_of(one, stack)
    if one.health is None and not re.search(r"^HEALTHCHECK", text, re.M):
        yield "has no health check, neither in compose.yaml nor in its Dockerfile"


def is_locked_up(one: Container, _: Stack) -> Complaints:
    if one.cap_drop != ("ALL",):
        yield f"cap_drop is {one.cap_drop}, expected ALL"
    if extra := set(one.cap_add) - RIGHTS.get(one.name, set()):
        yield f"cap_add has {', '.join(sorted(extra))}, which nobody gave a reason for"
    if one.security_opt != ("no-new-privileges:true",):
        yield f"security_opt is {one.security_opt}, expected no-new-privileges:true alone"
    if not one.read_only and one.name not in WRITABLE_ROOTS:
        yield "read_only is not set"
    user, _colon, group = (one.user or "").partition(":")
    if not user.isdigit() or not group.isdigit():
        yield f"user is {one.user!r}, expected numbers of a user and a group"
    if (user == "0" and one.name not in ROOT_USERS) or group == "0":
        yield f"user is {one.user!r}, expected not to be root"


def has_limits(one: Container, _: Stack) -> Complaints:
    if not one.mem_limit_bytes:
        yield "mem_limit is not set"
    if not one.pids_limit or one.pids_limit < 1:
        yield "pids_limit is not set"
    if not one.init:
        yield "init is not set"
    options = one.logging.options if one.logging else {}
    if not {"max-size", "max-file"} <= options.keys():
        yield "logging has no end: max-size and max-file are not set"


def keeps_to_itself(one: Container, _: Stack) -> Complaints:
    if one.ports and one.name not in PUBLISHES:
        yield "publishes a port, which only the gateway may"
    if one.network_mode not in (None, "none"):
        yield f"network_mode is {one.network_mode!r}, expected networks or none"
    if OUTSIDE in one.networks and one.name not in WAYS_OUT:
        yield "is on the network outside, and nobody said why"
    for mount in one.mounts:
        if "docker.sock" in mount.source or "docker.sock" in mount.target:
            yield "has the engine's socket, and with it the machine"
        if mount.kind == "bind" and mount.source.rstrip("/") in {
            p.rstrip("/") for p in NEVER_MOUNTED
        }:
            yield f"sees {mount.source} of the machine"


def tells_no_secret(one: Container, stack: Stack) -> Complaints:
    """Names of files, never what is in them: `docker inspect` shows every value."""
    arguments = dict(one.build.args) if one.build else {}
    for key, value in [*one.environment.items(), *arguments.items()]:
        if SECRET_NAME.search(key) and not key.endswith("_FILE") and not _is_path(value):
            yield f"{key} may hold a secret, expected {key}_FILE"
        if value and re.search(r"://[^/\s:@]+:[^/\s@]+@", value):
            yield f"{key} has a password in its address"
    folders = [mount for mount in one.mounts if mount.target == "/run/secrets"]
    words = [*(value or "" for value in one.environment.values())]
    words += [*(one.command or ()), *(one.entrypoint or ())]
    words += one.health.test or () if one.health else ()
    wanted = set(SECRET_FILE.findall("\n".join([*words, dockerfile_of(one, stack)])))
    if wanted and not folders:
        yield f"reads {sorted(wanted)[0]}, but /run/secrets is not mounted"
    for mount in folders:
        dealt = stack.containers.get(Path(mount.source).name)
        files = set(dealt.secrets.files) if dealt else set()
        if not mount.read_only:
            yield "may write to its secrets"
        if missing := sorted(wanted - files):
            yield f"reads the secret {missing[0]}, which x-secrets of {mount.source} does not list"


def is_documented(one: Container, _: Stack) -> Complaints:
    room = ROOMS.get(one.name, one.name.replace("-", "_"))
    folder = ROOT / FOLDERS[one.name] if one.name in FOLDERS else ROOT / "services" / room
    about = (ROOT / "services" / "README.md").read_text(encoding="utf-8")
    if not (folder / "README.md").is_file() and f"`{one.name}`" not in about:
        yield f"neither {folder.relative_to(ROOT)}/README.md nor services/README.md tells of it"
    if f"| `{one.name}` |" not in (ROOT / "docs" / "operate.md").read_text(encoding="utf-8"):
        yield "docs/operate.md has no line about it"


def image_is_pinned(service: Mapping[str, Any]) -> Complaints:
    """One variable, so that a digest can take its place; by default a name with a version."""
    text = str(service.get("image"))
    if OUR_IMAGE.fullmatch(text):
        return
    match = OTHER_IMAGE.fullmatch(text)
    if match is None or not PINNED.fullmatch(match[2]):
        yield f"image is {text!r}, expected ${{NAME_IMAGE:-registry/name:version}} with a number"


def volumes_outlive_the_stack(stack: Stack) -> Complaints:
    for name, volume in stack.volumes.items():
        if not volume.external or volume.name != f"STACK_{name}":
            yield f"volumes.{name}: expected external, named ${{STACK_NAME}}_{name}"
        if not any(m.source == name for one in stack.containers.values() for m in one.mounts):
            yield f"volumes.{name}: nobody uses it"


def networks_are_internal(stack: Stack) -> Complaints:
    for name, network in stack.networks.items():
        if network.internal is (name == OUTSIDE):
            yield f"networks.{name}: expected internal: {str(name != OUTSIDE).lower()}"
        if network.internal and network.driver_opts.get(NO_BRIDGE_ADDRESS) != "true":
            yield f"networks.{name}: the machine has an address there, expected {NO_BRIDGE_ADDRESS}"


def dockerfile_of(one: Container, stack: Stack) -> str:
    """Of the service's image, which another service may build; empty for images of others."""
    for other in [one, *stack.containers.values()]:
        if other.build is not None and other.image == one.image:
            path = ROOT / other.build.dockerfile
            return path.read_text(encoding="utf-8") if path.is_file() else ""
    return ""


def _is_path(value: str | None) -> bool:
    return value is not None and value.startswith("/")


RULES: tuple[Callable[[Container, Stack], Complaints], ...] = (
    has_health_check,
    is_locked_up,
    has_limits,
    keeps_to_itself,
    tells_no_secret,
    is_documented,
)
