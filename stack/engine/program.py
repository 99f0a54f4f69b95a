"""Runs the program `docker`, and tells how it ended; what an end means, its callers know."""

import os
import subprocess
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from stack.errors import StackError

TAIL_LINES = 15
TAIL_LENGTH = 2000
TOO_LATE = 124  # as a shell's `timeout` reports it


class NoProgramError(StackError):
    """There is no such program on this machine."""

    hint = "Install Docker Engine and Compose; docs/operate.md says which."


@dataclass(frozen=True, slots=True)
class Answer:
    """What a call came to."""

    exit_code: int
    output: str
    said: str  # the last lines of stderr, or of stdout


def ask(
    command: Sequence[str],
    environment: Mapping[str, str],
    *,
    timeout_s: float,
    input_text: str | None = None,
) -> Answer:
    """Run it to the end, whatever comes of it; one that takes too long is ended.

    Raises:
        NoProgramError: it is not there.
    """
    try:
        answer = subprocess.run(
            command,
            env=surroundings(environment),
            input=input_text,
            stdin=subprocess.DEVNULL if input_text is None else None,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            timeout=timeout_s,
        )
    except FileNotFoundError as error:
        raise NoProgramError(f"the program `{command[0]}` is not there") from error
    except subprocess.TimeoutExpired:
        return Answer(TOO_LATE, "", f"no end within {timeout_s:.0f} s")
    lines = (answer.stderr.strip() or answer.stdout.strip()).splitlines()
    return Answer(answer.returncode, answer.stdout, tail_of(lines))


def stream(
    command: Sequence[str], environment: Mapping[str, str], on_line: Callable[[str], None]
) -> Answer:
    """Hand on every line while it runs, those of stderr, too; none is kept.

    Raises:
        NoProgramError: it is not there.
    """
    last: deque[str] = deque(maxlen=TAIL_LINES)
    try:
        process = subprocess.Popen(
            command,
            env=surroundings(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
    except FileNotFoundError as error:
        raise NoProgramError(f"the program `{command[0]}` is not there") from error
    with process:
        for line in process.stdout or ():
            last.append(line.rstrip())
            on_line(line.rstrip())
    return Answer(process.returncode, "", tail_of(last))


def surroundings(environment: Mapping[str, str]) -> dict[str, str]:
    """An environment in which programs are found, if nothing else."""
    return {"PATH": os.defpath, **environment}


def tail_of(lines: Iterable[str]) -> str:
    """The last words, without Compose's complaints about variables that nobody set."""
    said = [line.strip() for line in lines if line.strip() and "variable is not set" not in line]
    return " | ".join(said[-TAIL_LINES:])[-TAIL_LENGTH:]
