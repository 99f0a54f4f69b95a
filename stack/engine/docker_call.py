"""Calls the program `docker` for what neither Compose nor the SDK does well: pull, save, load.

Those show how far they are on the terminal's own lines, and read and write whole archives.
"""

import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import MappingProxyType

from stack.engine import program
from stack.engine.lab import docker_environment
from stack.engine.program import Answer
from stack.errors import StackError
from stack.settings import inherited_environment

LIMIT_S = 60.0


class DockerFailedError(StackError):
    """`docker` said no."""

    hint = "`docker version` tells whether the engine answers; `labloop doctor` looks further."

    def __init__(self, words: tuple[str, ...], exit_code: int, said: str) -> None:
        what = " ".join(words[:3])
        super().__init__(f"docker {what} ended with exit code {exit_code}: {said}")
        self.said = said


@dataclass(frozen=True, slots=True)
class Docker:
    """The program, with what it needs of a person's environment."""

    environment: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    program: str = "docker"

    @classmethod
    def here(cls) -> "Docker":
        return cls(docker_environment(inherited_environment()))

    def ask(self, *words: str, timeout_s: float = LIMIT_S) -> Answer:
        """Run it to the end, whatever comes of it."""
        command = [self.program, *words]
        return program.ask(command, self.environment, timeout_s=timeout_s)

    def run(self, *words: str, timeout_s: float = LIMIT_S) -> str:
        """What it wrote to stdout.

        Raises:
            DockerFailedError: it ended with another exit code than 0, or took too long.
        """
        answer = self.ask(*words, timeout_s=timeout_s)
        if answer.exit_code != 0:
            raise DockerFailedError(words, answer.exit_code, answer.said)
        return answer.output

    def stream(self, *words: str, on_line: Callable[[str], None]) -> None:
        """Hand on every line while it runs, those of stderr, too.

        Raises:
            DockerFailedError: it ended with another exit code than 0.
        """
        answer = program.stream([self.program, *words], self.environment, on_line)
        if answer.exit_code != 0:
            raise DockerFailedError(words, answer.exit_code, answer.said)

    @contextmanager
    def reading(self, *words: str) -> Iterator[subprocess.Popen[bytes]]:
        """The running program, for whoever takes its output as bytes; at the end it has ended."""
        process = subprocess.Popen(
            [self.program, *words],
            env=program.surroundings(self.environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
        )
        try:
            yield process
        finally:
            if process.stdout is not None:
                process.stdout.close()
            process.wait()
