"""A bundle: one folder with everything an air-gapped box needs, made on one that has a network.

    manifest.json       which images under which ids, for which settings and which Python
    images/             an archive for each image; its name holds the id, so it is written once
    wheels/             every package of the command line (the environment `control`)
    labloop.tar.gz      the program
    install.sh          checks everything and unpacks the program
    SHA256SUMS          of all other files; written last

bundle_load.py reads it.
"""

import gzip
import hashlib
import io
import json
import platform
import re
import shutil
import stat
import subprocess
import sys
import tarfile
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from stack import console
from stack.engine.docker_call import Docker
from stack.engine.image_tag import image_files, settings_that_count
from stack.engine.images import MissingImageError, images_of, present_images
from stack.engine.lab import Lab, revision
from stack.environments import CONTROL, ROOT, Checkout
from stack.errors import RefusedError, StackError
from stack.install_tool import pinned
from stack.settings import inherited_environment

MANIFEST = "manifest.json"
SUMS = "SHA256SUMS"
IMAGES = "images"
WHEELS = "wheels"
SOURCE = "labloop.tar.gz"
TEMPLATES = Path(__file__).parent / "bundle_files"  # install.sh and README.txt, as they are
FORMAT = 1
BLOCK = 2**20
# What an environment holds, as requirements; without what is installed from a folder: ourselves.
INSTALLED = (
    "import importlib.metadata as m; "
    "print(*sorted({f'{d.name}=={d.version}' for d in m.distributions() "
    "if d.read_text('direct_url.json') is None}), sep='\\n')"
)


class BundleError(RefusedError):
    """A bundle is incomplete, changed, or not for this box."""

    hint = "Make it anew with `labloop bundle DIR`, or copy it again; then everything is checked."


@dataclass(frozen=True, slots=True)
class Packed:
    """One image of a bundle."""

    name: str
    image_id: str
    file: str  # in the bundle


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a bundle is, and for whom."""

    version: str
    image_tag: str
    profile: str
    revision: str
    python: str  # 3.11: the wheels are for this one
    machine: str  # x86_64
    settings: Mapping[str, str]  # those that images of ours depend on
    images: tuple[Packed, ...]

    def as_json(self) -> str:
        return json.dumps({"format": FORMAT, **asdict(self)}, indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "Manifest":
        """Read one.

        Raises:
            BundleError: it is of another form.
        """
        try:
            record: dict[str, Any] = json.loads(text)
            if record.pop("format") != FORMAT:
                raise BundleError("the bundle is of another format; make it with this version")
            images = tuple(Packed(**one) for one in record.pop("images"))
            return cls(images=images, **record)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise BundleError(f"{MANIFEST} is not a bundle's: {error}") from error


def make_bundle(lab: Lab, folder: Path, docker: Docker | None = None) -> Manifest:
    """Write or renew the bundle of a lab's images; those that it has already are not copied anew.

    Raises:
        MissingImageError: an image is not there.
        BundleError: the folder is not a bundle's, or the checkout is not what the images are of.
        StackError: an archive or the wheels could not be made.
    """
    docker = docker or Docker.here()
    checkout = Checkout()
    source = tracked_files(checkout.root)
    prepare(folder)
    images = pack_images(docker, [one.name for one in images_of(lab)], folder)
    collect_wheels(checkout, folder / WHEELS)
    pack_source(checkout.root, source, folder / SOURCE)
    manifest = _manifest(lab, images)
    (folder / MANIFEST).write_text(manifest.as_json(), encoding="utf-8")
    for name, mode in (("install.sh", 0o755), ("README.txt", 0o644)):
        shutil.copy(TEMPLATES / name, folder / name)
        (folder / name).chmod(mode)
    write_sums(folder)
    return manifest


def _manifest(lab: Lab, images: tuple[Packed, ...]) -> Manifest:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return Manifest(
        version=str(project["version"]),
        image_tag=lab.image_tag,
        profile=lab.settings.profile,
        revision=revision(),
        python=".".join(map(str, sys.version_info[:2])),
        machine=platform.machine(),
        settings=settings_that_count(ROOT / "compose.yaml", lab.settings.values),
        images=images,
    )


def prepare(folder: Path) -> None:
    """Make the folder ready for a bundle: an empty one, or an older bundle's.

    Raises:
        BundleError: it holds other things.
    """
    if folder.is_dir() and any(folder.iterdir()) and not (folder / IMAGES).is_dir():
        raise BundleError(f"{folder} holds other things, expected an empty folder or a bundle")
    for name in (IMAGES, WHEELS):
        (folder / name).mkdir(parents=True, exist_ok=True)
    # Without sums it is no bundle, until it is a whole one again.
    (folder / SUMS).unlink(missing_ok=True)


# --- images -------------------------------------------------------------------------------------


def pack_images(docker: Docker, names: Sequence[str], folder: Path) -> tuple[Packed, ...]:
    """An archive for each image; those of the same images stay, those of others go.

    Raises:
        MissingImageError: an image is not there.
        StackError: one could not be saved.
    """
    ids = present_images(docker, names)
    if missing := [name for name in names if name not in ids]:
        hint = "`labloop images --build` builds and pulls them."
        raise MissingImageError(f"not there: {', '.join(missing)}", hint=hint)
    images = tuple(Packed(name, ids[name], archive_name(name, ids[name])) for name in names)
    for image in images:
        save_image(docker, image, folder / image.file)
    keep_only(folder / IMAGES, [image.file for image in images])
    return images


def archive_name(name: str, image_id: str) -> str:
    """A file's name that tells the image, and that is another one for another image."""
    readable = re.sub(r"[^A-Za-z0-9.]+", "-", name.removeprefix("docker.io/")).strip("-")
    end = "tar.zst" if shutil.which("zstd") else "tar.gz"
    return f"{IMAGES}/{readable}-{image_id.removeprefix('sha256:')[:12]}.{end}"


def save_image(docker: Docker, image: Packed, file: Path) -> None:
    """Write an image's archive, unless it is there.

    Raises:
        StackError: the engine or the compressor failed.
    """
    if file.is_file():
        return
    progress = console.Progress(f"saving {image.name}")
    part = file.with_name(f".{file.name}.part")
    squeeze = ["zstd", "-q", "-3", "-T0", "-c"] if file.suffix == ".zst" else ["gzip", "-c"]
    with (
        part.open("wb") as target,
        docker.reading("image", "save", image.name) as saver,
        subprocess.Popen(squeeze, stdin=saver.stdout, stdout=target) as squeezer,
    ):
        if saver.stdout is not None:
            saver.stdout.close()  # its only reader is the compressor
        failed = squeezer.wait() != 0
    if saver.returncode != 0 or failed:
        part.unlink()
        progress.finish("failed")
        raise StackError(f"{image.name} could not be saved to {file}", hint="Is the disk full?")
    part.rename(file)
    progress.finish(f"{file.stat().st_size / 1e6:.0f} MB")


def keep_only(folder: Path, wanted: Iterable[str]) -> None:
    """Remove the archives of former images, and what was half written."""
    names = {Path(name).name for name in wanted}
    for path in folder.iterdir():
        if path.name not in names:
            path.unlink()


# --- wheels and source --------------------------------------------------------------------------


def collect_wheels(checkout: Checkout, folder: Path) -> None:
    """Every package of the command line as installed here, and what installs it: uv, setuptools.

    Raises:
        StackError: the environment is not there, or a package cannot be had again.
    """
    project = tomllib.loads((checkout.root / "pyproject.toml").read_text(encoding="utf-8"))
    wanted = {*project["build-system"]["requires"], f"uv=={pinned('uv', checkout)}"}
    wanted |= set(installed(checkout.interpreter(checkout.environment(CONTROL))))
    pip = checkout.root / ".envs" / "tools" / "bin" / "python"
    command = [str(pip if pip.exists() else sys.executable), "-m", "pip", "wheel", "--no-deps"]
    command += ["--quiet", "--disable-pip-version-check", "--wheel-dir", str(folder)]
    command += ["--find-links", str(folder), "--constraint", "constraints.txt"]
    progress = console.Progress(f"collecting {len(wanted)} packages", "10 s")
    answer = subprocess.run(
        [*command, *sorted(wanted)],
        cwd=checkout.root,
        env=inherited_environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if answer.returncode != 0:
        progress.finish("failed")
        words = " | ".join(answer.stderr.strip().splitlines()[-5:])
        raise StackError(f"the packages could not be collected: {words}", hint="See `pip config`.")
    _forget_others(folder, wanted)
    progress.finish()


def installed(interpreter: Path) -> list[str]:
    """The packages of an environment, as `name==version`."""
    try:
        answer = subprocess.run(
            [str(interpreter), "-I", "-c", INSTALLED], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError) as error:
        hint = "`make bundle` makes it first; `labloop setup --only control` does, too."
        raise StackError(f"the environment of {interpreter} does not answer", hint=hint) from error
    return answer.stdout.split()


def _forget_others(folder: Path, wanted: Iterable[str]) -> None:
    """Remove wheels of versions that are no longer wanted."""

    def plain(name: str, version: str) -> tuple[str, str]:
        return re.sub(r"[-_.]+", "_", name).lower(), version

    keep = {plain(*one.split("==")) for one in wanted}
    for wheel in folder.glob("*.whl"):
        name, version = wheel.name.split("-")[:2]
        if plain(name, version) not in keep:
            wheel.unlink()


def tracked_files(root: Path) -> list[str]:
    """The files of the program: those under version control.

    Raises:
        BundleError: there is no checkout, or images are made of files that it does not know.
    """
    words = ["git", "-C", str(root), "ls-files", "-z"]
    answer = subprocess.run(words, capture_output=True, text=True, check=False)
    if answer.returncode != 0:
        raise BundleError(f"{root} is not a git checkout", hint="Bundles are made from one.")
    files = [name for name in answer.stdout.split("\0") if name and (root / name).is_file()]
    if others := sorted(set(image_files(root)) - set(files)):
        raise BundleError(
            f"images are built from files that git does not know: {', '.join(others[:5])}",
            hint="Commit or remove them; the bundle's program would make other images.",
        )
    return files


def pack_source(root: Path, files: Sequence[str], target: Path) -> None:
    """The program in one archive, which is the same again for the same files."""

    def plain(entry: tarfile.TarInfo) -> tarfile.TarInfo:
        entry.uid = entry.gid = 0
        entry.mtime = 315_619_200  # 1980: wheels, which are zip files, know no earlier year
        entry.uname = entry.gname = "root"
        entry.mode = 0o755 if entry.mode & stat.S_IXUSR else 0o644
        return entry

    plain_tar = io.BytesIO()
    with tarfile.open(fileobj=plain_tar, mode="w") as archive:
        for name in sorted(files):
            archive.add(root / name, name, recursive=False, filter=plain)
    target.write_bytes(gzip.compress(plain_tar.getvalue(), mtime=0))


# --- sums ---------------------------------------------------------------------------------------


def write_sums(folder: Path) -> None:
    """SHA256SUMS of all files, in the form that `sha256sum --check` reads."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != SUMS)
    lines = [f"{sum_of(path)}  {path.relative_to(folder).as_posix()}\n" for path in files]
    part = folder / f".{SUMS}.part"
    part.write_text("".join(lines), encoding="utf-8")
    part.replace(folder / SUMS)


def sum_of(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
