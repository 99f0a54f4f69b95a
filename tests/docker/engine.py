"""The Docker engine as the tests use it: the `docker` program, containers that are locked up."""

import json
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

OLDEST = 25  # knows --start-interval, without which a start is noticed half a minute late
UID = GID = 2000  # the lab's, as the images have them unless told otherwise
# What compose.yaml will ask of every container.
LOCKED_UP = (
    *("--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL"),
    *("--security-opt", "no-new-privileges"),
)


def docker(*words: str, timeout_s: float = 120.0) -> str:
    """What the program said; the test fails, with its words, when it failed."""
    answer = try_docker(*words, timeout_s=timeout_s)
    if answer.returncode != 0:
        pytest.fail(f"docker {' '.join(words)}:\n{answer.stdout[-1000:]}{answer.stderr[-3000:]}")
    return answer.stdout.strip()


def try_docker(*words: str, timeout_s: float = 120.0) -> subprocess.CompletedProcess[str]:
    command = ["docker", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=timeout_s)


def no_engine() -> str:
    """Why there is no engine to test with; empty when there is one."""
    try:
        answer = try_docker("version", "--format", "{{.Server.Version}}", timeout_s=20.0)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"no Docker engine: {error}; `.ci/engine start` starts one"
    if answer.returncode != 0:
        return f"no Docker engine answers ({answer.stderr.strip()}); `.ci/engine start` starts one"
    if int(answer.stdout.split(".")[0]) < OLDEST:
        return f"the Docker engine is {answer.stdout.strip()}, expected {OLDEST} or newer"
    return ""


def wait_for(what: str, look: Callable[[], bool], limit_s: float) -> None:
    deadline = time.monotonic() + limit_s
    while not look():
        if time.monotonic() > deadline:
            pytest.fail(f"not within {limit_s:.0f} s: {what}")
        time.sleep(0.25)


@dataclass(frozen=True, slots=True)
class Mount:
    """A folder or file of this machine, at the same time in a container."""

    source: Path
    target: str
    read_only: bool = False

    @property
    def words(self) -> tuple[str, str]:
        return ("--volume", f"{self.source}:{self.target}" + (":ro" if self.read_only else ""))


@dataclass(frozen=True, slots=True)
class Container:
    """One container that a test started."""

    name: str

    @classmethod
    def run(
        cls,
        name: str,
        image: str,
        *command: str,
        network: str,
        environment: Mapping[str, str] | None = None,
        mounts: tuple[Mount, ...] = (),
        words: tuple[str, ...] = LOCKED_UP,
    ) -> "Container":
        given = [f"{key}={value}" for key, value in (environment or {}).items()]
        alias = name.rpartition("--")[2]
        docker(
            *("run", "--detach", "--name", name, "--network", network),
            *("--network-alias", alias, "--network-alias", f"{alias}.internal", *words),
            # A second in place of the images' half minute: the tests wait for it.
            *("--health-interval", "1s", "--health-timeout", "6s", "--health-retries", "2"),
            *(word for one in given for word in ("--env", one)),
            *(word for mount in mounts for word in mount.words),
            *(image, *command),
        )
        return cls(name)

    def inspect(self) -> dict[str, Any]:
        return dict(json.loads(docker("inspect", self.name))[0])

    def logs(self) -> str:
        answer = try_docker("logs", self.name)
        return answer.stdout + answer.stderr

    @property
    def address(self) -> str:
        networks = self.inspect()["NetworkSettings"]["Networks"]
        return str(next(iter(networks.values()))["IPAddress"])

    def health(self) -> str:
        state = self.inspect()["State"]
        return str(state["Health"]["Status"]) if state["Running"] else "ended"

    def reason(self) -> str:
        """What the last health check said."""
        looks = self.inspect()["State"]["Health"]["Log"] or [{"Output": ""}]
        return str(looks[-1]["Output"])

    def wait_until(self, health: str, limit_s: float) -> None:
        """Return once the health check says so; after that fail with its reason and the log."""
        deadline = time.monotonic() + limit_s
        while (found := self.health()) != health:
            if found == "ended" or time.monotonic() > deadline:
                why = f"{found} ({self.reason().strip()}), expected {health}"
                pytest.fail(f"{self.name} is {why}; its log:\n{self.logs()[-3000:]}")
            time.sleep(0.25)

    def wait_until_ended(self, limit_s: float) -> int:
        wait_for(f"{self.name} ended", lambda: not self.inspect()["State"]["Running"], limit_s)
        return int(self.inspect()["State"]["ExitCode"])

    def execute(self, *command: str) -> str:
        return docker("exec", self.name, *command)

    def hang(self) -> None:
        """Stop every process in it, as a loop that never comes back would look from outside."""
        try_docker("exec", self.name, "sh", "-c", "kill -STOP -1")
        docker("kill", "--signal", "STOP", self.name)

    def go_on(self) -> None:
        docker("kill", "--signal", "CONT", self.name)
        try_docker("exec", self.name, "sh", "-c", "kill -CONT -1")

    def remove(self) -> None:
        try_docker("rm", "--force", "--volumes", self.name)
