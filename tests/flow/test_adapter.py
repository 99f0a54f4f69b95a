"""`LabloopModel` inside label-studio-ml, in an environment without torch."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from imaging.layout import Nas
from imaging.registry import promote
from tests.flow.back_ends import ROOT, one_label_bundle
from tests.ml_backend.fakes import add_case, square_picture
from tests.phantoms import TASK, mask_config

pytestmark = pytest.mark.slow

PYTHON = ROOT / ".envs" / "label-studio-ml" / "bin" / "python"
V1, V2 = "model-20260314T093101Z-41ac", "model-20260314T093102Z-52bd"

# Calls the application's routes one after the other and prints what they answered.
DRIVER = """
import json, sys
from ml_backend.adapter import app
client = app().test_client()
answers = []
for step in json.loads(sys.argv[1]):
    if "point_at" in step:
        from imaging.publish import read_json, write_json
        from pathlib import Path
        pointer = Path(step["pointer"])
        write_json(pointer, read_json(pointer) | {"version": step["point_at"]})
        continue
    answer = client.open(step["path"], method=step.get("method", "POST"), json=step.get("body"))
    answers.append([answer.status_code, answer.get_json()])
print("ANSWERS" + json.dumps([answers, "torch" in sys.modules]))
"""


@pytest.fixture
def nas(tmp_path: Path) -> Nas:
    nas = Nas(tmp_path / "nas")
    nas.dataset.mkdir(parents=True)
    nas.marker.touch()
    return nas


def talk(nas: Nas, steps: list[dict[str, Any]], python: Path, path: Path = ROOT) -> list[Any]:
    """What the adapter answers, in order."""
    environment = os.environ | {
        "NAS_ROOT": str(nas.root),
        "LABLOOP_TASK": TASK,
        "PYTHONPATH": f"{path}{os.pathsep}{ROOT}",
    }
    done = subprocess.run(
        [str(python), "-c", DRIVER, json.dumps(steps)],
        env=environment, cwd=nas.root, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    answers, has_torch = json.loads(done.stdout.partition("ANSWERS")[2])
    assert not has_torch
    assert isinstance(answers, list)
    return answers


def predict(*addresses: str, context: object = None) -> dict[str, Any]:
    tasks = [{"id": n, "data": {"image": address}} for n, address in enumerate(addresses)]
    params = {"login": None, "password": None, "context": context}
    body = {"tasks": tasks, "project": "1.17", "label_config": "<View/>", "params": params}
    return {"path": "/predict", "body": body}


SETUP = {
    "path": "/setup",
    "body": {
        "project": "1.17",
        "schema": "<View/>",
        "hostname": "",
        "access_token": "",
        "extra_params": None,
    },
}
HEALTH = {"path": "/health", "method": "GET"}
EVENT = {"path": "/webhook", "body": {"action": "ANNOTATION_CREATED", "project": {"id": 1}}}


def needs_label_studio_ml() -> None:
    if not PYTHON.is_file():
        pytest.skip(
            f"no environment at {PYTHON.parents[1]}: `labloop setup --with label-studio-ml`"
        )


def test_label_studio_ml_serves_the_champion(nas: Nas) -> None:
    needs_label_studio_ml()
    for index, version in ((1, V1), (2, V2)):
        one_label_bundle(nas, TASK, version, mask_config(), index)
    promote(nas, TASK, V1, "test")
    good = add_case(nas, "case-1", square_picture(48), TASK)
    steps = [
        predict(good),  # before any /setup, as after a restart
        HEALTH,
        SETUP,
        predict(good, "/data/local-files/?d=/etc/passwd", good),
        EVENT,
        {"point_at": V2, "pointer": str(nas.model(TASK).champion)},
        SETUP,
        predict(good),
    ]
    answers = talk(nas, steps, PYTHON)
    assert [status for status, _ in answers] == [200, 200, 200, 200, 201, 200, 200]
    first, _, setup, batch, _, setup_after, after = [answer for _, answer in answers]
    assert setup["model_version"] == V1
    for entry in (first["results"][0], batch["results"][0], batch["results"][2]):
        assert entry["model_version"] == V1
        assert [region["value"]["brushlabels"] for region in entry["result"]] == [["disc"]]
    assert batch["results"][1] == []
    assert setup_after["model_version"] == V2 == after["results"][0]["model_version"]
    assert after["results"][0]["result"][0]["value"]["brushlabels"] == ["core"]


def test_label_studio_ml_says_so_before_a_champion(nas: Nas) -> None:
    needs_label_studio_ml()
    answers = talk(nas, [SETUP, predict("x", "y"), predict("x", context={"result": []})], PYTHON)
    assert [status for status, _ in answers] == [200, 200, 200]
    assert answers[0][1]["model_version"] == "no-model-yet"
    assert answers[1][1]["results"] == [[], []]
    assert answers[2][1]["results"][0]["result"] == []


# The 2.0 API is on no package index: this is its shape, as far as a model class sees it.
V2_SHAPE = {
    "__init__.py": "",
    "model.py": """
class LabelStudioMLBase:
    def __init__(self, project_id=None, label_config=None):
        self.kept = {}
        self.setup()
    def set(self, key, value):
        self.kept[key] = value
    def get(self, key):
        return self.kept[key]
""",
    "api.py": """
from flask import Flask, jsonify, request
server = Flask("label_studio_ml")
def init_app(model_class, basic_auth_user=None, basic_auth_pass=None):
    @server.post("/setup")
    def setup():
        return jsonify({"model_version": model_class("1", "<View/>").get("model_version")})
    @server.post("/predict")
    def predict():
        call = request.json
        context = call["params"].pop("context", {})
        made = model_class("1", "<View/>").predict(call["tasks"], context=context, **call["params"])
        return jsonify({"results": made})
    return server
""",
}


def test_the_same_class_serves_under_the_2_0_api(nas: Nas, tmp_path: Path) -> None:
    pytest.importorskip("flask")
    package = tmp_path / "packages" / "label_studio_ml"
    package.mkdir(parents=True)
    for name, text in V2_SHAPE.items():
        (package / name).write_text(text)
    one_label_bundle(nas, TASK, V1, mask_config(), 1)
    promote(nas, TASK, V1, "test")
    good = add_case(nas, "case-1", square_picture(48), TASK)
    answers = talk(nas, [SETUP, predict(good)], Path(sys.executable), package.parent)
    assert answers[0] == [200, {"model_version": V1}]
    [entry] = answers[1][1]["results"]
    assert (entry["model_version"], len(entry["result"])) == (V1, 1)
