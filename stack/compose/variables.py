"""Variables in a Compose file: `${NAME}`, `${NAME:-default}`, `${NAME:?message}`, and `$$`."""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

# Anything else after a dollar is an error.
REFERENCE = re.compile(
    r"\$(?:(?P<dollar>\$)"
    r"|\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?:(?P<how>:-|:\?)(?P<text>[^${}]*))?\}"
    r"|(?P<bad>))"
)

Problem = Callable[[str], None]


def fill(text: str, variables: Mapping[str, str], problem: Problem) -> str:
    """The text with every reference replaced by its value; `problem` hears what went wrong."""

    def value(match: re.Match[str]) -> str:
        if match["dollar"]:
            return "$"
        if match["name"] is None:
            problem(f"found '$' in {text!r}, expected ${{NAME}}, ${{NAME:-default}} or $$")
            return ""
        found = variables.get(match["name"], "")
        if found:
            return found
        if match["how"] == ":-":
            return match["text"]
        problem(f"{match['name']} is not set" + (f": {match['text']}" if match["text"] else ""))
        return ""

    return REFERENCE.sub(value, text)


def fill_all(value: Any, variables: Mapping[str, str], problem: Problem, where: str = "") -> Any:
    """The same for every text in a document; keys, as in Compose, are what they are."""
    if isinstance(value, str):
        return fill(value, variables, lambda text: problem(f"{where}: {text}"))
    if isinstance(value, list):
        return [
            fill_all(entry, variables, problem, f"{where}[{number}]")
            for number, entry in enumerate(value)
        ]
    if isinstance(value, dict):
        return {
            key: fill_all(entry, variables, problem, f"{where}.{key}".removeprefix("."))
            for key, entry in value.items()
        }
    return value


def references(value: Any) -> Iterator[re.Match[str]]:
    """Every reference in a document that names a variable."""
    if isinstance(value, str):
        yield from (match for match in REFERENCE.finditer(value) if match["name"])
    elif isinstance(value, list):
        for entry in value:
            yield from references(entry)
    elif isinstance(value, dict):
        for entry in value.values():
            yield from references(entry)
