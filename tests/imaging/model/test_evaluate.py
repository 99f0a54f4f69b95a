from pathlib import Path

import numpy as np
import pytest

from imaging.dataset.snapshot import Snapshot
from imaging.errors import SnapshotError
from imaging.io.picture import read_label_map
from imaging.labels import label_scheme
from imaging.model.bundle import Bundle
from imaging.model.data import prepare
from imaging.model.evaluate import evaluate, guess
from imaging.model.predict import Prediction, load_predictor
from imaging.task import TaskConfig
from tests.imaging.model.models import tiny_recipe
from tests.phantoms import Pixels, class_config, mask_config, phantom_nas, phantom_snapshot


class Oracle:
    """A predictor that knows the truth, in the scheme it was made with."""

    def __init__(self, snapshot: Snapshot, names: list[str] | None = None) -> None:
        self.kind, self.version = snapshot.kind, "model-1"
        self.scheme = label_scheme(names or list(snapshot.scheme.names))
        self.answers = []
        for case in snapshot.of("test"):
            if case.labels is not None:
                truth_HW = read_label_map(case.labels, (40, 36))
                own_HW = np.zeros_like(truth_HW)
                for label in snapshot.scheme.labels:
                    same = self.scheme.find(label.name)
                    own_HW[truth_HW == label.index] = same.index if same else 0
                self.answers.append(Prediction(own_HW, None, 1.0))
            else:
                odds = {name: float(name in (case.classes or ())) for name in self.scheme.names}
                self.answers.append(Prediction(None, odds, 1.0))

    def predict(self, images: list[Pixels]) -> list[Prediction]:
        taken, self.answers = self.answers[: len(images)], self.answers[len(images) :]
        return taken


def snapshot_of(tmp_path: Path, config: TaskConfig) -> Snapshot:
    return phantom_snapshot(phantom_nas(tmp_path / "nas", config), config)


def test_whoever_knows_the_truth_has_dice_one(tmp_path: Path) -> None:
    snapshot = snapshot_of(tmp_path, mask_config())
    found = evaluate(Oracle(snapshot), snapshot, snapshot.of("test"))  # type: ignore[arg-type]
    assert found.summary == {"mean Dice": 1.0, "Dice of disc": 1.0, "Dice of core": 1.0}
    assert [score.case for score in found.scores] == [case.case for case in snapshot.of("test")]
    assert found.details["cases"][0]["labels"]["disc"]["hd95_px"] == 0.0


def test_labels_of_an_older_scheme_are_matched_by_name(tmp_path: Path) -> None:
    snapshot = snapshot_of(tmp_path, mask_config())
    older = Oracle(snapshot, names=["core", "rim", "disc"])
    found = evaluate(older, snapshot, snapshot.of("test"))  # type: ignore[arg-type]
    assert found.summary["mean Dice"] == 1.0


def test_a_label_the_older_model_never_learned_counts_as_missed(tmp_path: Path) -> None:
    snapshot = snapshot_of(tmp_path, mask_config())
    found = evaluate(Oracle(snapshot, names=["disc"]), snapshot, snapshot.of("test"))  # type: ignore[arg-type]
    assert found.summary["Dice of core"] == 0.0


def test_whoever_knows_the_classes_has_auroc_one(tmp_path: Path) -> None:
    snapshot = snapshot_of(tmp_path, class_config())
    shares: list[float] = []
    found = evaluate(Oracle(snapshot), snapshot, snapshot.of("test"), shares.append)  # type: ignore[arg-type]
    assert found.summary["AUROC"] == found.summary["accuracy"] == 1.0
    assert shares[-1] == 1.0


def test_a_guess_scores_between_nothing_and_the_truth(tmp_path: Path) -> None:
    snapshot = snapshot_of(tmp_path, mask_config())
    scores = [score.scores["disc"] for score in guess(snapshot, snapshot.of("test"))]
    assert all(score is not None and 0 < score < 0.9 for score in scores)
    classes = snapshot_of(tmp_path / "classes", class_config())
    even = [set(score.scores.values()) for score in guess(classes, classes.of("test"))]
    assert all(scores == {None, 0.75} for scores in even)


def test_without_held_out_cases_there_is_nothing_to_score(tmp_path: Path) -> None:
    snapshot = snapshot_of(tmp_path, mask_config())
    found = evaluate(Oracle(snapshot), snapshot, ())  # type: ignore[arg-type]
    assert (found.scores, found.summary) == ((), {})
    assert guess(snapshot, ()) == ()


def test_a_predictor_of_the_other_kind_is_refused(tmp_path: Path, class_bundle: Bundle) -> None:
    snapshot = snapshot_of(tmp_path, mask_config())
    with pytest.raises(SnapshotError, match="draws no masks"):
        evaluate(load_predictor(class_bundle.folder), snapshot, snapshot.of("test"))


@pytest.mark.parametrize("config", [mask_config(), class_config()])
def test_prepared_cases_hold_images_and_targets_on_the_networks_grid(
    tmp_path: Path, config: TaskConfig
) -> None:
    snapshot = snapshot_of(tmp_path, config)
    cases = snapshot.of("train")
    data = prepare(cases, snapshot.scheme, tiny_recipe(config))
    assert data.cases == tuple(case.case for case in cases)
    assert data.images_NCHW.shape == (len(cases), 1, 32, 32)
    if config.kind == "segmentation":
        assert data.labels_NHW is not None
        assert data.labels_NHW.shape == (len(cases), 32, 32)
        assert set(np.unique(data.labels_NHW)) == {0, 1, 2}
    else:
        assert data.classes_NK is not None
        assert data.classes_NK.sum(1).tolist() == [1.0] * len(cases)


def test_no_cases_prepare_to_nothing(tmp_path: Path) -> None:
    config = mask_config()
    data = prepare((), config.scheme, tiny_recipe(config))
    assert len(data) == 0
    assert data.images_NCHW.shape == (0, 1, 32, 32)
