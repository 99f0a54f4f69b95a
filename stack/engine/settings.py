"""What the person who runs the lab's box may choose: `.env` and the environment, as one record.

The containers' own settings are in compose.yaml; here is what the Docker side itself must know.
"""

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self, cast, get_args

from stack.errors import UsageError
from stack.runtime.settings import EnvReader

Profile = Literal["lab", "files-lite", "trainer"]
GpuChoice = Literal["auto", "on", "off"]
NasKind = Literal["home", "path", "nfs", "smb"]
STACK_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,30}")  # Compose's rule for project names
HOST_NAME = re.compile(r"(?=.{1,253}$)[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?(\.[A-Za-z0-9-]+)*")
NFS_SHARE = re.compile(r"[^:\s]+:/\S*")
SMB_SHARE = re.compile(r"//[^/\s]+/\S+")
# The ports are apart from each other, or the gateway cannot listen on them.
GATEWAY_PORTS = {
    "GATEWAY_HTTP_PORT": 80,
    "GATEWAY_PORT": 443,
    "GATEWAY_LABEL_PORT": 8443,
    "GATEWAY_FILES_PORT": 9443,
    "GATEWAY_BOARD_PORT": 6443,
}


@dataclass(frozen=True, slots=True)
class NasPlace:
    """Where the share is."""

    kind: NasKind  # home: a folder in the home, to try things out
    path: Path | None = None  # kind `path`: where this machine has it
    share: str = ""  # server:/export or //server/share
    options: str = ""  # of the mount
    credentials: Path | None = None  # SMB: username=, password=, domain= lines


@dataclass(frozen=True, slots=True)
class LabSettings:
    """One lab's stack in Docker. Every field is explained in .env.example."""

    stack_name: str
    profile: Profile
    lab_host: str  # a name or an address that browsers use
    lab_domain: str
    bind: str
    ports: Mapping[str, int]  # GATEWAY_…_PORT → number
    nas: NasPlace
    lab_uid: int
    lab_gid: int
    gpu: GpuChoice
    tls_certificate: Path | None
    tls_key: Path | None
    values: Mapping[str, str]  # all settings as they were given, for Compose

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> Self:
        """Read them; every problem at once.

        Raises:
            SettingsError: one or more of them cannot be used.
        """
        with EnvReader(env) as read:
            certificate, key = _file(read, "TLS_CERTIFICATE"), _file(read, "TLS_KEY")
            if (certificate is None) != (key is None):
                read.problems.append("TLS_CERTIFICATE and TLS_KEY are given both or not at all")
            return cls(
                stack_name=_matching(read, "STACK_NAME", STACK_NAME, "labloop"),
                profile=cast(
                    Profile, read.choice("COMPOSE_PROFILES", get_args(Profile), default="lab")
                ),
                lab_host=_host(read, "LAB_HOST", "localhost"),
                lab_domain=_host(read, "LAB_DOMAIN", ""),
                bind=_address(read, "GATEWAY_BIND", "0.0.0.0"),
                ports=_ports(read),
                nas=_nas(read),
                lab_uid=read.integer("LAB_UID", default=2000, at_least=1),
                lab_gid=read.integer("LAB_GID", default=2000, at_least=1),
                gpu=cast(GpuChoice, read.choice("GPU", get_args(GpuChoice), default="auto")),
                tls_certificate=certificate,
                tls_key=key,
                values={name: value for name, value in env.items() if value},
            )

    @property
    def has_gateway(self) -> bool:
        """A second box that only trains has nothing to show."""
        return self.profile != "trainer"

    def url(self, app: Literal["portal", "label", "files", "board"]) -> str:
        """What a browser opens."""
        if self.lab_domain:
            name = self.lab_domain if app == "portal" else f"{app}.{self.lab_domain}"
            return _https(name, self.ports["GATEWAY_PORT"])
        variable = "GATEWAY_PORT" if app == "portal" else f"GATEWAY_{app.upper()}_PORT"
        return _https(self.lab_host, self.ports[variable])

    @property
    def origins(self) -> tuple[str, ...]:
        """Where Label Studio's pages may be used from."""
        by_port = _https(self.lab_host, self.ports["GATEWAY_LABEL_PORT"])
        return tuple(dict.fromkeys((self.url("label"), by_port)))


def _https(host: str, port: int) -> str:
    shown = f"[{host}]" if ":" in host else host
    return f"https://{shown}" if port == 443 else f"https://{shown}:{port}"


def _matching(read: EnvReader, key: str, pattern: re.Pattern[str], default: str) -> str:
    value = read.text(key, default=default)
    if not pattern.fullmatch(value):
        read.problems.append(f"{key} is {value!r}, expected letters like {default!r}")
        return default
    return value


def _host(read: EnvReader, key: str, default: str) -> str:
    value = read.text(key, default=default)
    if value and not HOST_NAME.fullmatch(value) and not _is_address(value):
        read.problems.append(f"{key} is {value!r}, expected a host name or an IP address")
        return default
    return value


def _address(read: EnvReader, key: str, default: str) -> str:
    value = read.text(key, default=default)
    if not _is_address(value):
        read.problems.append(f"{key} is {value!r}, expected an IP address of this machine")
    return value


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _ports(read: EnvReader) -> dict[str, int]:
    ports: dict[str, int] = {}
    for name, usual in GATEWAY_PORTS.items():
        port = read.integer(name, default=usual, at_least=1)
        if port > 65535:
            read.problems.append(f"{name} is {port}, expected at most 65535")
        same = [other for other, number in ports.items() if number == port]
        if same:
            read.problems.append(f"{name} and {same[0]} are both {port}, expected two ports")
        ports[name] = port
    return ports


def _nas(read: EnvReader) -> NasPlace:
    given = [name for name in ("NAS_PATH", "NAS_NFS", "NAS_SMB") if read.env.get(name, "").strip()]
    if len(given) > 1:
        read.problems.append(f"{' and '.join(given)} are set, expected one place for the NAS")
    options = read.text("NAS_NFS_OPTIONS", default="")
    if not given:
        return NasPlace("home")
    if given[0] == "NAS_PATH":
        path = read.folder("NAS_PATH")
        if not path.is_absolute():
            read.problems.append(f"NAS_PATH is {str(path)!r}, expected a path from / on")
        return NasPlace("path", path)
    share = read.text(given[0])
    if given[0] == "NAS_NFS":
        if not NFS_SHARE.fullmatch(share):
            read.problems.append(f"NAS_NFS is {share!r}, expected server:/export")
        return NasPlace("nfs", share=share, options=options)
    if not SMB_SHARE.fullmatch(share):
        read.problems.append(f"NAS_SMB is {share!r}, expected //server/share")
    credentials = _file(read, "NAS_SMB_CREDENTIALS")
    if credentials is None:
        read.problems.append("NAS_SMB_CREDENTIALS is not set, expected a file for mount.cifs")
    return NasPlace("smb", share=share, credentials=credentials)


def _file(read: EnvReader, key: str) -> Path | None:
    value = read.text(key, default="")
    if not value:
        return None
    path = Path(value)
    if not path.is_file():
        read.problems.append(f"{key} is {value!r}, expected a file")
    return path.absolute()


def require_gateway(settings: LabSettings, what: str) -> None:
    """For verbs that make no sense on a box that only trains.

    Raises:
        UsageError: this is such a box.
    """
    if not settings.has_gateway:
        raise UsageError(
            f"this box only trains (COMPOSE_PROFILES=trainer), so it has no {what}",
            hint="Do it on the lab's first box.",
        )
