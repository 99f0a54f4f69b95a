"""Loads the images of a bundle, after everything that is loaded was checked."""

import json
from collections.abc import Mapping
from pathlib import Path

from imaging.publish import write_json
from stack import console
from stack.engine.bundle import MANIFEST, SUMS, BundleError, Manifest, Packed, sum_of
from stack.engine.docker_call import Docker, DockerFailedError
from stack.engine.image_tag import settings_that_count
from stack.engine.images import present_images
from stack.engine.lab import Lab
from stack.environments import ROOT
from stack.errors import StackError

LOADED = "bundle.json"  # in <home>/run: image of the bundle → its id in this engine
LOAD_LIMIT_S = 1800.0
USUAL_PLACE = ROOT / ".bundle"  # a link that install.sh makes


def load_bundle(lab: Lab, folder: Path, docker: Docker | None = None) -> list[str]:
    """Load the images that are not there yet; their names.

    Raises:
        BundleError: the bundle is incomplete or changed, or it is not of this program with these
            settings. Nothing was loaded.
        StackError: the engine could not load an archive.
    """
    docker = docker or Docker.here()
    sums = read_sums(folder)
    check_sums(folder, {MANIFEST: sums.get(MANIFEST, "")})
    manifest = Manifest.from_json((folder / MANIFEST).read_text(encoding="utf-8"))
    check_is_ours(manifest, lab)
    to_load = _not_here(lab, manifest, docker)
    if not to_load:
        return []
    console.say(f"checking {len(manifest.images)} images of {folder} …")
    check_sums(folder, {one.file: sums.get(one.file, "") for one in manifest.images})
    for image in to_load:
        _load(docker, folder / image.file, image.name)
    ids = present_images(docker, [one.name for one in to_load])
    if absent := [one.name for one in to_load if one.name not in ids]:
        raise StackError(f"the engine loaded the archives, but has no {', '.join(absent)}")
    # An engine with another image store gives an image another id than the one it was saved under.
    remembered = {**_remembered(lab), **{one.image_id: ids[one.name] for one in to_load}}
    write_json(lab.home.run / LOADED, remembered)
    return [one.name for one in to_load]


def usual_bundle(is_offline: bool) -> Path | None:
    """The bundle that this program came with, when nothing may be fetched and none was named."""
    return USUAL_PLACE.resolve() if is_offline and USUAL_PLACE.is_dir() else None


def read_sums(folder: Path) -> dict[str, str]:
    """File → sum, as SHA256SUMS has them.

    Raises:
        BundleError: it is not there, or not of that form.
    """
    file = folder / SUMS
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise BundleError(f"{folder} is no whole bundle: {error}") from error
    pairs = [line.split("  ", maxsplit=1) for line in lines if line]
    if any(len(pair) != 2 or len(pair[0]) != 64 for pair in pairs):
        raise BundleError(f"{file} is damaged, expected a sum and a name on each line")
    return {name: value for value, name in pairs}


def check_sums(folder: Path, wanted: Mapping[str, str]) -> None:
    """Compare files with their sums; all that is wrong is told.

    Raises:
        BundleError: a file is missing, has no sum, or is not what it was.
    """
    problems = []
    for name, expected in wanted.items():
        file = folder / name
        if not expected:
            problems.append(f"{name} has no line in {SUMS}")
        elif not file.is_file():
            problems.append(f"{name} is missing")
        elif sum_of(file) != expected:
            problems.append(f"{name} is not what it was when the bundle was made")
    if problems:
        raise BundleError(f"{folder}: {'; '.join(problems)}; nothing was loaded")


def check_is_ours(manifest: Manifest, lab: Lab) -> None:
    """Whether the bundle's images are those that this program runs with these settings.

    Raises:
        BundleError: they are others; with the settings that differ.
    """
    if manifest.image_tag == lab.image_tag:
        return
    here = settings_that_count(ROOT / "compose.yaml", lab.settings.values)
    differ = [
        f"{key} is {here.get(key, '')!r} here and {manifest.settings.get(key, '')!r} there"
        for key in sorted({*here, *manifest.settings})
        if here.get(key, "") != manifest.settings.get(key, "")
    ]
    why = "; ".join(differ) or "the program is another version than the bundle's"
    raise BundleError(
        f"the bundle has images {manifest.image_tag}, expected {lab.image_tag}: {why}",
        hint="Use the program that this bundle's install.sh unpacks, and its settings in .env.",
    )


def _not_here(lab: Lab, manifest: Manifest, docker: Docker) -> list[Packed]:
    ids = present_images(docker, [one.name for one in manifest.images])
    known = _remembered(lab)
    return [
        one
        for one in manifest.images
        if ids.get(one.name) not in (one.image_id, known.get(one.image_id, one.image_id))
    ]


def _remembered(lab: Lab) -> dict[str, str]:
    try:
        found = json.loads((lab.home.run / LOADED).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return {str(key): str(value) for key, value in found.items()} if isinstance(found, dict) else {}


def _load(docker: Docker, file: Path, name: str) -> None:
    progress = console.Progress(f"loading {name}")
    try:
        docker.run("image", "load", "--quiet", "--input", str(file), timeout_s=LOAD_LIMIT_S)
    except DockerFailedError:
        progress.finish("failed")
        raise
    progress.finish()
