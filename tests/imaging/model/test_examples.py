"""The cases that a page shows: the worst and the best, on the slice that shows most."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from imaging.dataset.cases import load_case
from imaging.dataset.volumes import read_case_labels
from imaging.gate import CaseScore
from imaging.io.picture import read_picture
from imaging.labels import LabelScheme, label_scheme
from imaging.model.examples import chosen_cases, examples
from imaging.model.predict_volume import VolumePrediction, VolumePredictor
from imaging.volume import Volume
from tests.imaging.export.lab import SCHEME, make_lab


class Painter(VolumePredictor):
    """Draws the second label on the last voxels of the first axis, by an older scheme."""

    def __init__(self) -> None:
        """Needs no bundle."""

    @property
    def scheme(self) -> LabelScheme:
        return label_scheme([*reversed(SCHEME.names), "gone since"])

    def predict(self, images: Sequence[Volume]) -> list[VolumePrediction]:
        answers = []
        for image in images:
            labels_XYZ = np.zeros(image.grid.shape_XYZ, dtype=np.uint8)
            labels_XYZ[-1] = 1  # the second label of today's scheme
            labels_XYZ[0, 0, 0] = 3
            answers.append(VolumePrediction(labels_XYZ, (), 0.5))  # type: ignore[arg-type]
        return answers


def test_the_worst_and_the_best_are_chosen_and_no_case_twice() -> None:
    scores = [CaseScore(f"case-{n}", "p", {"x": n / 10}) for n in range(10)]
    names = [name for name, _ in chosen_cases(scores)]
    assert names == ["case-0", "case-1", "case-2", "case-7", "case-8", "case-9"]
    assert len(chosen_cases(scores[:4])) == 4


def test_of_a_volume_the_slice_with_most_is_shown_on_its_screen(tmp_path: Path) -> None:
    lab = make_lab(tmp_path / "nas")
    case = lab.snapshot.cases[1]
    (shown,) = examples(Painter(), lab.snapshot, [CaseScore(case.case, "p", {"liver": 0.5})])
    volume = load_case(case.image.parent).volume
    assert volume is not None
    truth_XYZ = read_case_labels(case, volume.grid)
    answer_XYZ = np.zeros_like(truth_XYZ)
    answer_XYZ[-1] = 2
    counts = ((truth_XYZ > 0) | (answer_XYZ > 0)).sum(axis=(0, 1))
    index = int(shown.title.rpartition(" ")[2])
    assert counts[index] == counts.max() and case.case in shown.title
    assert np.array_equal(shown.truth_HW, volume.plane.screen(truth_XYZ, index))
    assert np.array_equal(shown.answer_HW, volume.plane.screen(answer_XYZ, index))
    preview = case.image.parent / "slices" / f"{index:04d}.png"
    assert np.array_equal(shown.pixels, read_picture(preview))
