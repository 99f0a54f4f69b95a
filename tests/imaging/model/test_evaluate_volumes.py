from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from imaging.dataset.volumes import read_case_labels, read_case_volume
from imaging.errors import SnapshotError
from imaging.model.bundle import Bundle, describe_model
from imaging.model.evaluate import evaluate, guess
from imaging.model.predict_volume import VolumePrediction, VolumePredictor
from imaging.volume import Volume
from tests.imaging.model.volume_models import tiny_volume_recipe
from tests.volume_phantoms import snapshot_of, volume_snapshot


class Knowing(VolumePredictor):
    """Answers with what it was told, by the brightness of a volume's first voxel."""

    def __init__(self, folder: Path, answers: dict[float, np.ndarray]) -> None:
        recipe = tiny_volume_recipe()
        record: Bundle = describe_model(folder, "run-1", recipe, snapshot_of(folder, ()), {})
        super().__init__(record, lambda patches: patches)
        self.answers = answers

    def predict(self, images: Sequence[Volume]) -> list[VolumePrediction]:
        found = []
        for image in images:
            labels_XYZ = self.answers[float(image.voxels_CXYZ[0, 0, 0, 0])]
            sure = tuple(np.ones(side, np.float32) for side in labels_XYZ.shape)
            found.append(VolumePrediction(labels_XYZ, sure, 0.9))  # type: ignore[arg-type]
        return found


def told(folder: Path, shift: int) -> tuple[Knowing, object]:
    snapshot = volume_snapshot(folder, 8)
    answers = {}
    for case in snapshot.of("test"):
        volume = read_case_volume(case)
        truth_XYZ = read_case_labels(case, volume.grid)
        answers[float(volume.voxels_CXYZ[0, 0, 0, 0])] = np.roll(truth_XYZ, shift, axis=2)
    return Knowing(folder / "model-1", answers), snapshot


def test_whoever_knows_the_volumes_has_dice_one(tmp_path: Path) -> None:
    predictor, snapshot = told(tmp_path, 0)
    found = evaluate(predictor, snapshot, snapshot.of("test"))  # type: ignore[attr-defined]
    assert found.summary["mean Dice"] == 1.0
    assert all(score.scores == {"front": 1.0, "back": 1.0} for score in found.scores)


def test_distances_between_volumes_are_in_mm(tmp_path: Path) -> None:
    predictor, snapshot = told(tmp_path, 1)
    found = evaluate(predictor, snapshot, snapshot.of("test"))  # type: ignore[attr-defined]
    assert found.details["overall"]["hd95_mm"]["value"] == pytest.approx(2.0, abs=0.4)
    assert found.details["overall"]["hd95_px"]["value"] is None


def test_the_guess_about_volumes_is_scored_on_their_own_grids(tmp_path: Path) -> None:
    snapshot = volume_snapshot(tmp_path, 8)
    scores = guess(snapshot, snapshot.of("test"))
    assert len(scores) == len(snapshot.of("test"))
    assert all(0 < (score.scores["back"] or 0) < 1 for score in scores)


def test_a_model_of_volumes_is_not_scored_on_pictures(tmp_path: Path) -> None:
    from dataclasses import replace

    predictor, snapshot = told(tmp_path, 0)
    case = snapshot.of("test")[0]  # type: ignore[attr-defined]
    picture = replace(case, image=case.image.with_name("image.png"))
    with pytest.raises(SnapshotError, match="made for volumes"):
        evaluate(predictor, snapshot, [picture])  # type: ignore[arg-type]
