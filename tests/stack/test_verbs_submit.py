"""`labloop submit`: the zip and its proof, or a refusal with reasons."""

import json
import shutil
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from imaging.io.nifti import write_nifti
from imaging.io.volume_digest import case_id
from imaging.labels import LabelScheme, label_scheme
from imaging.model.bundle import Bundle
from imaging.publish import MANIFEST, manifest_files, sha256_of, write_json
from imaging.task import TaskConfig, save_task
from imaging.volume import Volume
from stack.bootstrap import init_nas
from stack.cli import main
from stack.home import Home
from tests.imaging.export.lab import volume_of
from tests.phantoms import TASK, mask_config

LABELS = ("disc", "core")


@dataclass(frozen=True)
class Drawn:
    labels_XYZ: NDArray[np.uint8]


class Painter:
    """Takes the loaded model's place: a model of volumes takes a minute to train."""

    scheme: LabelScheme = label_scheme(LABELS)
    takes_volumes = True

    def predict(self, images: Sequence[Volume]) -> list[Drawn]:
        return [Drawn(np.full(one.grid.shape_XYZ, 2, dtype=np.uint8)) for one in images]


@pytest.fixture
def home(tmp_path: Path, mask_bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> Home:
    home = Home(tmp_path / "home")
    nas = init_nas(home.nas_folder)
    task = nas.task(TASK)
    config = TaskConfig(kind="segmentation", scheme=label_scheme(LABELS), modality="CT")
    save_task(task.config, config)
    shutil.copytree(mask_bundle.folder, nas.model(TASK).version("model-1"))
    images = task.rawdata / "imagesTs"
    images.mkdir(parents=True)
    for number, name in enumerate(("amos_0008.nii.gz", "amos_0011.nii.gz")):
        volume = volume_of(number)
        write_nifti(images / name, volume.voxels_CXYZ[0], volume.grid)
    monkeypatch.setattr("imaging.model.predict.load_predictor", lambda folder: Painter())
    return home


def submit(home: Home, *words: str | Path) -> int:
    given = ["submit", TASK, "--version", "model-1", *map(str, words)]
    return main([*given, "--home", str(home.root)])


def trained_on(home: Home, case: str) -> None:
    """The version says that it was trained on a case."""
    folder = home.nas.model(TASK).version("model-1")
    path = folder / "labloop.json"
    record = json.loads(path.read_text())
    record["cases"]["train"].append(case)
    write_json(path, record)
    (folder / MANIFEST).unlink()
    write_json(folder / MANIFEST, {"format": 1, "files": manifest_files(folder)})


def test_a_zip_its_check_and_its_proof(home: Home, tmp_path: Path) -> None:
    target = tmp_path / "answers.zip"
    assert submit(home, "-o", target) == 0
    with zipfile.ZipFile(target) as archive:
        assert archive.namelist() == ["amos_0008.nii.gz", "amos_0011.nii.gz"]
    assert submit(home, "--check", target) == 0
    proof = json.loads((tmp_path / "answers.proof.json").read_text())
    assert proof["zip_sha256"] == sha256_of(target) and proof["leaks"] == []
    (version,) = proof["lineage"]
    assert version["trained_on"] == ["case-1", "case-2"] and version["chosen_on"] == ["case-3"]
    image = home.nas.task(TASK).rawdata / "imagesTs" / "amos_0008.nii.gz"
    one = proof["volumes"]["amos_0008.nii.gz"]
    assert one["files"] == {"amos_0008.nii.gz": sha256_of(image)}


def test_a_dry_run_writes_nothing(
    home: Home, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert submit(home, "-o", tmp_path / "a.zip", "--dry-run") == 0
    assert "2 label maps: amos_0008.nii.gz, amos_0011.nii.gz" in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir()] == ["home"]


def test_a_test_volume_that_trained_is_refused(
    home: Home, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trained_on(home, case_id([volume_of(1)]))
    for words in (["--dry-run"], []):
        assert submit(home, "-o", tmp_path / "a.zip", *words) == 3
        said = capsys.readouterr().err
        assert "has seen the test set" in said and "amos_0011 is case-" in said
    assert not list(tmp_path.glob("a.*"))


def test_a_wrong_zip_is_refused_with_reasons(
    home: Home, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("notes.txt", "x")
    assert submit(home, "--check", tmp_path / "a.zip") == 3
    said = capsys.readouterr().err
    assert "not asked for: notes.txt" in said and "missing: amos_0008.nii.gz" in said


def test_a_version_with_other_labels_is_refused(
    home: Home, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scheme = label_scheme(["core", "disc"])
    config = TaskConfig(kind="segmentation", scheme=scheme, modality="CT")
    save_task(home.nas.task(TASK).config, config)
    assert submit(home, "-o", tmp_path / "a.zip") == 3
    assert "draws disc, core; task.yaml says core, disc" in capsys.readouterr().err


def test_a_zip_can_be_checked_without_a_model(home: Home, tmp_path: Path) -> None:
    assert submit(home, "-o", tmp_path / "a.zip") == 0
    shutil.rmtree(home.nas.model(TASK).root)
    words = ["submit", TASK, "--check", str(tmp_path / "a.zip"), "--home", str(home.root)]
    assert main(words) == 0


def test_a_task_of_pictures_has_no_submission(
    home: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    save_task(home.nas.task(TASK).config, mask_config())
    assert submit(home) == 2
    assert "label maps on volumes" in capsys.readouterr().err


def test_a_version_of_pictures_is_refused(
    home: Home,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(Painter, "takes_volumes", False)
    assert submit(home, "-o", tmp_path / "a.zip") == 3
    assert "trained on pictures" in capsys.readouterr().err


def test_a_zip_that_is_there_is_not_replaced(home: Home, tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_text("handed in last week")
    assert submit(home, "-o", tmp_path / "a.zip") == 3
    assert (tmp_path / "a.zip").read_text() == "handed in last week"


def test_a_zip_to_check_that_is_not_there_is_wrong_usage(
    home: Home, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert submit(home, "--check", tmp_path / "a.zip") == 2
    assert "is not there" in capsys.readouterr().err
