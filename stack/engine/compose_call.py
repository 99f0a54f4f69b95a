"""Calls `docker compose` for one stack: the hand that changes what runs.

What runs and how it is, the Docker SDK tells (engine.py). Compose converges.
"""

import os
import subprocess
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from stack.errors import StackError

TAIL_LINES = 15
TAIL_LENGTH = 2000
LIMIT_S = 1800.0  # nothing that Compose does by itself takes longer; builds have no limit
NO_PROGRAM = "the program `docker` is not there"


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
        try:
            answer = subprocess.run(
                [*self.command, *words],
                env=self._environment(),
                input=input_text,
                stdin=subprocess.DEVNULL if input_text is None else None,
                capture_output=True,
                text=True,
                errors="replace",
                check=False,
                timeout=timeout_s,
            )
        except FileNotFoundError as error:
            raise StackError(NO_PROGRAM, hint="Install Docker Engine and Compose.") from error
        except subprocess.TimeoutExpired as error:
            tail = f"no end within {timeout_s:.0f} s"
            raise ComposeFailedError(words, 124, tail) from error
        if answer.returncode != 0:
            text = answer.stderr.strip() or answer.stdout.strip()
            raise ComposeFailedError(words, answer.returncode, tail_of(text.splitlines()))
        return answer.stdout

    def stream(self, *words: str, on_line: Callable[[str], None]) -> None:
        """Hand on every line while it runs, those of stderr, too.

        Raises:
            ComposeFailedError: it ended with another exit code than 0.
        """
        last: deque[str] = deque(maxlen=TAIL_LINES)
        with subprocess.Popen(
            [*self.command, *words],
            env=self._environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        ) as process:
            for line in process.stdout or ():
                last.append(line.rstrip())
                on_line(line.rstrip())
        if process.returncode != 0:
            raise ComposeFailedError(words, process.returncode, tail_of(last))

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
        return subprocess.run(
            [*self.command, *words], env=self._environment(), check=False
        ).returncode

    def _environment(self) -> dict[str, str]:
        return {"PATH": os.defpath, **self.environment}


def tail_of(lines: Sequence[str] | deque[str]) -> str:
    """The last words, without Compose's complaints about variables that nobody set."""
    said = [line.strip() for line in lines if line.strip() and "variable is not set" not in line]
    return " | ".join(list(said)[-TAIL_LINES:])[-TAIL_LENGTH:]
