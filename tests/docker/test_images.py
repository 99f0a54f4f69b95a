"""What an image is, before anything runs in it for long."""

import json
from pathlib import Path
from typing import Any

import pytest

from stack.environments import Checkout
from stack.install_tool import pinned
from tests.docker.bases import PYTHON, ensure_base
from tests.docker.engine import GID, UID, docker
from tests.docker.images import FOLDERS, Image, build, download_wheels, offline_words

pytestmark = pytest.mark.docker
EVERY = pytest.mark.parametrize("name", FOLDERS)


def config_of(image: Image) -> dict[str, Any]:
    return dict(json.loads(docker("image", "inspect", image.tag))[0]["Config"])


def in_a_container(image: Image, *command: str) -> str:
    words = ("--rm", "--network", "none", "--entrypoint", command[0])
    return docker("run", *words, image.tag, *command[1:])


@EVERY
def test_an_image_says_what_it_is_and_how_it_is_watched(
    images: dict[str, Image], name: str
) -> None:
    config = config_of(images[name])
    assert config["Labels"]["org.opencontainers.image.title"] == f"labloop-{name}"
    assert config["User"] == f"{UID}:{GID}"
    assert config["Healthcheck"]["Test"][0] == "CMD", "no shell"
    assert config["StopSignal"] == "SIGTERM"
    assert config["Entrypoint"] == ["/app/stack/runtime/entrypoint.sh"]


@EVERY
def test_nothing_of_the_build_stays_behind(images: dict[str, Image], name: str) -> None:
    script = "ls -A /wheels /root/.cache /setup /app; cat /etc/pip.conf /setup/ca.crt"
    found = in_a_container(images[name], "/bin/sh", "-c", f"{script} 2>&1 || true")
    assert "ca.crt: No such file" in found and "pip.conf: No such file" in found
    assert ".whl" not in found and "uv" not in found.split()
    assert "Dockerfile" not in found and "README" not in found


@EVERY
def test_an_image_holds_the_pinned_versions_and_no_other_rooms(
    images: dict[str, Image], name: str
) -> None:
    rooms = set(in_a_container(images[name], "ls", "/app").split())
    assert rooms <= {"REVISION", "imaging", "ml_backend", "services", "stack"}
    assert in_a_container(images[name], "ls", "/app/stack").split() in (
        ["__init__.py", "runtime"],
        ["runtime"],
    )
    question = "import importlib.metadata as m; print(m.version('httpx'))"
    assert in_a_container(images[name], "python", "-c", question) == pinned("httpx", Checkout())


def test_the_trainer_has_the_torch_that_was_asked_for(images: dict[str, Image]) -> None:
    question = "import torch, monai; print(torch.__version__.split('+')[0], torch.version.cuda)"
    found = in_a_container(images["trainer"], "python", "-c", question)
    assert found.splitlines()[-1] == f"{pinned('torch', Checkout())} None"


@pytest.mark.parametrize("name", [name for name in FOLDERS if name != "trainer"])
def test_only_the_trainer_carries_torch(images: dict[str, Image], name: str) -> None:
    question = "import importlib.util as u; print(u.find_spec('torch'))"
    assert in_a_container(images[name], "python", "-c", question) == "None"


def test_an_image_is_built_without_any_network(images: dict[str, Image], tmp_path: Path) -> None:
    base = ensure_base(PYTHON)
    download_wheels("tensorboard", base, tmp_path)
    image = build("tensorboard", base, offline_words(tmp_path), label="offline")
    assert in_a_container(image, "tensorboard", "--version").split()[-1] == pinned(
        "tensorboard", Checkout()
    )
    docker("image", "rm", image.tag)
