"""Images of ours from former versions: which may go. A newer and the one before it stay."""

import json
from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass

from stack.engine.docker_call import Docker

KEPT = 2  # the present tag and the one before: what an upgrade rolls back to
FORMAT = "{{json .}}"


@dataclass(frozen=True, slots=True)
class OwnImage:
    """One tag of one of our images."""

    name: str  # labloop/ingest:0.1.0-3f2a9c01d4be
    image_id: str
    created: str  # sorts by time
    size: str

    @property
    def tag(self) -> str:
        return self.name.rpartition(":")[2]


def old_tags(
    images: Iterable[OwnImage], current: str, used: Set[str], kept: int = KEPT
) -> list[OwnImage]:
    """The images that may go, oldest first: not of the newest tags, not of the current, not in use.

    Args:
        images: all of ours.
        current: the tag that the lab runs, or will run.
        used: names and ids of images that any container was made from, stopped ones included.
        kept: how many tags stay, the current one counted.
    """
    known = sorted(images, key=lambda one: one.created)
    newest = list(dict.fromkeys(one.tag for one in reversed(known)))
    stays = {current, *[tag for tag in newest if tag != current][: max(kept - 1, 0)]}
    return [
        one
        for one in known
        if one.tag not in stays and one.name not in used and one.image_id not in used
    ]


def own_images(docker: Docker, prefix: str) -> list[OwnImage]:
    """Every tag of our images in the engine; `prefix` is IMAGE_PREFIX."""
    services = f"reference={prefix}/*"
    words = ("image", "ls", "--no-trunc", "--filter", services, "--format", FORMAT)
    records = [json.loads(line) for line in docker.run(*words).splitlines()]
    return [
        OwnImage(
            f"{record['Repository']}:{record['Tag']}",
            record["ID"],
            record["CreatedAt"],
            record["Size"],
        )
        for record in records
        # Bases that `labloop deepo` made are the admin's to remove.
        if record["Tag"] != "<none>" and record["Repository"] != f"{prefix}/deepo"
    ]


def used_images(docker: Docker) -> set[str]:
    """Names and ids of the images that containers were made from, whosever they are."""
    ids = docker.run("container", "ls", "--all", "--quiet", "--no-trunc").split()
    if not ids:
        return set()
    words = ("container", "inspect", "--format", "{{.Image}} {{.Config.Image}}", *ids)
    # One that ended in between is an error of the call, and no reason to fail.
    return set(docker.ask(*words).output.split())


def prune(docker: Docker, prefix: str, current: str) -> list[OwnImage]:
    """Remove what is old, and say what went. What a container uses, the engine keeps anyway."""
    gone = []
    for image in old_tags(own_images(docker, prefix), current, used_images(docker)):
        if docker.ask("image", "rm", image.name).exit_code == 0:  # without --force
            gone.append(image)
    return gone


def sizes(images: Sequence[OwnImage]) -> str:
    """How many images of which tags, for people."""
    tags = dict.fromkeys(image.tag for image in images)
    return f"{len(images)} images of {', '.join(tags)}" if images else "nothing to remove"
