"""What Compose makes of compose.yaml: containers, networks, volumes; everything filled in."""

from collections.abc import Mapping, Set
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from stack.compose.reader import Condition
from stack.errors import UsageError

MountKind = Literal["bind", "volume"]


@dataclass(frozen=True, slots=True)
class Build:
    """From what an image is built."""

    context: str
    dockerfile: str = "Dockerfile"
    args: Mapping[str, str | None] = field(default_factory=lambda: MappingProxyType({}))
    secrets: tuple[str, ...] = ()  # names of the stack's secrets
    additional_contexts: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    network: str | None = None


@dataclass(frozen=True, slots=True)
class Port:
    """A port of a container that the machine's network reaches."""

    target: int  # inside the container
    published: str
    host_ip: str | None  # None: every address of the machine
    protocol: str = "tcp"


@dataclass(frozen=True, slots=True)
class Mount:
    """A folder of the machine or a volume, as a container sees it."""

    kind: MountKind
    source: str  # absolute path, or the stack's name of a volume
    target: str
    read_only: bool = False
    no_copy: bool = False  # volume only: an empty one does not get what the image has there
    create_host_path: bool = False  # bind only: Docker makes a folder that is missing, as root


@dataclass(frozen=True, slots=True)
class ContainerHealth:
    """Docker's health check; what is None stays as the image has it."""

    test: tuple[str, ...] | None = None
    interval_s: float | None = None
    timeout_s: float | None = None
    start_period_s: float | None = None
    start_interval_s: float | None = None
    retries: int | None = None
    disable: bool = False


@dataclass(frozen=True, slots=True)
class Logging:
    """Where the lines a container writes go."""

    driver: str | None
    options: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Device:
    """A reservation of GPUs."""

    driver: str | None
    capabilities: tuple[str, ...]
    count: int | None = None  # -1: all of them
    ids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SecretFiles:
    """`x-secrets`: the files of a home's `secrets/` that a service is dealt out."""

    files: tuple[str, ...] = ()
    owner: str | None = None  # the uid that may read them; None: the lab's


@dataclass(frozen=True, slots=True)
class Container:
    """One service of the stack, as Docker runs it. None: what the image or Docker says."""

    name: str
    image: str | None
    build: Build | None
    profiles: tuple[str, ...]  # empty: always started
    hostname: str | None
    user: str | None
    init: bool | None
    read_only: bool
    tmpfs: tuple[str, ...]
    cap_drop: tuple[str, ...]
    cap_add: tuple[str, ...]
    security_opt: tuple[str, ...]
    pids_limit: int | None
    mem_limit_bytes: int | None
    shm_size_bytes: int | None
    restart: str | None
    stop_signal: str | None
    stop_grace_s: float | None
    logging: Logging | None
    command: tuple[str, ...] | None
    entrypoint: tuple[str, ...] | None
    environment: Mapping[str, str | None]  # None: set nowhere, so the container does not get it
    ports: tuple[Port, ...]
    mounts: tuple[Mount, ...]
    networks: Mapping[str, tuple[str, ...]]  # the stack's names → aliases there
    network_mode: str | None
    health: ContainerHealth | None  # None: the image's
    depends_on: Mapping[str, Condition]
    labels: Mapping[str, str]
    devices: tuple[Device, ...]
    secrets: SecretFiles


@dataclass(frozen=True, slots=True)
class Network:
    """A network of the stack; from an internal one no packet leaves the machine."""

    name: str  # in Docker
    internal: bool
    driver_opts: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Volume:
    """A volume of the stack; Compose neither makes nor removes an external one."""

    name: str  # in Docker
    external: bool
    driver: str | None
    driver_opts: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class BuildSecret:
    """A file that builds may read and no image keeps."""

    name: str
    file: str


@dataclass(frozen=True, slots=True)
class Stack:
    """Everything the Compose files describe. The keys are the names used in them."""

    project: str
    folder: Path  # relative paths in the files start here
    containers: Mapping[str, Container]
    networks: Mapping[str, Network]
    volumes: Mapping[str, Volume]
    secrets: Mapping[str, BuildSecret]

    def with_profiles(self, profiles: Set[str]) -> "Stack":
        """What these profiles start, and what that uses of networks, volumes and secrets.

        Raises:
            UsageError: a service waits for one that these profiles do not start.
        """
        kept = {
            name: container
            for name, container in self.containers.items()
            if not container.profiles or profiles & set(container.profiles)
        }
        for name, container in kept.items():
            if absent := sorted(container.depends_on.keys() - kept.keys()):
                chosen = ", ".join(sorted(profiles)) or "no profile"
                raise UsageError(f"{name} waits for {absent[0]}, which {chosen} does not start")
        used = kept.values()
        networks = {name for one in used for name in one.networks}
        volumes = {mount.source for one in used for mount in one.mounts if mount.kind == "volume"}
        secrets = {name for one in used if one.build for name in one.build.secrets}
        return replace(
            self,
            containers=kept,
            networks={name: one for name, one in self.networks.items() if name in networks},
            volumes={name: one for name, one in self.volumes.items() if name in volumes},
            secrets={name: one for name, one in self.secrets.items() if name in secrets},
        )
