"""The verbs about images: `images`, `bundle`, `deepo`.

Each verb imports what it needs when it runs, so that `labloop --help` stays instant.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from stack import console
from stack.home import Home

if TYPE_CHECKING:
    from stack.engine.lab import Lab
    from stack.engine.settings import LabSettings

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

    settings = _settings(home).values
    wishes = DeepoWishes.from_settings(settings)
    if args.dockerfile:
        console.say(f"{compose_dockerfile(wishes)} stands on {wishes.base}")
        return 0
    image = build_deepo(wishes, settings, home.log("deepo"))
    console.say(f"Set DEEPO_IMAGE={image} in .env; `labloop up` builds the trainer on it.")
    return 0


def _settings(home: Home) -> LabSettings:
    """Those of `.env` and the environment, with the image names that follow from them."""
    from dataclasses import replace

    from stack.engine.images import image_settings
    from stack.engine.up import UpWishes, read_lab_settings

    settings = read_lab_settings(home, UpWishes())
    return replace(settings, values=image_settings(settings.values))


def _lab(home: Home) -> Lab:
    """The stack that the present program and settings would bring up; not what runs."""
    from stack.engine.engine import Engine
    from stack.engine.gpu_runtime import find_nvidia_runtime
    from stack.engine.start import plan_stack

    settings = _settings(home)
    with Engine.connected() as engine:
        sight = find_nvidia_runtime(engine.info().raw)
    with_gpu = settings.gpu != "off" and sight.is_worth_a_try
    return plan_stack(home, settings, with_gpu=with_gpu).lab
