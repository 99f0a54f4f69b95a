"""The images a stack needs: which, whether they are there, and how they come.

Ours are built when their tag is not there; the others are pulled. A base image that can be had
nowhere is said by its name and its setting, before anything is built: BuildKit itself would talk
of name resolution.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from stack import console
from stack.engine.build_log import BuildLog
from stack.engine.compose_call import ComposeFailedError
from stack.engine.docker_call import Docker, DockerFailedError
from stack.engine.lab import Lab
from stack.engine.registry import derived_images, registry_of, settings_for, short_name
from stack.errors import RefusedError, StackError

FORMAT = '{"tags":{{json .RepoTags}},"digests":{{json .RepoDigests}},"id":{{json .Id}}}'
BUILD_LOG = "build"  # <home>/logs/build.log
# Settings that say what a build may be given → the override that gives it.
BUILD_OVERRIDES = {
    "PIP_CONFIG": "build-pip",
    "CA_BUNDLE": "build-ca",
    "WHEELS": "build-wheels",
    "BUILD_NETWORK": "build-network",
}


class MissingImageError(RefusedError):
    """An image is not there, and cannot be had."""


class BuildFailedError(StackError):
    """An image of ours could not be built."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """One image of the stack."""

    name: str
    services: tuple[str, ...]  # that run it
    builder: str = ""  # the service that builds it; empty: not one of ours
    base: str = ""  # what that build starts from


@dataclass(frozen=True, slots=True)
class Brought:
    """What had to be done."""

    built: tuple[str, ...] = ()
    pulled: tuple[str, ...] = ()


def build_overrides(settings: Mapping[str, str]) -> list[str]:
    """Names in stack/overrides/ for what the lab gives to its builds."""
    return [name for key, name in BUILD_OVERRIDES.items() if settings.get(key)]


def image_settings(settings: Mapping[str, str]) -> dict[str, str]:
    """The settings together with the image names that follow from REGISTRY_PREFIX."""
    return {**settings, **derived_images(settings)}


def wanted_images(document: Mapping[str, Any]) -> list[Wanted]:
    """The images of the services in `docker compose config --format json`."""
    users: dict[str, list[str]] = {}
    builders: dict[str, tuple[str, str]] = {}
    for service, entry in sorted(document["services"].items()):
        users.setdefault(entry["image"], []).append(service)
        if entry.get("build") is not None:
            arguments = entry["build"].get("args") or {}
            bases = [str(value) for key, value in arguments.items() if key.endswith("_IMAGE")]
            builders.setdefault(entry["image"], (service, bases[0] if bases else ""))
    return [
        Wanted(name, tuple(services), *builders.get(name, ("", "")))
        for name, services in users.items()
    ]


def images_of(lab: Lab) -> list[Wanted]:
    """The images of the lab's profile, and of backup and restore."""
    # The tools' too, or the first backup would be the first to ask the network for restic.
    tools = ("--profile", "tools") if lab.settings.has_gateway else ()
    return wanted_images(json.loads(lab.compose.run(*tools, "config", "--format", "json")))


def present_images(docker: Docker, names: Iterable[str]) -> dict[str, str]:
    """Those of the images that are there, and their ids; one call.

    Raises:
        DockerFailedError: no engine answers.
    """
    wanted = list(dict.fromkeys(names))
    if not wanted:
        return {}
    words = ("image", "inspect", "--format", FORMAT, *wanted)
    answer = docker.ask(*words)
    if answer.exit_code != 0 and "no such image" not in answer.said.lower():
        raise DockerFailedError(words, answer.exit_code, answer.said)
    ids: dict[str, str] = {}
    for line in filter(None, answer.output.splitlines()):
        record = json.loads(line)
        known = [*(record["tags"] or ()), *(record["digests"] or ())]
        ids |= {short_name(name): str(record["id"]) for name in known}
    return {name: ids[short_name(name)] for name in wanted if short_name(name) in ids}


def ensure_images(lab: Lab, docker: Docker | None = None, *, offline: bool = False) -> Brought:
    """Make sure that every image of the lab is there: build ours, pull the others.

    Args:
        lab: its variables are written down (`<home>/run/stack.env`).
        docker: the program; the one of this machine by default.
        offline: neither build nor pull: what is missing is a refusal.

    Raises:
        MissingImageError: an image, or the base of one, can be had nowhere; all are listed.
        BuildFailedError: a build failed; with the step and its last words.
    """
    docker = docker or Docker.here()
    wanted = images_of(lab)
    present = present_images(docker, [one.name for one in wanted])
    missing = [one for one in wanted if one.name not in present]
    if not missing:
        return Brought()
    if offline:
        raise MissingImageError(_list(missing), hint=OFFLINE_HINT)
    from_registry = _pull_ours(docker, missing)
    missing = [one for one in missing if one.name not in from_registry]
    ours = [one for one in missing if one.builder]
    bases = _bases(ours)
    there = present_images(docker, bases)
    to_pull = {one.name: one for one in missing if not one.builder}
    to_pull |= {name: one for name, one in bases.items() if name not in there}
    _pull_all(docker, to_pull, lab.settings.values)
    if ours:
        build(lab, [one.builder for one in ours])
    return Brought(tuple(one.name for one in ours), (*from_registry, *to_pull))


def _pull_ours(docker: Docker, missing: Sequence[Wanted]) -> tuple[str, ...]:
    """Ours that the lab's registry has already, where IMAGE_PREFIX names one; the rest is built."""
    names = [one.name for one in missing if one.builder and registry_of(one.name)]
    return tuple(name for name in names if _may_be_pulled(docker, name))


def _may_be_pulled(docker: Docker, name: str) -> bool:
    try:
        pull(docker, name)
    except DockerFailedError:
        return False  # nobody has pushed it yet
    return True


def _bases(ours: Iterable[Wanted]) -> dict[str, Wanted]:
    """Base → the images of ours that start from it, as one."""
    bases: dict[str, Wanted] = {}
    for one in ours:
        if before := bases.get(one.base):
            one = replace(one, builder=f"{before.builder}, {one.builder}")
        if one.base:
            bases[one.base] = one
    return bases


OFFLINE_HINT = (
    "`labloop up --offline --bundle DIR` loads them from a bundle; `labloop bundle DIR` makes one "
    "on a machine with a network and the same settings."
)


def _list(missing: Sequence[Wanted]) -> str:
    names = [f"{one.name} ({', '.join(one.services)})" for one in missing]
    return f"not there, and nothing is fetched offline: {'; '.join(names)}"


def _pull_all(docker: Docker, images: Mapping[str, Wanted], settings: Mapping[str, str]) -> None:
    failed: dict[str, str] = {}
    for name in images:
        try:
            pull(docker, name)
        except DockerFailedError as error:
            failed[name] = error.said
    if failed:
        raise cannot_be_had(images, failed, settings)


def cannot_be_had(
    images: Mapping[str, Wanted], failed: Mapping[str, str], settings: Mapping[str, str]
) -> MissingImageError:
    """What is missing, in the engine's words, and the settings that name something else."""
    named = settings_for(failed, settings)
    lines = []
    for name, words in failed.items():
        one = images[name]
        what = (
            f"the base of {one.builder}" if name == one.base else f"for {', '.join(one.services)}"
        )
        lines.append(f"{name} ({what}): {words}")
    keys = ", ".join(dict.fromkeys(named.values())) or "BASE_IMAGE, DEEPO_IMAGE"
    hint = (
        f"Set {keys} in .env to names that can be pulled from here (`docker pull NAME` tries), or "
        "REGISTRY_PREFIX to your registry's mirror of Docker Hub; `docker login` where it wants "
        "one. Without a network: `labloop up --offline --bundle DIR`. docs/images.md tells more."
    )
    message = "images are neither here nor to be had:\n  " + "\n  ".join(lines)
    return MissingImageError(message, hint=hint)


def pull(docker: Docker, name: str) -> None:
    """Fetch one image and show how far it is.

    Raises:
        DockerFailedError: it could not be had; with the engine's words.
    """
    progress = console.Progress(f"pulling {name}")
    layers: dict[str, bool] = {}

    def look(line: str) -> None:
        layer, colon, words = line.partition(": ")
        if colon and " " not in layer:
            layers[layer] = words in ("Pull complete", "Already exists")
            progress.tell(f"{sum(layers.values())} of {len(layers)} layers")

    try:
        docker.stream("pull", name, on_line=look)
    except DockerFailedError:
        progress.finish("failed")
        raise
    progress.finish()


def build(lab: Lab, services: Sequence[str]) -> None:
    """Build the images of these services, with everything written to <home>/logs/build.log.

    Raises:
        BuildFailedError: one of them could not be built.
    """
    file = lab.home.log(BUILD_LOG)
    file.parent.mkdir(parents=True, exist_ok=True)
    progress = console.Progress(
        f"building {', '.join(services)} (log: {file})", "2-10 minutes the first time"
    )
    log = BuildLog()
    with file.open("w", encoding="utf-8") as stream:

        def look(line: str) -> None:
            stream.write(line + "\n")
            step = log.read(line)
            if step:
                progress.tell(step)

        try:
            lab.compose.stream("build", "--progress", "plain", *services, on_line=look)
        except ComposeFailedError as error:
            progress.finish("failed")
            raise failure(log, error.tail, file) from error
    progress.finish()


def failure(log: BuildLog, tail: str, file: Path) -> BuildFailedError:
    """Why a build failed, in a few lines."""
    where = f"{log.step} failed" if log.step else "the build failed"
    lines = "".join(f"\n  {line}" for line in log.last_lines)
    message = f"{where}: {log.reason or tail}{lines}"
    return BuildFailedError(message, hint=f"{log.advice} The whole log: {file}")
