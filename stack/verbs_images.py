"""The verbs about images: `images`, `bundle`, `deepo`.

Each verb imports what it needs when it runs, so that `labloop --help` stays instant.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from stack import console
from stack.environments import ROOT
from stack.home import Home

if TYPE_CHECKING:
    from stack.engine.lab import Lab

STATE_COLORS = {"here": "green", "missing": "yellow"}


def register(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add this module's verbs to the command line."""
    images = verbs.add_parser("images", help="the images of the stack: list, fetch, clean up")
    images.add_argument("--build", action="store_true", help="build and pull what is missing")
    images.add_argument("--prune", action="store_true", help="remove ours from old versions")
    images.set_defaults(act=show_images)
    bundle = verbs.add_parser("bundle", help="everything for a machine without a network")
    bundle.add_argument("folder", type=Path, help="new, or of an older bundle")
    bundle.set_defaults(act=write_bundle)
    deepo = verbs.add_parser("deepo", help="a current base image for the trainer")
    deepo.add_argument("--dockerfile", action="store_true", help="write it, and build nothing")
    deepo.set_defaults(act=compose_deepo)


def show_images(args: argparse.Namespace, home: Home) -> int:
    from stack.engine.docker_call import Docker
    from stack.engine.images import ensure_images, images_of, present_images

    lab, docker = _lab(home), Docker.here()
    if args.build:
        ensure_images(lab, docker)
    wanted = images_of(lab)
    present = present_images(docker, [one.name for one in wanted])
    rows = [
        (
            one.name,
            "here" if one.name in present else "missing",
            "built here" if one.builder else "pulled",
            ", ".join(one.services),
        )
        for one in sorted(wanted, key=lambda one: one.name)
    ]
    console.table(("IMAGE", "STATE", "COMES", "SERVICES"), rows, STATE_COLORS)
    if args.prune:
        _prune(lab)
    return 0 if len(present) == len(wanted) else 1


def _prune(lab: Lab) -> None:
    from stack.engine.docker_call import Docker
    from stack.engine.old_images import prune, sizes

    prefix = lab.settings.values.get("IMAGE_PREFIX") or "labloop"
    gone = prune(Docker.here(), prefix, lab.image_tag)
    console.say(f"removed {sizes(gone)}" if gone else sizes(gone))


def write_bundle(args: argparse.Namespace, home: Home) -> int:
    from stack.engine.bundle import make_bundle
    from stack.engine.images import ensure_images

    lab = _lab(home)
    ensure_images(lab)
    folder = args.folder.expanduser().absolute()
    manifest = make_bundle(lab, folder)
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    console.say(
        f"{folder} holds Labloop {manifest.version} with {len(manifest.images)} images, "
        f"{size / 1e9:.1f} GB. On the other machine: sh install.sh"
    )
    return 0


def compose_deepo(args: argparse.Namespace, home: Home) -> int:
    from stack.engine.deepo import DeepoWishes, build_deepo, compose_dockerfile

    settings = _settings()
    wishes = DeepoWishes.from_settings(settings)
    if args.dockerfile:
        console.say(f"{compose_dockerfile(wishes)} stands on {wishes.base}")
        return 0
    image = build_deepo(wishes, settings, home.log("deepo"))
    console.say(f"Set DEEPO_IMAGE={image} in .env; `labloop up` builds the trainer on it.")
    return 0


def _settings() -> Mapping[str, str]:
    """Those of `.env` and the environment, which wins, as in Compose."""
    from stack.settings import inherited_environment, read_env_file

    file = ROOT / ".env"
    given = read_env_file(file) if file.is_file() else {}
    inherited = inherited_environment()
    known = {*given, *_names_in_compose()}
    wanted = [name for name in inherited if name in known or name.startswith("DEEPO_")]
    return {**given, **{name: inherited[name] for name in wanted}}


def _names_in_compose() -> set[str]:
    from stack.compose import REFERENCE
    from stack.engine.images import BUILD_OVERRIDES

    text = (ROOT / "compose.yaml").read_text(encoding="utf-8")
    names = {match["name"] for match in REFERENCE.finditer(text) if match["name"]}
    return {*names, *BUILD_OVERRIDES, "STACK_NAME", "COMPOSE_PROFILES", "REGISTRY_PREFIX"}


def _lab(home: Home) -> Lab:
    """The home's stack; before its first `up`, what the settings would make of it."""
    from stack.engine.image_tag import image_tag
    from stack.engine.images import build_overrides, image_settings
    from stack.engine.lab import derived_variables, is_in_docker, make_lab, open_lab
    from stack.engine.lab import env_text as as_text
    from stack.engine.settings import LabSettings

    if is_in_docker(home):
        return open_lab(home)
    values = image_settings(_settings())
    settings = LabSettings.from_env(values)
    lab = make_lab(home, settings, build_overrides(values), image_tag(ROOT, values))
    variables = derived_variables(home, settings, lab.image_tag)
    # Only what Compose reads: without engine.json this home stays the local runner's.
    lab.compose.env_file.parent.mkdir(parents=True, exist_ok=True)
    lab.compose.env_file.write_text(as_text(variables), encoding="utf-8")
    return lab
