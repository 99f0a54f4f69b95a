"""The errors of the stack: what can go wrong while services are started, watched and stopped.

StackError (exit code 1)
├── UsageError (2)           the command line or the settings are wrong
│   ├── ComposeError         compose.yaml says something we do not understand
│   ├── UnknownServiceError  there is no such service
│   ├── PortTakenError       a port that was asked for is in use
│   └── NoHomeError          there is no home at that place
├── NotInstalledError        an environment is missing; `labloop setup` makes it
├── AlreadyRunningError      this home has a supervisor already
├── NotReadyError            the stack did not become healthy in time
└── RefusedError (3)         going on could harm data; a person must decide

The message says what was found and what was expected; `hint` says what to do next.
"""

from collections.abc import Iterable
from pathlib import Path


class StackError(Exception):
    """Root of the tree: the stack cannot do what was asked."""

    hint = ""
    exit_code = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        if hint is not None:
            self.hint = hint


class UsageError(StackError):
    """The command line or the settings are wrong."""

    hint = "`labloop --help` lists the verbs, .env.example the settings."
    exit_code = 2


class ComposeError(UsageError):
    """The description of the stack is not usable. The message lists every problem found in it."""

    hint = "stack/README.md says which part of the Compose format is understood."

    def __init__(self, where: Path, problems: list[str]) -> None:
        super().__init__(f"{where}: " + "; ".join(problems))
        self.problems = problems


class UnknownServiceError(UsageError):
    """There is no service of that name."""

    def __init__(self, found: str, expected: Iterable[str]) -> None:
        super().__init__(f"service is {found!r}, expected one of {', '.join(sorted(expected))}")


class NotInstalledError(StackError):
    """A program that a service needs is not there."""

    hint = "Run `make setup`; it makes and repairs the environments."


class AlreadyRunningError(StackError):
    """This home has a supervisor already."""

    hint = "`labloop status` shows it, `labloop down` stops it."


class PortTakenError(UsageError):
    """A port that was asked for by number is in use."""

    hint = "Choose another number, or leave --port out and a free one is chosen."


class NoHomeError(UsageError):
    """There is no home at that place."""

    def __init__(self, root: Path) -> None:
        hint = f"`labloop up --local --home {root}` makes it; or name another with --home."
        super().__init__(f"there is no home at {root}", hint=hint)


class NotReadyError(StackError):
    """The stack did not become healthy in time."""

    hint = "The rest keeps running; `labloop down` stops it. `labloop logs SERVICE` shows more."


class RefusedError(StackError):
    """Going on could harm data, so a person must decide."""

    exit_code = 3
