"""The tag of our images: a digest of all that they are built from.

An image that is there under its tag need not be built again, here or on a box that got it in a
bundle. What counts: the Dockerfiles, the files that they copy, and what compose.yaml gives to a
build, with the settings filled in. What does not: the commit, and where packages are fetched from.
"""

import fnmatch
import hashlib
import json
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from stack.compose import REFERENCE
from stack.errors import ComposeError

COMPOSE_NAME = "compose.yaml"
DIGITS = 12
# Told to the image, but no part of what it is.
NOT_CONTENT = ("VERSION", "REVISION")
COPY = re.compile(r"^COPY\s+((?:--\S+\s+)*)(.+)$", re.MULTILINE)


def image_tag(checkout: Path, settings: Mapping[str, str]) -> str:
    """The version of the project and a digest, e.g. `0.1.0-3f2a9c01d4be`.

    Args:
        checkout: the repository.
        settings: of `.env` and the environment, those derived from REGISTRY_PREFIX included.

    Raises:
        ComposeError: compose.yaml or a Dockerfile says something that is not understood.
    """
    builds = build_sections(checkout / COMPOSE_NAME, settings)
    version = tomllib.loads((checkout / "pyproject.toml").read_text(encoding="utf-8"))
    files = _files_of(checkout, builds)
    return f"{version['project']['version']}-{digest(checkout, files, builds)}"


def image_files(checkout: Path) -> list[str]:
    """The files of the repository that our images are made of, Dockerfiles included."""
    return _files_of(checkout, build_sections(checkout / COMPOSE_NAME, {}))


def _files_of(checkout: Path, builds: Mapping[str, Any]) -> list[str]:
    dockerfiles = sorted({str(build["dockerfile"]) for build in builds.values()})
    sources = {name for file in dockerfiles for name in copied(checkout / file)}
    return [*dockerfiles, *let_in(checkout, sources)]


def settings_that_count(compose_file: Path, settings: Mapping[str, str]) -> dict[str, str]:
    """The values that images of ours depend on, by their names in the builds."""
    builds = build_sections(compose_file, settings).values()
    return {key: value for build in builds for key, value in build["args"].items()}


def digest(checkout: Path, files: Iterable[str], builds: Mapping[str, Any]) -> str:
    """Of these files' names and contents, and of what else a build is given."""
    whole = hashlib.sha256(json.dumps(builds, sort_keys=True).encode())
    for name in sorted(set(files)):
        content = hashlib.sha256((checkout / name).read_bytes()).hexdigest()
        whole.update(f"{content}  {name}\n".encode())
    return whole.hexdigest()[:DIGITS]


def build_sections(compose_file: Path, settings: Mapping[str, str]) -> dict[str, Any]:
    """Service → its `build`, with the settings filled in and without what is no content."""
    text = compose_file.read_text(encoding="utf-8")
    # libyaml's parser, where it is there, takes a tenth of the time.
    document = yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    builds = {}
    for name, service in document["services"].items():
        build = service.get("build")
        if build is None:
            continue
        if not isinstance(build, dict) or "dockerfile" not in build:
            raise ComposeError(compose_file, [f"services.{name}.build has no dockerfile"])
        arguments = {
            key: filled(str(value), settings)
            for key, value in build.get("args", {}).items()
            if key not in NOT_CONTENT
        }
        builds[name] = {**build, "args": arguments}
    return builds


def filled(text: str, settings: Mapping[str, str]) -> str:
    """A value of compose.yaml with its variables filled in; unset ones are empty."""

    def value(match: re.Match[str]) -> str:
        if match["dollar"]:
            return "$"
        default = match["text"] if match["how"] == ":-" else ""
        return settings.get(match["name"] or "") or default or ""

    return REFERENCE.sub(value, text)


def copied(dockerfile: Path) -> set[str]:
    """The files and folders that a Dockerfile takes from the repository."""
    names: set[str] = set()
    try:
        text = dockerfile.read_text(encoding="utf-8")
    except OSError as error:
        raise ComposeError(dockerfile, [f"cannot be read: {error}"]) from error
    for options, words in COPY.findall(text):
        if "--from" in options:
            continue
        if "*" in words or "[" in words or "$" in words or words.endswith("\\"):
            raise ComposeError(dockerfile, [f"COPY {words}: expected plain names on one line"])
        names.update(word.strip("/") for word in words.split()[:-1])
    return names


def let_in(checkout: Path, names: Iterable[str]) -> list[str]:
    """The files under these names that .dockerignore does not keep out."""
    text = (checkout / ".dockerignore").read_text(encoding="utf-8")
    rules = [line.strip() for line in text.splitlines() if line.strip() and line[0] != "#"]
    found = (file for name in names for file in _files(checkout, name))
    return sorted(file for file in found if not is_ignored(file, rules))


def _files(checkout: Path, name: str) -> Iterator[str]:
    path = checkout / name
    if not path.exists():
        raise ComposeError(path, ["a Dockerfile copies it, and it is not there"])
    for file in [path] if path.is_file() else path.rglob("*"):
        if file.is_file():
            yield file.relative_to(checkout).as_posix()


def is_ignored(file: str, rules: Iterable[str]) -> bool:
    """Whether .dockerignore keeps a file out; the last rule that fits decides."""
    parts = PurePosixPath(file).parts
    ignored = False
    for rule in rules:
        wanted = rule.removeprefix("!").strip("/").split("/")
        starts = range(len(parts)) if wanted[0] == "**" else (0,)
        names = wanted[1:] if wanted[0] == "**" else wanted
        if any(_fits(parts[start:], names) for start in starts):
            ignored = not rule.startswith("!")
    return ignored


def _fits(parts: tuple[str, ...], names: list[str]) -> bool:
    """Whether a path is what a rule names, or lies in it."""
    return len(parts) >= len(names) and all(
        fnmatch.fnmatchcase(part, name) for part, name in zip(parts, names, strict=False)
    )
