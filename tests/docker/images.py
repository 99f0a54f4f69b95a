"""Our own images, built from the bases as `make up` will build them from the official ones."""

import os
import shutil
import subprocess
import time
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

import pytest

from imaging.publish import link_or_copy
from stack.environments import ROOT
from stack.pip_settings import parse_pip_config
from tests.docker.bases import CACHE
from tests.docker.engine import Mount, docker

# Longest first: the others are ready while it is still being built.
FOLDERS = {
    "label-studio": "services/label_studio",
    "trainer": "services/trainer",
    "ml-backend": "ml_backend",
    "ingest": "services/ingest",
    "watchdog": "services/watchdog",
    "tensorboard": "services/tensorboard",
}
# Built by the tests that need them.
OTHERS = {"files-lite": "services/files_lite"}
BUILD_LIMIT_S = 900.0
REVISION = "a-commit"


@dataclass(frozen=True, slots=True)
class Image:
    """One built image."""

    name: str
    tag: str
    built_s: float


def build_all(python_base: str) -> dict[str, Image]:
    """Build every image; one after the other, because two cores are busy with one."""
    words = build_words()
    images = {name: build(name, python_base, words) for name in FOLDERS}
    for name in FOLDERS:  # what the tags named before
        label = f"label=org.opencontainers.image.title=labloop-{name}"
        docker("image", "prune", "--force", "--filter", label)
    return images


def build(name: str, base: str, words: Sequence[str], label: str = "test") -> Image:
    tag = f"labloop-{name}:{label}"
    argument = "DEEPO_IMAGE" if name == "trainer" else "BASE_IMAGE"
    command = ["docker", "build", "--progress=plain", "--tag", tag, *words]
    command += [
        "--file",
        f"{(FOLDERS | OTHERS)[name]}/Dockerfile",
        "--build-arg",
        f"{argument}={base}",
    ]
    command += ["--build-arg", f"REVISION={REVISION}", "."]
    begun = time.monotonic()
    answer = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=BUILD_LIMIT_S
    )
    if answer.returncode != 0:
        pytest.fail(f"{' '.join(command)}:\n{answer.stderr[-4000:]}")
    return Image(name, tag, time.monotonic() - begun)


def build_words() -> list[str]:
    """What a build is given of this machine's own ways to packages: certificates, pip's indexes.

    Folders that only this machine sees cannot be named in an image; their wheels go along.
    """
    # The network of this machine: a resolver or proxy on 127.0.0.1 is not reached from another.
    pip = _pip_config()
    words = ["--network=host", "--build-context", f"wheels={_local_wheels(pip)}"]
    if authorities := certificates():
        words += ["--secret", f"id=ca,src={authorities}"]
    config = CACHE / "pip.conf"
    wanted = ("index-url", "extra-index-url", "trusted-host", "no-index")
    lines = [f"{key} = {found}" for key in wanted if (found := _reachable(pip.get(key, "")))]
    config.write_text("\n".join(["[global]", *lines, ""]), encoding="utf-8")
    return [*words, "--secret", f"id=pip,src={config}"]


def offline_words(folder: Path) -> list[str]:
    """What a build is given where there is no network: the wheels, and the word not to ask."""
    config = folder / "pip.conf"
    config.write_text("[global]\nno-index = true\n", encoding="utf-8")
    wheels = f"wheels={folder / 'wheels'}"
    return ["--network=none", "--build-context", wheels, "--secret", f"id=pip,src={config}"]


def download_wheels(extra: str, base: str, folder: Path) -> None:
    """Fetch all that an image is made of, as one does on a machine with a network."""
    (folder / "wheels").mkdir()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = ["uv", *project["dependencies"], *project["optional-dependencies"][extra]]
    mounts = [Mount(ROOT / "constraints.txt", "/constraints.txt"), Mount(folder / "wheels", "/out")]
    mounts.append(Mount(CACHE / "pip.conf", "/etc/pip.conf"))
    words = ["run", "--rm", "--network=host"]
    if authorities := certificates():
        mounts.append(Mount(Path(authorities), "/ca.crt"))
        words += ["--env", "PIP_CERT=/ca.crt"]
    words += [word for mount in mounts for word in mount.words]
    command = ["python3", "-m", "pip", "download", "--quiet", "--dest=/out", "-c/constraints.txt"]
    docker(*words, base, *command, *wanted, timeout_s=300.0)


def certificates() -> str | None:
    return os.environ.get("PIP_CERT") or os.environ.get("SSL_CERT_FILE")


def _pip_config() -> dict[str, str]:
    """How pip is configured on this machine; environments made by uv have none to ask."""
    for python in (ROOT / ".envs" / "tools" / "bin" / "python", "python3"):
        command = [str(python), "-m", "pip", "config", "list"]
        if shutil.which(command[0]):
            answer = subprocess.run(command, capture_output=True, text=True, check=False)
            if answer.returncode == 0:
                return parse_pip_config(answer.stdout)
    return {}


def _reachable(value: str) -> str:
    """The addresses among these that a build reaches, too."""
    return " ".join(word for word in value.split() if not word.startswith(("file:", "/")))


def _local_wheels(pip: Mapping[str, str]) -> Path:
    """A folder with the wheels of pip's local `find-links` folders."""
    folder = CACHE / "wheels"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for word in pip.get("find-links", "").split():
        path = Path(url2pathname(urlsplit(word).path)) if word.startswith("file:") else Path(word)
        for wheel in path.glob("*.whl") if path.is_dir() else ():
            link_or_copy(wheel, folder / wheel.name)
    return folder
