"""Looks at the Docker engine through its SDK, and does the few small things that Compose does not.

The SDK is imported when it is needed: `labloop --help` and the local runner know nothing of it.
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stack.errors import StackError

if TYPE_CHECKING:
    from docker import DockerClient

TIMEOUT_S = 30.0
PROJECT_LABEL = "com.docker.compose.project"
SERVICE_LABEL = "com.docker.compose.service"
HASH_LABEL = "com.docker.compose.config-hash"
ONE_OFF_LABEL = "com.docker.compose.oneoff"
STACK_LABEL = "org.labloop.stack"  # on volumes, which Compose does not know as its own
REASON_LENGTH = 300


class EngineError(StackError):
    """The engine does not answer, or refused what was asked."""

    hint = "Is Docker running, and may this user talk to it? `docker version` tells."


@dataclass(frozen=True, slots=True)
class EngineInfo:
    """What the engine says of itself."""

    version: str
    root: Path  # where images and volumes lie
    runtimes: tuple[str, ...]
    operating_system: str
    raw: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ContainerState:
    """One container of the stack, as it is now."""

    service: str
    name: str
    status: str  # created, running, exited, …
    health: str  # healthy, unhealthy, starting; empty without a check
    reason: str  # the last words of its health check
    exit_code: int
    restarts: int
    since: str
    image: str
    config_hash: str
    ports: tuple[tuple[str, int], ...]  # addresses and ports of this machine

    @property
    def is_well(self) -> bool:
        """Healthy; or one that has ended as it should."""
        if self.status == "exited":
            return self.exit_code == 0
        return self.status == "running" and self.health in ("", "healthy")


class Engine:
    """The Docker engine of this machine, or of the one that DOCKER_HOST names."""

    def __init__(self, client: DockerClient) -> None:
        self._client = client

    @classmethod
    @contextmanager
    def connected(cls) -> Iterator[Engine]:
        """An engine that answers.

        Raises:
            EngineError: none does.
        """
        import docker
        from docker.errors import DockerException

        try:
            # Any version: an old engine is a finding of the preflight, not a traceback.
            client = docker.from_env(version="auto", timeout=int(TIMEOUT_S))
        except DockerException as error:
            raise EngineError(f"no Docker engine answers: {_words(error)}") from error
        try:
            yield cls(client)
        except DockerException as error:
            raise EngineError(f"the Docker engine refused: {_words(error)}") from error
        finally:
            client.close()

    def info(self) -> EngineInfo:
        version, info = self._client.version(), self._client.info()
        return EngineInfo(
            version=str(version.get("Version", "")),
            root=Path(info.get("DockerRootDir", "/var/lib/docker")),
            runtimes=tuple(sorted(info.get("Runtimes", {}))),
            operating_system=str(info.get("OperatingSystem", "")),
            raw=info,
        )

    def containers(self, project: str) -> list[ContainerState]:
        """The stack's containers, those that ended, too; not what a person ran besides."""
        return self._containers(project, is_one_off=False)

    def one_offs(self, project: str) -> list[ContainerState]:
        """Containers of `docker compose run`: a backup, or what a person ran."""
        return self._containers(project, is_one_off=True)

    def _containers(self, project: str, *, is_one_off: bool) -> list[ContainerState]:
        wanted = {"label": [f"{PROJECT_LABEL}={project}", f"{ONE_OFF_LABEL}={is_one_off}"]}
        found = self._client.api.containers(all=True, filters=wanted)
        states = [self._state(entry["Id"]) for entry in found]
        return sorted((one for one in states if one is not None), key=lambda one: one.service)

    def _state(self, container_id: str) -> ContainerState | None:
        from docker.errors import NotFound

        try:
            record = self._client.api.inspect_container(container_id)
        except NotFound:  # removed since it was listed
            return None
        return container_state(record)

    def stop(self, names: Iterable[str]) -> None:
        """Let containers end by themselves, as long as each may take."""
        for name in names:
            self._client.containers.get(name).stop()

    def start(self, names: Iterable[str]) -> None:
        for name in names:
            self._client.containers.get(name).start()

    def logs(self, name: str, lines: int) -> list[str]:
        """The last lines a container wrote."""
        text = self._client.api.logs(name, stdout=True, stderr=True, tail=lines)
        return [line for line in text.decode("utf-8", "replace").splitlines() if line]

    def volumes(self, stack: str) -> list[str]:
        """The names of the stack's volumes."""
        found = self._client.volumes.list(filters={"label": f"{STACK_LABEL}={stack}"})
        return sorted(str(volume.name) for volume in found)

    def volume_options(self, name: str) -> Mapping[str, str] | None:
        """How a volume is mounted; None when there is no such volume."""
        from docker.errors import NotFound

        try:
            record = self._client.api.inspect_volume(name)
        except NotFound:
            return None
        return dict(record.get("Options") or {})

    def volume_folder(self, name: str) -> Path:
        """Where this machine has it, while a container uses it."""
        return Path(self._client.api.inspect_volume(name)["Mountpoint"])

    def make_volume(self, name: str, stack: str, options: Mapping[str, str]) -> None:
        self._client.volumes.create(
            name=name, driver="local", driver_opts=dict(options), labels={STACK_LABEL: stack}
        )

    def remove_volume(self, name: str) -> None:
        self._client.api.remove_volume(name)

    def run_as_root(
        self, image: str, script: str, mounts: Mapping[str, str], arguments: Sequence[str] = ()
    ) -> str:
        """Run a shell script in a container that is gone afterwards; what it wrote.

        The engine's root may give files to the services' users, which the person who calls us may
        not. It sees nothing but the mounts, and has no network.

        Args:
            image: any with a shell and coreutils or busybox.
            script: for `sh -ec`.
            mounts: folder of this machine or volume → where the script finds it.
            arguments: $1, $2, … of the script.

        Raises:
            EngineError: the script failed; with its words.
        """
        rights = ("CHOWN", "DAC_OVERRIDE", "FOWNER")
        return self._run_helper(image, script, mounts, arguments, user="0:0", rights=rights)

    def run_as(self, user: str, image: str, script: str, mounts: Mapping[str, str]) -> str:
        """The same as somebody else, `uid:gid`, with no rights at all."""
        return self._run_helper(image, script, mounts, (), user=user, rights=())

    def _run_helper(
        self,
        image: str,
        script: str,
        mounts: Mapping[str, str],
        arguments: Sequence[str],
        *,
        user: str,
        rights: Sequence[str],
    ) -> str:
        from docker.errors import APIError

        container = self._client.containers.create(
            image,
            entrypoint=["sh", "-ec", script, "sh"],
            command=list(arguments),
            user=user,
            network_mode="none",
            read_only=True,
            cap_drop=["ALL"],
            cap_add=list(rights),
            security_opt=["no-new-privileges:true"],
            volumes=[f"{source}:{target}" for source, target in mounts.items()],
        )
        try:
            container.start()  # mounts the volumes, too
            code = int(container.wait()["StatusCode"])
            said = {
                stream: container.logs(stdout=stream == "out", stderr=stream == "err")
                for stream in ("out", "err")
            }
        except APIError as error:
            raise EngineError(f"a helper container of {image}: {_words(error)}") from error
        finally:
            container.remove(force=True, v=True)
        if code != 0:
            raise EngineError(
                f"a helper container of {image} ended with exit code {code}: "
                f"{bytes(said['err']).decode('utf-8', 'replace').strip()}",
                hint="The files it was to prepare are in the home's secrets/ and in its volumes.",
            )
        return bytes(said["out"]).decode("utf-8", "replace")

    def read_file(self, container: str, path: str) -> bytes:
        """A small file out of a container."""
        with tarfile.open(fileobj=io.BytesIO(self.archive(container, path))) as archive:
            member = archive.extractfile(archive.next() or "")
            return member.read() if member is not None else b""

    def archive(self, container: str, path: str) -> bytes:
        """A file or a small folder out of a container, running or not, as a tar.

        Raises:
            EngineError: there is no such file.
        """
        from docker.errors import APIError

        try:
            chunks, _ = self._client.api.get_archive(container, path)
            return b"".join(chunks)
        except APIError as error:
            raise EngineError(f"{path} of {container} cannot be read: {_words(error)}") from error


def container_state(record: Mapping[str, Any]) -> ContainerState:
    """What `docker inspect` says, as far as we need it."""
    state, config = record["State"], record["Config"]
    labels = config.get("Labels") or {}
    health = state.get("Health") or {}
    looks = health.get("Log") or []
    reason = " ".join(str(looks[-1].get("Output", "")).split()) if looks else ""
    bound = (record.get("HostConfig") or {}).get("PortBindings") or {}
    ports = [
        (str(binding.get("HostIp") or "0.0.0.0"), int(binding["HostPort"]))
        for bindings in bound.values()
        for binding in bindings or ()
    ]
    is_over = state["Status"] == "exited"
    return ContainerState(
        service=str(labels.get(SERVICE_LABEL, record["Name"])),
        name=str(record["Name"]).removeprefix("/"),
        status=str(state["Status"]),
        health="" if is_over else str(health.get("Status", "")).replace("none", ""),
        reason=(str(state.get("Error") or "") or reason)[:REASON_LENGTH],
        exit_code=int(state.get("ExitCode", 0)),
        restarts=int(record.get("RestartCount", 0)),
        since=str(state.get("FinishedAt" if is_over else "StartedAt", ""))[:19] + "Z",
        image=str(config.get("Image", "")),
        config_hash=str(labels.get(HASH_LABEL, "")),
        ports=tuple(sorted(ports)),
    )


def _words(error: Exception) -> str:
    return " ".join(str(error).split())[:REASON_LENGTH]
