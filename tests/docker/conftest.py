"""One lab in containers for all tests of a session: our images, and PostgreSQL from Debian."""

import os
import secrets
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from imaging.layout import MARKER, Nas, RunFolder
from imaging.task import TaskConfig
from stack.credentials import MAKERS
from stack.demo.dataset import demo_set
from stack.runtime.label_studio import LabelStudio
from tests.docker.bases import POSTGRES, PYTHON, ensure_base
from tests.docker.engine import GID, LOCKED_UP, Container, Mount, docker, no_engine, try_docker
from tests.docker.images import Image, build_all
from tests.docker.labs import DockerLab, a_lab, lab_umask
from tests.docker.loops import Loop
from tests.phantoms import mask_config
from tests.services.trainer.runs import requested_run

MIGRATE_LIMIT_S = 300.0
START_LIMIT_S = 120.0
HURRY = {"POLL_S": "1", "INGEST_QUIET_S": "1", "TRAINER_THREADS": "1"}
DATABASE_PASSWORD = "label-studio-db-password"
SERVER = {
    "LABEL_STUDIO_USERNAME": "admin@labloop.local",
    "LABEL_STUDIO_DATABASE_HOST": "db",
    "LABEL_STUDIO_WORKERS": "2",
}
ADDRESSES = {
    "LABEL_STUDIO_URL": "http://label-studio:8080",
    "ML_BACKEND_URL": "http://ml-backend:9090",
    # Label Studio takes no webhook to a host whose name has no dot.
    "WEBHOOK_URL": "http://watchdog.internal:8096",
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whoever restarts the engine comes last: it ends containers that other tests still need."""
    items.sort(key=lambda item: item.path.name == "test_kills.py")


@pytest.fixture(scope="session", autouse=True)
def engine() -> None:
    reason = no_engine()
    if reason:
        pytest.skip(reason)


@pytest.fixture(scope="session")
def images(engine: None) -> dict[str, Image]:
    """Every image of ours, built from the bases."""
    return build_all(ensure_base(PYTHON))


@dataclass
class Lab:
    """The containers of a session, and what lies around them on this machine."""

    root: Path
    images: Mapping[str, Image]
    network: str
    containers: dict[str, Container] = field(default_factory=dict)
    migrations: list[str] = field(default_factory=list)  # what the one-shots logged
    run: RunFolder | None = None  # the training that the trainer was asked for

    @property
    def nas(self) -> Nas:
        return Nas(self.root / "nas")

    @property
    def training_nas(self) -> Nas:
        """The trainer's own share: phantoms that no picture was dropped for."""
        return Nas(self.root / "training" / "nas")

    @property
    def secret_values(self) -> list[str]:
        return [path.read_text().strip() for path in (self.root / "secrets").iterdir()]

    def start(
        self,
        name: str,
        *command: str,
        nas: Nas | None = None,
        called: str | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> Container:
        """A container of one of our images, locked up, with the share and its secrets."""
        image = self.images[name]
        mounts = [
            Mount(path, f"/run/secrets/{path.name}", read_only=True)
            for path in (self.root / "secrets").iterdir()
        ]
        # Label Studio and TensorBoard only look at pictures and runs.
        looks_only = name in ("label-studio", "tensorboard")
        mounts.append(Mount((nas or self.nas).root, "/nas", read_only=looks_only))
        given = SERVER if name == "label-studio" else {**HURRY, **ADDRESSES}
        # A named volume takes the owner of the image's folder, a bind mount would not.
        words = (*LOCKED_UP, "--volume", "/state")
        container = Container.run(
            f"{self.network}--{called or name}",
            image.tag,
            *command,
            network=self.network,
            environment={**given, **(environment or {})},
            mounts=tuple(mounts),
            words=words,
        )
        self.containers[called or name] = container
        return container

    def client(self) -> LabelStudio:
        url = f"http://{self.containers['label-studio'].address}:8080"
        token = (self.root / "secrets" / "label-studio-token").read_text().strip()
        return LabelStudio(url, token, timeout_s=60.0)


@pytest.fixture(scope="session")
def lab(images: dict[str, Image], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """Everything, healthy; gone afterwards."""
    root = tmp_path_factory.mktemp("lab")
    lab = Lab(root, images, f"labloop-test-{os.getpid()}")
    _make_secrets(root / "secrets")
    _make_shares(lab, mask_config())
    docker("network", "create", lab.network)
    try:
        _start_all(lab)
        yield lab
    finally:
        for container in lab.containers.values():
            container.remove()
        try_docker("network", "rm", lab.network)


def _make_secrets(folder: Path) -> None:
    """The folder keeps everybody else out; in a container each file is all there is to see."""
    folder.mkdir(mode=0o700)
    values = {name: make() for name, make in MAKERS.items()}
    for name, value in (values | {DATABASE_PASSWORD: secrets.token_urlsafe(32)}).items():
        (folder / name).write_text(value)
        (folder / name).chmod(0o444)


def _make_shares(lab: Lab, config: TaskConfig) -> None:
    lab.nas.dataset.mkdir(parents=True)
    for folder in (lab.nas.runs, lab.nas.models):
        folder.mkdir()
    (lab.nas.root / MARKER).touch()
    _, lab.run = requested_run(lab.training_nas.root.parent, config)
    for share in (lab.nas, lab.training_nas):
        give_to_the_lab(share.root)


def give_to_the_lab(folder: Path) -> None:
    """As on a lab's NAS: folders belong to the lab's group and hand it on."""
    command = f"chgrp -R {GID} /s && find /s -type d -exec chmod 2775 {{}} +"
    words = ("run", "--rm", "--user", "0", "--volume", f"{folder}:/s")
    docker(*words, ensure_base(PYTHON), "sh", "-c", command)


def _start_all(lab: Lab) -> None:
    _start_postgres(lab)
    migrate = ("python", "-m", "services.label_studio.start", "--migrate")
    shots = [lab.start("label-studio", *migrate, called=f"migrate-{n}") for n in (1, 2)]
    for name in ("trainer", "tensorboard"):
        lab.start(name, nas=lab.training_nas)
    with ThreadPoolExecutor() as pool:
        codes = list(pool.map(lambda shot: shot.wait_until_ended(MIGRATE_LIMIT_S), shots))
    lab.migrations = [shot.logs() for shot in shots]
    assert codes == [0, 0], "\n".join(lab.migrations)[-3000:]
    lab.start("label-studio").wait_until("healthy", START_LIMIT_S)
    for name in ("ml-backend", "watchdog", "ingest"):
        lab.start(name)
    for name in lab.images:
        lab.containers[name].wait_until("healthy", START_LIMIT_S)


def _start_postgres(lab: Lab) -> None:
    lab.containers["db"] = Container.run(
        f"{lab.network}--db",
        ensure_base(POSTGRES),
        network=lab.network,
        environment={
            "POSTGRES_USER": "label-studio",
            "POSTGRES_DB": "label-studio",
            "POSTGRES_PASSWORD_FILE": f"/run/secrets/{DATABASE_PASSWORD}",
        },
        mounts=(
            Mount(lab.root / "secrets" / DATABASE_PASSWORD, f"/run/secrets/{DATABASE_PASSWORD}"),
        ),
        words=("--health-cmd", "pg_isready --host=localhost", "--shm-size", "128m"),
    )


@pytest.fixture(scope="session")
def stack(engine: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DockerLab]:
    """A whole lab, brought up with the command line; its share is its home's own folder."""
    root = tmp_path_factory.mktemp("stack")
    backups = tmp_path_factory.mktemp("backups")
    more = {"GATEWAY_BIND": "0.0.0.0", "BACKUP_REPOSITORY": str(backups), "BACKUP_RAWDATA": "yes"}
    with a_lab(root, **more) as lab:
        lab.up()
        yield lab


@pytest.fixture(scope="session")
def loop(stack: DockerLab) -> Loop:
    """The demo's story, told to the lab through the gateway's TLS alone."""
    # Short trainings on a loaded machine: a second model that is no better is a verdict, too.
    demo = replace(demo_set("example", 30.0, Path()), is_sure=False)
    with stack.client() as client, lab_umask():
        return Loop(demo, stack.story(demo, client).tell())
