"""The cases that a page about a model shows: the best, one in the middle, the worst.

Answers are computed again for these few: the masks of a whole evaluation would not fit in memory.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from imaging.dataset.cases import load_case
from imaging.dataset.snapshot import Snapshot, SnapshotCase
from imaging.errors import SnapshotError
from imaging.gate import CaseScore
from imaging.io.picture import preview_pixels, read_label_map, read_picture
from imaging.labels import LabelScheme
from imaging.model.plots import Example
from imaging.model.predict import Predictor
from imaging.model.report import ranked

WORST, BEST = 3, 3


def chosen_cases(scores: Sequence[CaseScore]) -> list[tuple[str, float]]:
    """The worst cases and the best with their mean scores, worst first; no case twice."""
    cases = [(one.case, mean) for one, mean in ranked(scores)]
    if len(cases) <= WORST + BEST:
        return cases
    return [*cases[:WORST], *cases[-BEST:]]


def examples(
    predictor: Predictor, snapshot: Snapshot, scores: Sequence[CaseScore]
) -> list[Example]:
    """The chosen cases with truth and answer, indices by the snapshot's scheme.

    Raises:
        SnapshotError: a case lacks its label map, or the model draws none.
    """
    by_name = {case.case: case for case in snapshot.cases}
    return [
        _example(predictor, snapshot.scheme, by_name[name], f"{name}\nmean Dice {mean:.3f}")
        for name, mean in chosen_cases(scores)
    ]


def _example(predictor: Predictor, scheme: LabelScheme, case: SnapshotCase, title: str) -> Example:
    record = load_case(case.image.parent)
    if case.labels is None:
        raise SnapshotError(f"{case.case} has no label map, expected one for segmentation")
    pixels = read_picture(case.image)
    answer_HW = predictor.predict([pixels])[0].labels_HW
    if answer_HW is None:
        raise SnapshotError(f"{predictor.version} draws no masks, the task needs them")
    truth_HW = read_label_map(case.labels, record.shape_HW)
    table = _index_table(predictor.scheme, scheme)
    return Example(title, preview_pixels(pixels), truth_HW, table[answer_HW])


def _index_table(known: LabelScheme, wanted: LabelScheme) -> NDArray[np.uint8]:
    """Index by the model's scheme → index by the snapshot's; labels gone since are background."""
    same = [wanted.find(label.name) for label in known.labels]
    return np.array([0, *(label.index if label else 0 for label in same)], dtype=np.uint8)
