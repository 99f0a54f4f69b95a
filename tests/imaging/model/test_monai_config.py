import csv
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from monai.bundle import run as run_bundle
from monai.transforms import Compose
from PIL import Image

from imaging.io.picture import write_picture
from imaging.model.bundle import Bundle, load_bundle
from imaging.model.monai_config import inference_config, metadata
from imaging.model.predict import load_predictor
from imaging.model.transforms import preprocess
from tests.imaging.model.models import record_of
from tests.phantoms import disc_picture, mask_config

# What MONAI's schema of 2024-07-25 asks of a metadata.json.
TENSOR = {
    "type": "object",
    "properties": {
        "type": {"type": "string"},
        "format": {"type": "string"},
        "num_channels": {"type": "integer"},
        "spatial_shape": {"type": "array", "items": {"type": ["string", "integer"]}},
        "dtype": {"type": "string"},
        "value_range": {"type": "array", "items": {"type": "number"}},
        "is_patch_data": {"type": "boolean"},
        "channel_def": {"type": "object"},
    },
    "required": ["type", "format", "num_channels", "spatial_shape", "dtype", "value_range"],
}
SIDE = {"type": "object", "patternProperties": {"^.+$": TENSOR}, "minProperties": 1}
TEXTS = ["schema", "version", "monai_version", "pytorch_version", "numpy_version", "task"]
TEXTS += ["description", "authors", "copyright"]
MONAI_SCHEMA = {
    "type": "object",
    "properties": {name: {"type": "string"} for name in [*TEXTS, "intended_use"]}
    | {name: {"type": "object"} for name in ("changelog", "required_packages_version")}
    | {
        "eval_metrics": {"type": "object"},
        "network_data_format": {
            "type": "object",
            "properties": {"inputs": SIDE, "outputs": SIDE},
            "required": ["inputs", "outputs"],
        },
    },
    "required": [*TEXTS, "required_packages_version", "network_data_format"],
}
SHAPES = [(40, 36), (70, 50), (31, 64)]


@pytest.fixture(params=["mask_bundle", "class_bundle"])
def bundle(request: pytest.FixtureRequest) -> Bundle:
    found: Bundle = request.getfixturevalue(request.param)
    return found


def pictures(folder: Path) -> dict[str, np.ndarray[Any, Any]]:
    folder.mkdir()
    made = {}
    for number, shape_HW in enumerate(SHAPES):
        pixels, _ = disc_picture(number, shape_HW)
        write_picture(folder / f"{number}.png", pixels)
        made[str(number)] = pixels
    return made


def test_the_metadata_says_what_monais_schema_asks_for(bundle: Bundle) -> None:
    jsonschema.validate(metadata(bundle), MONAI_SCHEMA)
    written = json.loads((bundle.folder / "configs" / "metadata.json").read_text())
    assert written == json.loads(json.dumps(metadata(bundle)))


@pytest.mark.filterwarnings("ignore:parsing config_file:UserWarning")  # ours, and trusted
def test_plain_monai_answers_like_the_predictor(bundle: Bundle, tmp_path: Path) -> None:
    images = pictures(tmp_path / "images")
    run_bundle(
        run_id="run",
        init_id="initialize",
        config_file=str(bundle.folder / "configs" / "inference.json"),
        bundle_root=str(bundle.folder),
        dataset_dir=str(tmp_path / "images"),
        output_dir=str(tmp_path / "out"),
    )
    torch.set_grad_enabled(True)  # the bundle switches gradients off for the whole process
    answers = load_predictor(bundle.folder).predict(list(images.values()))
    if bundle.recipe.kind == "segmentation":
        for name, answer in zip(images, answers, strict=True):
            with Image.open(tmp_path / "out" / f"{name}_labels.png") as picture:
                found_HW = np.asarray(picture)
            assert answer.labels_HW is not None
            assert found_HW.shape == answer.labels_HW.shape
            assert np.mean(found_HW == answer.labels_HW) > 0.999
        return
    with (tmp_path / "out" / "predictions.csv").open() as stream:
        rows = {Path(row[0]).stem: [float(cell) for cell in row[1:]] for row in csv.reader(stream)}
    for name, answer in zip(images, answers, strict=True):
        assert answer.probabilities is not None
        assert rows[name] == pytest.approx(list(answer.probabilities.values()), abs=1e-4)


def test_answers_go_outside_the_bundle_unless_told_where(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    record = record_of(tmp_path / "model-1", mask_config())
    parser = ConfigParser(inference_config(record))
    assert parser.get_parsed_content("output_dir") == str(tmp_path / "home/predictions-model-1")


@pytest.mark.slow
def test_the_command_on_the_model_card_works_and_leaves_the_bundle_whole(
    mask_bundle: Bundle, tmp_path: Path
) -> None:
    pictures(tmp_path / "PICTURES")
    card = (mask_bundle.folder / "docs" / "README.md").read_text()
    command = card.split("```sh\n")[1].split("```")[0]
    for name in ("PICTURES", "ANSWERS"):
        command = command.replace(f"'{name}'", f"'{tmp_path / name}'")
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = os.environ | {"PATH": path, "PYTHONWARNINGS": "ignore"}
    ended = subprocess.run(
        ["sh", "-c", command],
        cwd=mask_bundle.folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    answers = {path.name for path in (tmp_path / "ANSWERS").iterdir()}
    assert answers == {f"{number}_labels.png" for number in range(len(SHAPES))}
    assert load_bundle(mask_bundle.folder) == mask_bundle


@pytest.mark.parametrize("fit", ["pad", "stretch"])
@pytest.mark.parametrize(("channels", "normalisation"), [(1, "percentile"), (3, "range")])
@pytest.mark.parametrize("shape", [(70, 50), (31, 64), (20, 24), (70, 50, 3)])
def test_our_preprocessing_is_the_one_the_bundle_names(
    tmp_path: Path, fit: str, channels: int, normalisation: str, shape: tuple[int, ...]
) -> None:
    record = record_of(tmp_path / "model-1", mask_config())
    changed: dict[str, Any] = {"fit": fit, "channels": channels, "normalisation": normalisation}
    recipe = replace(record.recipe, **changed)
    config = inference_config(replace(record, recipe=recipe))
    parser = ConfigParser({"imports": config["imports"], "steps": config["preprocessing"]})
    steps: Compose = parser.get_parsed_content("steps")
    pixels = np.random.default_rng(3).integers(0, 256, shape, dtype=np.uint8)
    write_picture(tmp_path / "a.png", pixels)
    theirs = steps({"image": str(tmp_path / "a.png")})["image"].numpy()
    ours, _ = preprocess(pixels, recipe.preprocessing)
    assert theirs.shape == ours.shape
    assert np.abs(theirs - ours).max() < 2e-5
