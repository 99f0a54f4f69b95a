import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from imaging.errors import AlreadyPublishedError, BundleError
from imaging.model.bundle import Bundle, load_bundle, write_bundle
from imaging.model.predict import Predictor
from imaging.publish import STAGING, sha256_of, verify_folder
from tests.imaging.model.models import random_weights, record_of
from tests.phantoms import disc_picture, mask_config

FILES = {
    "configs/inference.json",
    "configs/metadata.json",
    "docs/README.md",
    "labloop.json",
    "models/model.bin",
    "models/model.pt",
    "models/model.xml",
}


def copy_of(bundle: Bundle, folder: Path) -> Path:
    target = folder / bundle.version
    shutil.copytree(bundle.folder, target)
    return target


def test_a_bundle_holds_the_files_of_the_contract_and_their_hashes(mask_bundle: Bundle) -> None:
    assert set(verify_folder(mask_bundle.folder)["files"]) == FILES
    assert not any((mask_bundle.folder.parent / STAGING).iterdir())


def test_what_is_loaded_is_what_was_written(mask_bundle: Bundle, class_bundle: Bundle) -> None:
    assert load_bundle(mask_bundle.folder) == mask_bundle
    assert load_bundle(class_bundle.folder) == class_bundle


def test_train_and_validation_patients_are_known_to_the_model(mask_bundle: Bundle) -> None:
    assert mask_bundle.known_patients == {"p-1", "p-2", "p-3"}


def test_a_changed_file_is_found(mask_bundle: Bundle, tmp_path: Path) -> None:
    folder = copy_of(mask_bundle, tmp_path)
    (folder / "models" / "model.bin").write_bytes(b"\0" * 100)
    with pytest.raises(BundleError, match=r"models/model\.bin"):
        load_bundle(folder)


def test_a_folder_without_manifest_is_no_bundle(mask_bundle: Bundle, tmp_path: Path) -> None:
    folder = copy_of(mask_bundle, tmp_path)
    (folder / "manifest.json").unlink()
    with pytest.raises(BundleError, match=r"no manifest\.json"):
        load_bundle(folder)


def test_a_version_is_never_overwritten(mask_bundle: Bundle) -> None:
    with pytest.raises(AlreadyPublishedError):
        write_bundle(mask_bundle, random_weights(mask_config()))


def test_weights_that_diverged_are_not_published(tmp_path: Path) -> None:
    weights = random_weights(mask_config())
    name = next(iter(weights))
    weights[name] = torch.full_like(weights[name], float("nan"))
    with pytest.raises(BundleError, match="not finite"):
        write_bundle(record_of(tmp_path / "model-1", mask_config()), weights)
    assert not (tmp_path / "model-1").exists()


def test_an_export_that_answers_differently_is_not_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "imaging.model.export.OpenVinoModel",
        lambda path: lambda images: torch.full((len(images), 3, 32, 32), 1 / 3).numpy(),
    )
    with pytest.raises(BundleError, match="differs from the trained network"):
        write_bundle(record_of(tmp_path / "model-1", mask_config()), random_weights(mask_config()))
    assert not (tmp_path / "model-1").exists()


def test_what_the_serving_predictor_measured_stands_in_record_and_card(tmp_path: Path) -> None:
    def measure(predictor: Predictor) -> dict[str, float | None]:
        assert predictor.predict([disc_picture(1)[0]])[0].labels_HW is not None
        return {"mean Dice": 0.876, "Dice of core": None}

    record = record_of(tmp_path / "model-1", mask_config())
    bundle = write_bundle(record, random_weights(mask_config()), measure)
    assert load_bundle(bundle.folder).metrics == {"mean Dice": 0.876, "Dice of core": None}
    card = (bundle.folder / "docs" / "README.md").read_text()
    assert "| mean Dice | 0.876 |" in card
    assert "| test | 1 | 1 |" in card


def test_what_a_killed_attempt_left_is_cleared_away(tmp_path: Path) -> None:
    leftover = tmp_path / STAGING / "model-1.12345"
    leftover.mkdir(parents=True)
    other = tmp_path / STAGING / "model-2.12345"
    other.mkdir()
    write_bundle(record_of(tmp_path / "model-1", mask_config()), random_weights(mask_config()))
    assert not leftover.exists()
    assert other.exists()


def test_the_weights_file_is_a_plain_state_dict(mask_bundle: Bundle) -> None:
    weights = torch.load(mask_bundle.folder / "models" / "model.pt", weights_only=True)
    expected = random_weights(mask_config())
    assert all(torch.equal(weights[name], expected[name]) for name in expected)


@pytest.mark.parametrize("key", ["recipe", "labels", "patients", "version"])
def test_a_record_without_a_key_is_refused(mask_bundle: Bundle, tmp_path: Path, key: str) -> None:
    folder = copy_of(mask_bundle, tmp_path)
    record = json.loads((folder / "labloop.json").read_text())
    del record[key]
    (folder / "labloop.json").write_text(json.dumps(record))
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"]["labloop.json"] = sha256_of(folder / "labloop.json")
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match=key):
        load_bundle(folder)


def test_serving_needs_neither_torch_nor_monai_and_calls_nobody(mask_bundle: Bundle) -> None:
    program = f"""
import sys
from pathlib import Path
import numpy as np
from imaging.model.predict import load_predictor
predictor = load_predictor(Path({str(mask_bundle.folder)!r}), threads=1)
predictor.predict([np.zeros((40, 36), np.uint8)])
assert "openvino" in sys.modules
heavy = {{"torch", "monai", "scipy.ndimage", "pandas"}} & set(sys.modules)
assert not heavy, heavy
assert sys.modules["openvino_telemetry"] is None
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
