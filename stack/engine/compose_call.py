"""Calls `docker compose` for one stack: the hand that changes what runs.

What runs and how it is, the Docker SDK tells (engine.py). Compose converges.
"""

import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from stack.engine import program
from stack.errors import StackError

LIMIT_S = 1800.0  # nothing that Compose does by itself takes longer; builds have no limit


class ComposeFailedError(StackError):
    """`docker compose` said no."""

    hint = "`labloop doctor` looks at the machine; `labloop logs SERVICE` shows a service's words."

    def __init__(self, words: Sequence[str], exit_code: int, tail: str) -> None:
        what = " ".join(words[:3])
        super().__init__(f"docker compose {what} ended with exit code {exit_code}: {tail}")
        self.words = tuple(words)
        self.code = exit_code  # the program's, where it was a container's
        self.tail = tail


@dataclass(frozen=True, slots=True)
class Compose:
    """`docker compose` with the files and variables of one stack."""

    project: str
    folder: Path  # of the repository: relative paths in the files start here
    files: tuple[Path, ...]  # compose.yaml first, then the overrides
    env_file: Path  # every variable, so that nothing else is looked for
    profile: str
    environment: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def command(self) -> list[str]:
        """What all calls begin with; also what a person may type."""
        words = ["docker", "compose", "--project-name", self.project]
        words += ["--project-directory", str(self.folder), "--env-file", str(self.env_file)]
        words += ["--profile", self.profile]
        return [*words, *(word for file in self.files for word in ("--file", str(file)))]

    def run(
        self,
        *words: str,
        input_text: str | None = None,
        timeout_s: float = LIMIT_S,
    ) -> str:
        """What it wrote to stdout.

        Raises:
            ComposeFailedError: it ended with another exit code than 0, or took too long.
        """
        command = [*self.command, *words]
        answer = program.ask(command, self.environment, timeout_s=timeout_s, input_text=input_text)
        if answer.exit_code != 0:
            raise ComposeFailedError(words, answer.exit_code, answer.said)
        return answer.output

    def stream(self, *words: str, on_line: Callable[[str], None]) -> None:
        """Hand on every line while it runs, those of stderr, too.

        Raises:
            ComposeFailedError: it ended with another exit code than 0.
        """
        answer = program.stream([*self.command, *words], self.environment, on_line)
        if answer.exit_code != 0:
            raise ComposeFailedError(words, answer.exit_code, answer.said)

    def execute(self, service: str, *command: str, input_text: str | None = None) -> str:
        """Run a program in a service's container; what it wrote to stdout."""
        return self.run("exec", "-T", service, *command, input_text=input_text)

    def one_shot(
        self,
        service: str,
        *command: str,
        volumes: Sequence[str] = (),
        entrypoint: str | None = None,
        input_text: str | None = None,
    ) -> str:
        """Run a program in a new container of a service, which is removed; its stdout."""
        words = ["run", "--rm", "--no-deps", "-T", "--quiet-pull"]
        words += [word for volume in volumes for word in ("--volume", volume)]
        words += ["--entrypoint", entrypoint] if entrypoint is not None else []
        return self.run(*words, service, *command, input_text=input_text)

    def call_through(self, words: Sequence[str]) -> int:
        """A person's own call, in their terminal; its exit code."""
        environment = program.surroundings(self.environment)
        return subprocess.run([*self.command, *words], env=environment, check=False).returncode
