"""Our services in their containers: healthy without rights, writing as the lab."""

import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from imaging.dataset.annotations import newest_revisions
from imaging.dataset.cases import list_cases
from imaging.io.picture import write_picture
from imaging.layout import TaskFolder
from imaging.publish import read_json
from imaging.runs import is_over, load_state
from imaging.task import save_task
from stack.runtime.label_studio import ProjectRef
from tests.docker.conftest import Lab, give_to_the_lab
from tests.docker.engine import GID, UID, docker, wait_for
from tests.docker.images import FOLDERS, REVISION
from tests.phantoms import disc_picture, mask_config

pytestmark = pytest.mark.docker
EVERY = pytest.mark.parametrize("name", FOLDERS)


def written_by_us(root: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """What containers have made below a folder; parts of files come and go meanwhile."""
    for path in root.rglob("*"):
        with suppress(FileNotFoundError):
            found = path.lstat()
            if found.st_uid == UID:
                yield path, found


def assert_belongs_to_the_lab(root: Path) -> None:
    written = list(written_by_us(root))
    assert written, f"nothing below {root} was written by a container"
    for path, found in written:
        rights = stat.S_IMODE(found.st_mode)
        assert found.st_gid == GID, path
        # Frozen files are read-only for everybody, on purpose.
        wanted = 0o070 if stat.S_ISDIR(found.st_mode) else 0o060 if rights & 0o200 else 0o040
        assert rights & wanted == wanted, f"{path}: {rights:o}"


@EVERY
def test_a_service_is_healthy_with_no_rights_at_all(lab: Lab, name: str) -> None:
    container = lab.containers[name]
    assert container.health() == "healthy", container.logs()[-2000:]
    assert container.execute("id", "-u") == str(UID)
    assert container.execute("id", "-g") == str(GID)
    status = container.execute("cat", "/proc/1/status")
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert int(fields["CapEff"], 16) == int(fields["CapBnd"], 16) == 0
    assert fields["NoNewPrivs"].strip() == "1"
    assert fields["Umask"].strip() == "0002"
    script = "touch /app/x /x 2>&1; true"
    assert container.execute("sh", "-c", script).count("Read-only file system") == 2


def test_a_dropped_picture_becomes_a_task_and_its_answer_lands(lab: Lab) -> None:
    folder = lab.nas.task("Task101_docker")
    drop(lab, folder)
    with lab.client() as client:
        projects: list[ProjectRef] = []

        def has_tasks() -> bool:
            found = client.find_project(folder.name)
            projects[:] = [found] if found else []
            return bool(found) and len(list(client.tasks(projects[0].id))) == 2

        wait_for("two pictures are two tasks", has_tasks, 60.0)
        number = projects[0].id
        back_ends = client.call("GET", "/api/ml/", params={"project": number})
        assert [one["state"] for one in back_ends] == ["CO"]
        hooks = client.call("GET", "/api/webhooks/", params={"project": number})
        assert [one["url"] for one in hooks] == ["http://watchdog.internal:8096"]
        task = next(iter(client.tasks(number)))
        case = task["data"]["case"]
        picture = client.http.get(task["data"]["image"])
        assert picture.status_code == 200 and picture.content[:4] == b"\x89PNG"
        client.create_annotation(task["id"], [])
    wait_for("the answer is on the share", lambda: bool(list(newest_revisions(folder, case))), 30.0)
    assert len(list(list_cases(folder))) == 2
    assert_belongs_to_the_lab(folder.root)


def drop(lab: Lab, folder: TaskFolder) -> None:
    """Two pictures, put on the share by a person of the lab; the folder appears in one step."""
    made = TaskFolder(lab.root / folder.name)
    made.rawdata.mkdir(parents=True)
    save_task(made.config, mask_config())
    for number in (1, 2):
        write_picture(made.rawdata / f"p_{number:04d}.png", disc_picture(number)[0])
    give_to_the_lab(made.root)
    made.root.rename(folder.root)


def test_a_run_is_trained_judged_and_shown(lab: Lab) -> None:
    assert lab.run is not None
    run = lab.run
    wait_for("the run is over", lambda: is_over(run), 180.0)
    state = load_state(run)
    assert state.state == "judged", f"{state}\n{lab.containers['trainer'].logs()[-3000:]}"
    assert read_json(run.recipe)["commit"] == REVISION
    assert_belongs_to_the_lab(lab.training_nas.root)
    url = "http://127.0.0.1:6006/data/runs"
    question = f"from urllib.request import urlopen; print(urlopen('{url}').read().decode())"
    board = lab.containers["tensorboard"]
    wait_for(
        "TensorBoard shows it", lambda: run.run_id in board.execute("python", "-c", question), 30
    )


PROMOTE = """
from pathlib import Path
from imaging.layout import Nas
from imaging.registry import promote
promote(Nas(Path("/nas")), "{task}", "{version}", "a person looked at it")
"""


def test_the_champion_is_served_from_its_container(lab: Lab) -> None:
    assert lab.run is not None
    run = lab.run
    wait_for("the run is over", lambda: is_over(run), 180.0)
    version = load_state(run).version
    # Trained for two seconds, it may or may not have passed the gate.
    script = PROMOTE.format(task=run.task, version=version)
    lab.containers["trainer"].execute("python", "-c", script)
    server = lab.start("ml-backend", nas=lab.training_nas, called="serving")
    server.wait_until("healthy", 60.0)
    token = (lab.root / "secrets" / "ml-backend-token").read_text()
    url = f"http://{server.address}:9090/{run.task}/health"
    with httpx.Client(auth=("labloop", token), trust_env=False) as client:

        def is_served() -> bool:
            return bool(client.get(url).json()["model_version"] == version)

        wait_for(f"{version} is served", is_served, 30.0)


@pytest.mark.parametrize("name", [*FOLDERS, "db", "migrate-1"])
def test_no_secret_is_seen_from_outside(lab: Lab, name: str) -> None:
    container = lab.containers[name]
    seen = str(container.inspect()) + container.logs()
    if container.inspect()["State"]["Running"]:
        seen += docker("top", container.name, "-eo", "pid,args")
    assert not [value for value in lab.secret_values if value in seen]
