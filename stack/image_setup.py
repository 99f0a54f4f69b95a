"""Makes the Python environment of a container while its image is built; every Dockerfile calls it.

    python3 -m stack.image_setup EXTRA                    # one extra of pyproject.toml
    python3 -m stack.image_setup trainer --cuda 13.0      # with torch for that CUDA, or `none`

Runs with the base image's own python3, which in deepo's is a 3.8: only what that understands, and
the standard library. Packages come from the indexes in pip's own configuration file (a build
secret) and from a folder of wheels (a build context); either may be absent.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from stack.pip_settings import parse_pip_config, uv_options, uv_variables

ENVIRONMENT = Path("/opt/labloop")
PYTHONS = Path("/opt/python")  # when the base's own Python is too old
WANTED = (3, 11)
CONSTRAINTS = "constraints.txt"
# Where the Dockerfiles mount what a build may be given.
CACHE = Path("/root/.cache")
WHEELS = Path("/wheels")
CERTIFICATES = Path("/setup/ca.crt")
NO_CUDA = "none"


class ImageSetupError(Exception):
    """The environment cannot be made as asked for."""


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="stack.image_setup", description=__doc__)
    parser.add_argument("extra", help="an extra of pyproject.toml")
    parser.add_argument("--cuda", help="install torch: for this CUDA, or `none` for processors")
    asked = parser.parse_args(arguments)
    pins = Path(CONSTRAINTS).read_text(encoding="utf-8")
    variables = build_variables(dict(os.environ), CERTIFICATES.is_file())
    try:
        uv = get_uv(pinned("uv", pins), variables)
        config = parse_pip_config(output([*pip(), "config", "list"], variables))
        variables = uv_variables(config, variables)
        options = [*uv_options(config), *find_links()]
        make_environment(uv, sys.version_info[:2], variables)
        install = [uv, "pip", "install", "--python", str(ENVIRONMENT), *options, "-c", CONSTRAINTS]
        if asked.cuda:
            install_torch(install, pinned("torch", pins), asked.cuda, variables)
        run([*install, "-r", "pyproject.toml", "--extra", asked.extra], variables)
        if asked.cuda:
            check_torch(pinned("torch", pins), asked.cuda, variables)
        name_ourselves(ENVIRONMENT, Path("pyproject.toml").read_text(encoding="utf-8"))
    except ImageSetupError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


def build_variables(given: Mapping[str, str], has_certificates: bool) -> dict[str, str]:
    """The environment for pip and uv: the lab's certificates, a cache outside of the image."""
    variables = {
        "UV_CACHE_DIR": str(CACHE / "uv"),
        "UV_LINK_MODE": "copy",  # the cache is another filesystem
        "UV_COMPILE_BYTECODE": "1",  # containers cannot write theirs
        "UV_PYTHON_INSTALL_DIR": str(PYTHONS),
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PIP_ROOT_USER_ACTION": "ignore",
        **given,
    }
    if sys.version_info < WANTED:
        variables["UV_PYTHON_DOWNLOADS"] = "automatic"
    if has_certificates:
        for name in ("SSL_CERT_FILE", "PIP_CERT"):
            variables[name] = str(CERTIFICATES)
    return variables


def pinned(package: str, pins: str) -> str:
    """The version of a package that constraints.txt says."""
    match = re.search(rf"^{re.escape(package)}==(\S+)", pins, re.MULTILINE)
    if match is None:
        raise ImageSetupError(f"{CONSTRAINTS} does not say which {package}, expected one line")
    return match[1]


def pip() -> list[str]:
    return [sys.executable, "-m", "pip"]


def find_links() -> list[str]:
    return ["--find-links", str(WHEELS)] if any(WHEELS.glob("*.whl")) else []


def get_uv(version: str, variables: Mapping[str, str]) -> str:
    """uv, kept in the cache; builds side by side may both fetch it."""
    folder = CACHE / "labloop" / f"uv-{version}"
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as part:
            target = Path(part) / "uv"
            words = ["install", "--quiet", "--target", str(target), f"uv=={version}"]
            run([*pip(), *words, *find_links()], variables)
            try:
                target.rename(folder)
            except OSError:  # the other one was faster
                if not folder.is_dir():
                    raise
    return str(folder / "bin" / "uv")


def make_environment(uv: str, base: tuple[int, ...], variables: Mapping[str, str]) -> None:
    """Of the base's own Python if that is new enough, else of one that uv finds or fetches."""
    wanted = ".".join(map(str, WANTED))
    python = sys.executable if base >= WANTED else wanted
    try:
        run([uv, "venv", "--quiet", "--python", python, str(ENVIRONMENT)], variables)
    except ImageSetupError as error:
        found = ".".join(map(str, base))
        raise ImageSetupError(
            f"the base has Python {found}, expected {wanted} or newer, and none could be fetched. "
            "Take a newer base, or build with --build-arg UV_PYTHON_INSTALL_MIRROR=URL."
        ) from error


def torch_choices(version: str, cuda: str) -> list[list[str]]:
    """Where a build of torch may be had: by its tag, from PyTorch's index, or without a tag."""
    tag = "cpu" if cuda == NO_CUDA else "cu" + cuda.replace(".", "")
    choices = [[f"torch=={version}+{tag}"], ["--torch-backend", tag, f"torch=={version}"]]
    return choices if cuda == NO_CUDA else [*choices, [f"torch=={version}"]]


def install_torch(
    install: Sequence[str], version: str, cuda: str, variables: Mapping[str, str]
) -> None:
    for choice in torch_choices(version, cuda):
        if subprocess.call([*install, "--no-deps", *choice], env=dict(variables)) == 0:
            return
    raise ImageSetupError(
        f"torch {version} for CUDA {cuda} was found on no index, expected on the lab's own or on "
        "PyTorch's. Put its wheel into a folder and build with --build-context wheels=FOLDER."
    )


def check_torch(version: str, cuda: str, variables: Mapping[str, str]) -> None:
    """Make sure that what came is what was asked for: indexes offer many builds of one version."""
    question = "import torch; print(torch.__version__.split('+')[0], torch.version.cuda)"
    python = str(ENVIRONMENT / "bin" / "python")
    found = output([python, "-c", question], variables).strip()
    expected = f"{version} {None if cuda == NO_CUDA else cuda}"
    if found != expected:
        raise ImageSetupError(
            f"torch and its CUDA are {found}, expected {expected}. "
            "TORCH_CUDA says which CUDA to build for; `none` is for processors alone."
        )
    sys.stdout.write(f"torch {found}\n")


def name_ourselves(environment: Path, project: str) -> None:
    """Say which version of ours this is. Our code is copied into an image, not installed."""
    match = re.search(r'^version = "(.+)"$', project, re.MULTILINE)
    packages = list(environment.glob("lib/python*/site-packages"))
    if match is None or not packages:
        raise ImageSetupError("found no version in pyproject.toml or no packages, expected both")
    folder = packages[0] / f"labloop-{match[1]}.dist-info"
    folder.mkdir()
    text = f"Metadata-Version: 2.1\nName: labloop\nVersion: {match[1]}\n"
    (folder / "METADATA").write_text(text, encoding="utf-8")


def run(command: Sequence[str], variables: Mapping[str, str]) -> None:
    code = subprocess.call(list(command), env=dict(variables))
    if code != 0:
        raise ImageSetupError(f"{' '.join(command)}: exit code {code}")


def output(command: Sequence[str], variables: Mapping[str, str]) -> str:
    try:
        return subprocess.check_output(list(command), env=dict(variables), encoding="utf-8")
    except subprocess.CalledProcessError as error:
        raise ImageSetupError(f"{' '.join(command)}: exit code {error.returncode}") from error


if __name__ == "__main__":
    sys.exit(main())
