"""Names of images: the defaults in compose.yaml, and where a lab's own registry has them.

The names stand in compose.yaml and the overrides, as `${…_IMAGE:-docker.io/…}`; nowhere else.
"""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from stack.environments import ROOT

DEFAULT = re.compile(r"\$\{([A-Z0-9_]+_IMAGE):-([^{}$]+)\}")
PREFIX = "REGISTRY_PREFIX"
DOCKER_HUB = "docker.io"


def default_images(root: Path = ROOT) -> dict[str, str]:
    """Setting → the image that is taken when nobody sets it, e.g. `POSTGRES_IMAGE`."""
    files = [root / "compose.yaml", *sorted((root / "stack" / "overrides").glob("*.yaml"))]
    found = [DEFAULT.findall(file.read_text(encoding="utf-8")) for file in files]
    return {name: image for pairs in found for name, image in pairs}


def derived_images(
    settings: Mapping[str, str], defaults: Mapping[str, str] | None = None
) -> dict[str, str]:
    """What follows from REGISTRY_PREFIX: every image nobody has named, in the lab's registry.

    `docker.io/library/caddy:2` is then `registry.hospital.lan/mirror/library/caddy:2`, as
    registries that mirror Docker Hub have it. Without a prefix, nothing follows.
    """
    prefix = settings.get(PREFIX, "").strip().rstrip("/")
    if not prefix:
        return {}
    known = default_images() if defaults is None else defaults
    return {
        name: mirrored(image, prefix) for name, image in known.items() if not settings.get(name)
    }


def mirrored(image: str, prefix: str) -> str:
    """An image's name in a registry that mirrors the one it comes from."""
    path = image.partition("/")[2] if registry_of(image) else image
    return f"{prefix}/{path}" if "/" in path else f"{prefix}/library/{path}"


def registry_of(image: str) -> str:
    """The registry that an image's name begins with; empty when it names none."""
    first, slash, _ = image.partition("/")
    is_host = "." in first or ":" in first or first == "localhost"
    return first if slash and is_host else ""


def short_name(image: str) -> str:
    """As the engine lists it: `docker.io/library/caddy:2` is `caddy:2`.

    With a digest, the tag does not count; without either, the tag is `latest`.
    """
    name, at, digest = image.partition("@")
    for start in (f"{DOCKER_HUB}/library/", f"{DOCKER_HUB}/"):
        if name.startswith(start):
            name = name.removeprefix(start)
            break
    path, _, last = name.rpartition("/")
    bare, colon, tag = last.partition(":")
    where = f"{path}/{bare}" if path else bare
    return f"{where}@{digest}" if at else f"{where}:{tag if colon else 'latest'}"


def settings_for(images: Iterable[str], settings: Mapping[str, str]) -> dict[str, str]:
    """Which setting names each of these images; those that none does are left out."""
    given = {**default_images(), **derived_images(settings)}
    given |= {name: settings[name] for name in given if settings.get(name)}
    wanted = {short_name(image): image for image in images}
    return {
        wanted[short_name(image)]: name
        for name, image in given.items()
        if short_name(image) in wanted
    }
