"""Reads settings from the environment and reports every problem at once.

Used by the `settings.py` of each process; nothing else reads the environment.
"""

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self


class SettingsError(Exception):
    """The environment does not hold usable settings. Every problem is listed."""

    hint = "See .env.example for each setting, its unit and its default."

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


class EnvReader:
    """A context manager that collects problems and raises them together on leaving.

    After a problem a reader method returns a harmless value, so that the rest is read too;
    the record built from it never gets out of the `with` block.
    """

    def __init__(self, env: Mapping[str, str]) -> None:
        self.env = env
        self.problems: list[str] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        if self.problems and error is None:
            raise SettingsError(self.problems)

    def __call__(self, key: str, default: str | None) -> str | None:
        value = self.env.get(key, "").strip()
        if value:
            return value
        if default is None:
            self.problems.append(f"{key} is not set")
        return default

    def text(self, key: str, default: str | None = None) -> str:
        return self(key, default) or ""

    def folder(self, key: str, default: str | None = None) -> Path:
        """A path; whether the folder is there is the NAS marker's business."""
        return Path(self(key, default) or ".")

    def integer(self, key: str, default: int | None = None, at_least: int = 0) -> int:
        text = self(key, None if default is None else str(default))
        try:
            value = int(text) if text is not None else at_least
        except ValueError:
            self.problems.append(f"{key} is {text!r}, expected a whole number")
            return at_least
        if value < at_least:
            self.problems.append(f"{key} is {value}, expected at least {at_least}")
        return value

    def number(self, key: str, default: float | None = None, at_least: float = 0.0) -> float:
        text = self(key, None if default is None else str(default))
        try:
            value = float(text) if text is not None else at_least
        except ValueError:
            self.problems.append(f"{key} is {text!r}, expected a number")
            return at_least
        if not value >= at_least:
            self.problems.append(f"{key} is {value}, expected at least {at_least:g}")
        return value

    def choice(self, key: str, options: tuple[str, ...], default: str) -> str:
        value = self(key, default) or default
        if value not in options:
            self.problems.append(f"{key} is {value!r}, expected one of {', '.join(options)}")
        return value

    def secret(self, key: str) -> str:
        """The content of the file that `key` names. Never logged, no default."""
        path = self(key, None)
        if path is None:
            return ""
        try:
            value = Path(path).read_text(encoding="utf-8").strip()
        except OSError as error:
            self.problems.append(f"{key}: cannot read the secret file: {error.strerror}")
            return ""
        if not value:
            self.problems.append(f"{key}: the secret file is empty")
        return value
