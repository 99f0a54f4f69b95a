"""What people see in their terminal: lines, tables, progress. With stack/cli.py, all that prints.

Standard library only: `make setup` uses it before anything is installed.
"""

import sys
import time
from collections.abc import Iterable, Mapping, Sequence

CODES = {"red": "31", "green": "32", "yellow": "33", "blue": "34", "grey": "90", "bold": "1"}
SPEAK_EVERY_S = 10.0  # where no line can be rewritten: a log file, a CI job


def say(text: str = "") -> None:
    """One line for the person, on stdout."""
    print(text, flush=True)


def ask(question: str) -> str:
    """What a person types behind the question; empty where nobody can."""
    if not sys.stdin.isatty():
        return ""
    print(question, end="", flush=True)
    return sys.stdin.readline().strip()


def complain(message: str, hint: str = "") -> None:
    """What went wrong and what to do about it, on stderr."""
    print(f"{paint('error:', 'red', sys.stderr.isatty())} {message}", file=sys.stderr)
    if hint:
        print(f"{paint('hint:', 'blue', sys.stderr.isatty())}  {hint}", file=sys.stderr)


def warn(message: str) -> None:
    """Something that may need a look, on stderr."""
    print(f"{paint('note:', 'yellow', sys.stderr.isatty())} {message}", file=sys.stderr)


def paint(text: str, color: str, is_terminal: bool | None = None) -> str:
    """The text in colour, where a person looks at it in a terminal."""
    if sys.stdout.isatty() if is_terminal is None else is_terminal:
        return f"\033[{CODES[color]}m{text}\033[0m"
    return text


def table(
    headers: Sequence[str], rows: Iterable[Sequence[str]], colors: Mapping[str, str] | None = None
) -> None:
    """Rows under headers, in columns as wide as they must be.

    Args:
        headers: one for each column.
        rows: the cells; those of the last column may run on.
        colors: cell → colour, for cells that are one of a few words.
    """
    lines = [list(headers), *[list(row) for row in rows]]
    widths = [max(len(line[column]) for line in lines) for column in range(len(headers))]
    for line in lines:
        cells = zip(line, widths, strict=True)
        words = [_painted(cell, (colors or {}).get(cell), width) for cell, width in cells]
        say("  ".join(words).rstrip())


def _painted(cell: str, color: str | None, width: int) -> str:
    padding = " " * (width - len(cell))
    return (paint(cell, color) if color else cell) + padding


class Progress:
    """One thing that takes a while: rewrites its line on a terminal, else speaks now and then."""

    def __init__(self, what: str, usual: str = "") -> None:
        self.what = what + (f" (usually {usual})" if usual else "")
        self.begun = self.spoken = time.monotonic()
        self.is_terminal = sys.stdout.isatty()
        if not self.is_terminal:
            say(f"{self.what} …")

    @property
    def took_s(self) -> float:
        return time.monotonic() - self.begun

    def tell(self, detail: str) -> None:
        """What is happening right now."""
        if self.is_terminal:
            print(f"\r\033[K{self.what}: {self.took_s:.0f} s, {detail}", end="", flush=True)
        elif time.monotonic() - self.spoken >= SPEAK_EVERY_S:
            self.spoken = time.monotonic()
            say(f"    {self.took_s:.0f} s, {detail}")

    def finish(self, detail: str = "done") -> None:
        """The last word about it."""
        start = "\r\033[K" if self.is_terminal else ""
        print(f"{start}{self.what}: {detail} after {self.took_s:.0f} s", flush=True)
