"""Ingest as a process, against a real Label Studio."""

import os
import signal
import subprocess
import sys
import time
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from imaging.dataset.cases import list_cases
from imaging.layout import TaskFolder
from services.ingest.sync import CALM_S
from tests.dicom_phantoms import small_scan, write_scan
from tests.flow.conftest import RealLabelStudio
from tests.services.ingest.volumes import labels, volume

pytestmark = pytest.mark.label_studio


def png(seed: int) -> bytes:
    stream = BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (40, 56), dtype=np.uint8)
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def mask_png() -> bytes:
    mask_HW = np.zeros((40, 56), dtype=np.uint8)
    mask_HW[10:20, 12:40] = 255
    stream = BytesIO()
    Image.fromarray(mask_HW).save(stream, "PNG")
    return stream.getvalue()


def drop(task: TaskFolder, path: str, data: bytes) -> None:
    target = task.rawdata / path
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(data)


def environment(label_studio: RealLabelStudio, state: Path) -> dict[str, str]:
    state.mkdir(exist_ok=True)
    for name in ("backend", "webhook", "pseudonym"):
        (state / name).write_text("secret")
    return os.environ | {
        "NAS_ROOT": str(label_studio.nas.root),
        "STATE_DIR": str(state),
        "HEARTBEAT_FILE": str(state / "heartbeat"),
        "LABEL_STUDIO_URL": label_studio.url,
        "LABEL_STUDIO_TOKEN_FILE": str(label_studio.token_file),
        "ML_BACKEND_TOKEN_FILE": str(state / "backend"),
        "WEBHOOK_SECRET_FILE": str(state / "webhook"),
        "PSEUDONYM_KEY_FILE": str(state / "pseudonym"),
        "POLL_S": "0.3",
        "INGEST_QUIET_S": "0.3",
    }


def test_killed_again_and_again_it_makes_each_task_once(
    label_studio: RealLabelStudio, task_folder: TaskFolder, tmp_path: Path
) -> None:
    task = task_folder
    drop(task, "images/0.png", png(0))
    drop(task, "masks/0.png", mask_png())
    env = environment(label_studio, tmp_path / "state")
    command = [sys.executable, "-m", "services.ingest"]
    for number in range(1, 250):
        drop(task, f"images/{number}.png", png(number))
    for wait_s in (1.5, 2.5, 3.5):
        process = subprocess.Popen(command, env=env)
        time.sleep(wait_s)
        process.send_signal(signal.SIGKILL)
        process.wait()
    process = subprocess.Popen(command, env=env)
    try:
        project, found = None, 0
        deadline = time.monotonic() + 90 + CALM_S
        while found < 250 and time.monotonic() < deadline:
            time.sleep(0.5)
            project = label_studio.client.find_project(task.name)
            rows = list(label_studio.client.tasks(project.id)) if project else []
            found = len(rows)
    finally:
        process.terminate()
        assert process.wait(30) == 0
    cases = {case.case: case for case in list_cases(task)}
    assert len(cases) == 250
    assert project is not None
    rows = list(label_studio.client.tasks(project.id))
    assert sorted(row["data"]["case"] for row in rows) == sorted(cases)
    labelled = [row["data"]["case"] for row in rows if row["annotations"]]
    assert [cases[case].source.path for case in labelled] == ["images/0.png"]
    preview = label_studio.client.http.get(rows[0]["data"]["image"])
    assert preview.status_code == 200 and preview.content.startswith(b"\x89PNG")


def test_a_label_that_came_late_reaches_its_task_once(
    label_studio: RealLabelStudio, task_folder: TaskFolder, tmp_path: Path
) -> None:
    task = task_folder
    drop(task, "images/0.png", png(500))
    task.config.write_text("kind: segmentation\nlabels: [heart]\n")
    env = environment(label_studio, tmp_path / "state")
    command = [sys.executable, "-m", "services.ingest", "--once"]
    subprocess.run(command, env=env, timeout=60, check=True)
    drop(task, "masks/0.png", mask_png())
    for _ in range(2):
        subprocess.run(command, env=env, timeout=60, check=True)
    project = label_studio.client.find_project(task.name)
    assert project is not None
    (row,) = label_studio.client.tasks(project.id)
    assert [result["type"] for result in row["annotations"][0]["result"]] == ["brushlabels"]
    assert len(row["annotations"]) == 1


def test_volumes_are_served_by_slice_with_the_labels_that_came(
    label_studio: RealLabelStudio, task_folder: TaskFolder, tmp_path: Path
) -> None:
    task, client = task_folder, label_studio.client
    task.config.write_text("kind: segmentation\nmodality: CT\nlabels: [a, b]\n")
    drop(task, "imagesTr/x_0000.nii.gz", volume(1))
    drop(task, "labelsTr/x.nii.gz", labels())
    write_scan(task.rawdata / "ct", small_scan())
    env = environment(label_studio, tmp_path / "state")
    command = [sys.executable, "-m", "services.ingest", "--once"]
    subprocess.run(command, env=env, timeout=120, check=True)
    project = client.find_project(task.name)
    assert project is not None
    rows = list(client.tasks(project.id))
    cases = {case.case: case for case in list_cases(task)}
    assert sorted(row["data"]["case"] for row in rows) == sorted(cases)
    for row in rows:
        facts = cases[row["data"]["case"]].volume
        assert facts is not None and len(row["data"]["slices"]) == facts.plane.count
        for url in row["data"]["slices"]:
            picture = client.http.get(url)
            assert picture.status_code == 200 and picture.content.startswith(b"\x89PNG")
    (annotation,) = [one for row in rows for one in row["annotations"]]
    assert {one["item_index"] for one in annotation["result"]} == set(range(4, 11))


def test_of_two_tasks_of_a_case_only_one_that_nobody_touched_is_removed(
    label_studio: RealLabelStudio, task_folder: TaskFolder, tmp_path: Path
) -> None:
    task, client = task_folder, label_studio.client
    for number in range(4):
        drop(task, f"images/{number}.png", png(600 + number))
    task.config.write_text("kind: segmentation\nlabels: [heart]\n")
    command = [sys.executable, "-m", "services.ingest", "--once"]
    env = environment(label_studio, tmp_path / "state")
    subprocess.run(command, env=env, timeout=60, check=True)
    project = client.find_project(task.name)
    assert project is not None
    first = list(client.tasks(project.id))
    second = client.import_tasks(project.id, [{"data": row["data"]} for row in first])
    skip: dict[str, object] = {"result": [], "was_cancelled": True}
    client.call("POST", f"/api/tasks/{second[0]}/annotations/", skip)
    client.create_annotation(second[1], [])
    client.call("POST", f"/api/tasks/{second[2]}/drafts", {"result": []})
    subprocess.run(command, env=env, timeout=60, check=True)
    gone = {first[0]["id"], first[1]["id"], second[3]}
    left = {row["id"] for row in client.tasks(project.id)}
    assert left == {*second, *(row["id"] for row in first)} - gone
