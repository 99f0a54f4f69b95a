"""Takes values out of a document and collects every problem of one file on the way through it."""

import re
import shlex
from collections.abc import Set
from pathlib import Path
from typing import Any, Literal, cast, get_args

from stack.compose.units import parse_duration, parse_size
from stack.errors import ComposeError

Condition = Literal["service_started", "service_healthy", "service_completed_successfully"]
CONDITIONS: tuple[Condition, ...] = get_args(Condition)
VARIABLE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class Reader:
    """After a problem a method returns a harmless value, so that the rest is read, too."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.problems: list[str] = []

    def problem(self, where: str, found: object, expected: str) -> None:
        self.problems.append(f"{where} is {found!r}, expected {expected}")

    def finish(self) -> None:
        if self.problems:
            raise ComposeError(self.path, list(dict.fromkeys(self.problems)))

    def mapping(self, value: object, where: str) -> dict[str, Any]:
        if value is None:
            return {}
        if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
            self.problem(where, value, "a mapping with text keys")
            return {}
        return value

    def section(self, value: object, where: str, known: Set[str]) -> dict[str, Any]:
        """A mapping with these keys at most; `x-…` is everybody's own business."""
        mapping = self.mapping(value, where)
        self.problems += [
            f"{where}: {key} is not understood"
            for key in mapping
            if key not in known and not key.startswith("x-")
        ]
        return mapping

    def text(self, value: object, where: str) -> str:
        if isinstance(value, str):
            return value
        self.problem(where, value, "text")
        return ""

    def text_or_none(self, value: object, where: str) -> str | None:
        return None if value is None else self.text(value, where)

    def texts(self, value: object, where: str) -> tuple[str, ...]:
        if value is None:
            return ()
        if not isinstance(value, list):
            self.problem(where, value, "a list of texts")
            return ()
        return tuple(self.text(entry, f"{where}[{n}]") for n, entry in enumerate(value))

    def flag(self, value: object, where: str) -> bool:
        if value is None or isinstance(value, bool):
            return bool(value)
        self.problem(where, value, "true or false")
        return False

    def whole(self, value: object, where: str) -> int | None:
        """A whole number; a variable may have brought it as text."""
        if value is None:
            return None
        if isinstance(value, bool) or not re.fullmatch(r"-?\d+", str(value)):
            self.problem(where, value, "a whole number")
            return None
        return int(str(value))

    def seconds(self, value: object, where: str, default: float) -> float:
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
            self.problem(where, value, "seconds, more than 0")
            return default
        return float(value)

    def duration_s(self, value: object, where: str) -> float | None:
        if value is None:
            return None
        found = parse_duration(value) if isinstance(value, str) else None
        if found is None:
            self.problem(where, value, "a duration such as 30s or 1m30s")
        return found

    def size_bytes(self, value: object, where: str) -> int | None:
        if value is None:
            return None
        usable = isinstance(value, str | int) and not isinstance(value, bool)
        found = parse_size(str(value)) if usable else None
        if found is None:
            self.problem(where, value, "a size such as 512m or 2g")
        return found

    def words(self, value: object, where: str) -> tuple[str, ...]:
        """A command: its words, or a line that is split as a shell would."""
        try:
            parts = shlex.split(value) if isinstance(value, str) else value
        except ValueError:  # a quote that is never closed
            parts = None
        if not isinstance(parts, list) or not parts:
            self.problem(where, value, "a command line or a list of its words")
            return ()
        return tuple(self.text(part, where) for part in parts)

    def environment(self, value: object, where: str) -> dict[str, str | None]:
        """Names and values; None is handed through from the settings, if it is set there."""
        environment: dict[str, str | None] = {}
        for key, entry in self.mapping(value, where).items():
            if not VARIABLE_NAME.fullmatch(key):
                self.problem(f"{where}.{key}", key, "the name of an environment variable")
            environment[key] = None if entry is None else self._value(entry, f"{where}.{key}")
        return environment

    def options(self, value: object, where: str) -> dict[str, str]:
        """Names and values, as in `labels` and `driver_opts`."""
        entries = self.mapping(value, where).items()
        return {key: self._value(entry, f"{where}.{key}") for key, entry in entries}

    def _value(self, entry: object, where: str) -> str:
        if isinstance(entry, bool) or not isinstance(entry, str | int | float):
            self.problem(where, entry, "text or a number (true and false in quotes)")
        return str(entry)

    def depends_on(self, value: object, where: str) -> dict[str, Condition]:
        if isinstance(value, list):
            return {self.text(name, where): "service_started" for name in value}
        conditions: dict[str, Condition] = {}
        for name, entry in self.mapping(value, where).items():
            section = self.section(entry, f"{where}.{name}", {"condition"})
            condition = section.get("condition", "service_started")
            if condition not in CONDITIONS:
                self.problem(f"{where}.{name}.condition", condition, " or ".join(CONDITIONS))
            conditions[name] = cast(Condition, condition)
        return conditions
