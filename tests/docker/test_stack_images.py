"""Bringing the images of a stack in a real engine: built, refused by name, bundled, cleaned up."""

import json
import os
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from stack.engine.bundle import (
    MANIFEST,
    BundleError,
    Manifest,
    pack_images,
    prepare,
    write_sums,
)
from stack.engine.bundle_load import load_bundle
from stack.engine.compose_call import Compose
from stack.engine.docker_call import Docker
from stack.engine.gpu_runtime import Sight, choose_gpu, find_nvidia_runtime, torch_of, try_gpu
from stack.engine.images import (
    BuildFailedError,
    MissingImageError,
    ensure_images,
    present_images,
)
from stack.engine.lab import Lab, docker_environment
from stack.engine.old_images import own_images, prune
from stack.engine.settings import LabSettings
from stack.home import Home
from stack.settings import inherited_environment
from tests.docker.bases import PYTHON, ensure_base
from tests.docker.engine import docker, try_docker
from tests.docker.images import Image

pytestmark = pytest.mark.docker
PREFIX = f"labloop-test-{os.getpid()}"
NOWHERE = "registry.invalid/base:1"
COMPOSE = """
services:
  app:
    image: {prefix}/app:{tag}
    build: {{context: ., args: {{BASE_IMAGE: "{base}"}}}}
  other: {{image: "{other}"}}
"""
DOCKERFILE = "ARG BASE_IMAGE\nFROM ${BASE_IMAGE}\nRUN echo making it && STEP\n"


class SmallStack:
    """A stack of two images, one of them built."""

    def __init__(
        self, folder: Path, *, base: str = "", other: str = "", step: str = "true"
    ) -> None:
        self.folder = folder
        self.base = base or ensure_base(PYTHON)
        self.other = other or self.base
        (folder / "Dockerfile").write_text(DOCKERFILE.replace("STEP", step))
        (folder / "env").touch()

    def lab(self, tag: str = "1-a") -> Lab:
        file = self.folder / "compose.yaml"
        file.write_text(COMPOSE.format(prefix=PREFIX, tag=tag, base=self.base, other=self.other))
        compose = Compose(
            project=PREFIX,
            folder=self.folder,
            files=(file,),
            env_file=self.folder / "env",
            profile="lab",
            environment=docker_environment(inherited_environment()),
        )
        home = Home(self.folder / "home")
        home.run.mkdir(parents=True, exist_ok=True)
        return Lab(home, LabSettings.from_env({}), compose, (), tag)


@pytest.fixture(autouse=True)
def no_image_stays() -> Iterator[None]:
    yield
    names = [image.name for image in own_images(Docker.here(), PREFIX)]
    if names:
        try_docker("image", "rm", "--force", *names)


def names_of(stack: SmallStack, tags: Sequence[str] = ("1-a",)) -> list[str]:
    return [*(f"{PREFIX}/app:{tag}" for tag in tags), stack.other]


def test_what_is_missing_is_built_and_the_second_time_nothing_is(tmp_path: Path) -> None:
    lab = SmallStack(tmp_path).lab()
    assert ensure_images(lab).built == (f"{PREFIX}/app:1-a",)
    assert "making it" in lab.home.log("build").read_text()
    assert ensure_images(lab).built == ()


def test_a_build_that_fails_says_step_and_last_words(tmp_path: Path) -> None:
    lab = SmallStack(tmp_path, step="(echo the reason is this; exit 7)").lab()
    with pytest.raises(
        BuildFailedError, match=r"app 2/2: RUN echo making it.*exit code 7"
    ) as error:
        ensure_images(lab)
    assert "the reason is this" in str(error.value) and "build.log" in error.value.hint


def test_images_that_are_nowhere_are_named_before_anything_is_built(tmp_path: Path) -> None:
    lab = SmallStack(tmp_path, base=NOWHERE, other="registry.invalid/other:1").lab()
    with pytest.raises(MissingImageError) as error:
        ensure_images(lab)
    assert f"{NOWHERE} (the base of app)" in str(error.value)
    assert "registry.invalid/other:1 (for other)" in str(error.value)
    assert error.value.exit_code == 3 and not lab.home.log("build").exists()


def bundle_of(stack: SmallStack, folder: Path) -> Path:
    prepare(folder)
    images = pack_images(Docker.here(), names_of(stack), folder)
    manifest = Manifest("1", "1-a", "lab", "", "3.11", "x86_64", {}, images)
    (folder / MANIFEST).write_text(manifest.as_json())
    write_sums(folder)
    return folder


def test_a_bundle_brings_an_image_back_that_is_gone(tmp_path: Path) -> None:
    stack, there = SmallStack(tmp_path), Docker.here()
    lab, app = stack.lab(), f"{PREFIX}/app:1-a"
    ensure_images(lab)
    before = present_images(there, [app])
    folder = bundle_of(stack, tmp_path / "bundle")
    docker("image", "rm", app)
    with pytest.raises(MissingImageError):
        ensure_images(lab, offline=True)
    assert load_bundle(lab, folder) == [app], "the other one is there still"
    assert present_images(there, [app]) == before
    assert load_bundle(lab, folder) == []
    assert ensure_images(lab, offline=True).built == ()


def test_of_a_tampered_bundle_nothing_is_loaded(tmp_path: Path) -> None:
    stack = SmallStack(tmp_path)
    lab, app = stack.lab(), f"{PREFIX}/app:1-a"
    ensure_images(lab)
    folder = bundle_of(stack, tmp_path / "bundle")
    docker("image", "rm", app)
    archive = next(path for path in (folder / "images").iterdir() if "app" in path.name)
    with archive.open("r+b") as stream:
        stream.seek(1000)
        stream.write(b"tampered")
    with pytest.raises(BundleError, match="nothing was loaded"):
        load_bundle(lab, folder)
    assert present_images(Docker.here(), [app]) == {}


def test_old_images_go_and_those_in_use_stay(tmp_path: Path) -> None:
    stack, container = SmallStack(tmp_path), f"{PREFIX}-user"
    tags = ("1-a", "1-b", "1-c", "1-d")
    for tag in tags:
        (tmp_path / "Dockerfile").write_text(DOCKERFILE.replace("STEP", f"echo {tag}"))
        ensure_images(stack.lab(tag))
    docker("create", "--name", container, f"{PREFIX}/app:1-a")
    try:
        gone = prune(Docker.here(), PREFIX, "1-d")
    finally:
        docker("rm", container)
    assert [one.tag for one in gone] == ["1-b"]
    left = {one.tag for one in own_images(Docker.here(), PREFIX)}
    assert left == {"1-a", "1-c", "1-d"}, "the first one had a container"


def test_without_an_nvidia_runtime_the_engines_own_words_are_explained() -> None:
    there = Docker.here()
    info = json.loads(there.run("info", "--format", "{{json .}}"))
    if find_nvidia_runtime(info).is_worth_a_try:
        pytest.skip("this machine has an NVIDIA driver or runtime")
    outcome = try_gpu(there, ensure_base(PYTHON), Sight("nvidia", has_driver=False))
    assert outcome.state == "broken" and "could not select device driver" in outcome.words
    assert choose_gpu("auto", outcome).verdict == "refused"


def test_the_trainers_torch_says_what_it_was_built_for(images: dict[str, Image]) -> None:
    found = torch_of(Docker.here(), images["trainer"].tag)
    assert found is not None and found.cuda == "none" and found.architectures == ()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may take the network away")
def test_a_command_line_is_installed_without_a_network(tmp_path: Path) -> None:
    """As on the other side of an air gap: from the wheels of a bundle, and nothing else."""
    from stack.engine.bundle import collect_wheels, pack_source, tracked_files
    from stack.environments import CONTROL, ROOT, Checkout
    from stack.install import set_up

    checkout = Checkout()
    set_up(checkout, [CONTROL])
    wheels, box = tmp_path / "wheels", tmp_path / "box"
    wheels.mkdir()
    box.mkdir()
    collect_wheels(checkout, wheels)
    pack_source(ROOT, tracked_files(ROOT), tmp_path / "source.tar.gz")
    subprocess.run(["tar", "-xzf", "../source.tar.gz"], cwd=box, check=True)
    words = ["unshare", "--net", "make", "setup-control", "OFFLINE=1", f"WHEELS={wheels}"]
    clean = {"PATH": inherited_environment()["PATH"], "HOME": str(tmp_path / "nobody")}
    answer = subprocess.run(words, cwd=box, env=clean, capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    program = box / ".envs" / "control" / "bin" / "labloop"
    assert (
        "usage: labloop"
        in subprocess.run(
            [str(program), "--help"], cwd=box, env=clean, capture_output=True, text=True, check=True
        ).stdout
    )
