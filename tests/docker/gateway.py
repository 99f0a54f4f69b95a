"""A gateway as compose.yaml starts it, on a network with what is to be behind it."""

import os
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import httpx

from stack.environments import ROOT
from tests.docker.bases import CADDY, PYTHON, ensure_base
from tests.docker.engine import GID, LOCKED_UP, UID, Container, Mount, docker, try_docker

PORTAL, LABEL, FILES, BOARD = 8443, 8444, 8445, 8446  # inside
PUBLISHED = {
    "GATEWAY_PORT": "20443",
    "GATEWAY_LABEL_PORT": "28443",
    "GATEWAY_FILES_PORT": "29443",
    "GATEWAY_BOARD_PORT": "26443",
}
WORDS = (
    *LOCKED_UP,
    *("--user", f"{UID}:{GID}", "--cap-add", "NET_BIND_SERVICE", "--init"),
    *("--tmpfs", f"/config:uid={UID},mode=0700", "--memory", "256m"),
    *("--health-cmd", "sh /etc/caddy/health.sh", "--health-start-period", "20s"),
)


@dataclass(frozen=True)
class Gateway:
    """One started gateway, asked as a browser asks: by a name, with a certificate to check."""

    container: Container
    host: str  # its LAB_HOST
    authority: str = field(default="", repr=False)  # a root, where it is not the gateway's own

    @cached_property
    def address(self) -> str:
        return self.container.address

    @cached_property
    def trust(self) -> ssl.SSLContext:
        root = self.authority or self.plain("/ca.crt").text
        return ssl.create_default_context(cadata=root)

    def plain(self, path: str, host: str | None = None) -> httpx.Response:
        url = f"http://{self.address}:8080{path}"
        return httpx.get(url, headers={"Host": host or self.host}, trust_env=False)

    def ask(
        self,
        port: int,
        path: str = "/",
        *,
        host: str | None = None,
        method: str = "GET",
        headers: Mapping[str, str] | None = None,
        content: Any = None,
    ) -> httpx.Response:
        """As a browser that was given `https://host:port/path`. An IP address sends no SNI."""
        name = host or self.host
        with httpx.Client(verify=self.trust, trust_env=False, timeout=60.0) as client:
            return client.request(
                method,
                f"https://{self.address}:{port}{path}",
                headers={"Host": name, **(headers or {})},
                content=content,
                extensions={"sni_hostname": name},
            )


@dataclass
class Street:
    """A network without a way out, the houses on it, and the gateways before it."""

    name: str = field(default_factory=lambda: f"labloop-gateway-{os.getpid()}")
    containers: list[Container] = field(default_factory=list)
    volumes: list[str] = field(default_factory=list)

    def open(self) -> None:
        docker("network", "create", "--internal", self.name)

    def close(self) -> None:
        for container in self.containers:
            container.remove()
        for volume in self.volumes:
            try_docker("volume", "rm", volume)
        try_docker("network", "rm", self.name)

    def build(
        self, name: str, image: str, *command: str, words: tuple[str, ...], **more: Any
    ) -> Container:
        container = Container.run(
            f"{self.name}--{name}", image, *command, network=self.name, words=words, **more
        )
        self.containers.append(container)
        return container

    def stand_in(self, *aliases: str) -> Container:
        names = (word for alias in aliases for word in ("--network-alias", alias))
        script = Mount(Path(__file__).parent / "stand_in.py", "/stand_in.py", read_only=True)
        command = ("python3", "/stand_in.py")
        return self.build(
            "apps", ensure_base(PYTHON), *command, words=(*LOCKED_UP, *names), mounts=(script,)
        )

    def gateway(
        self, name: str, host: str, mounts: tuple[Mount, ...] = (), **environment: str
    ) -> Container:
        volume = f"{self.name}-{name}"
        docker("volume", "create", volume)
        self.volumes.append(volume)
        base = ensure_base(CADDY)
        docker("run", "--rm", "--volume", f"{volume}:/v", base, "chown", f"{UID}:{GID}", "/v")
        container = self.build(
            name,
            base,
            *("sh", "/etc/caddy/start.sh"),
            words=(*WORDS, "--volume", f"{volume}:/data:nocopy"),
            environment={"LAB_HOST": host, **PUBLISHED, **environment},
            mounts=(Mount(ROOT / "services" / "gateway", "/etc/caddy", read_only=True), *mounts),
        )
        container.wait_until("healthy", 30.0)
        return container
