"""The cases that a page about a model shows: the best, one in the middle, the worst.

Answers are computed again for these few: the masks of a whole evaluation would not fit in memory.
"""

from collections.abc import Sequence

import numpy as np

from imaging.dataset.cases import load_case
from imaging.dataset.snapshot import Snapshot, SnapshotCase
from imaging.dataset.volumes import read_case_labels, read_case_volume
from imaging.errors import SnapshotError
from imaging.gate import CaseScore
from imaging.io.picture import preview_pixels, read_label_map, read_picture
from imaging.labels import LabelScheme
from imaging.model.plots import Example
from imaging.model.predict import AnyPredictor, Predictor
from imaging.model.predict_volume import VolumePredictor
from imaging.model.report import ranked
from imaging.model.transforms import LabelArray

WORST, BEST = 3, 3


def chosen_cases(scores: Sequence[CaseScore]) -> list[tuple[str, float]]:
    """The worst cases and the best with their mean scores, worst first; no case twice."""
    cases = [(one.case, mean) for one, mean in ranked(scores)]
    if len(cases) <= WORST + BEST:
        return cases
    return [*cases[:WORST], *cases[-BEST:]]


def examples(
    predictor: AnyPredictor, snapshot: Snapshot, scores: Sequence[CaseScore]
) -> list[Example]:
    """The chosen cases with truth and answer, indices by the snapshot's scheme.

    Raises:
        SnapshotError: a case lacks its label map, or the model draws none.
    """
    by_name = {case.case: case for case in snapshot.cases}
    table = _index_table(predictor.scheme, snapshot.scheme)
    shown = []
    for name, mean in chosen_cases(scores):
        title = f"{name}\nmean Dice {mean:.3f}"
        if isinstance(predictor, VolumePredictor):
            shown.append(_of_volume(predictor, table, by_name[name], title))
        else:
            shown.append(_of_picture(predictor, table, by_name[name], title))
    return shown


def _of_picture(predictor: Predictor, table: LabelArray, case: SnapshotCase, title: str) -> Example:
    if case.labels is None:
        raise SnapshotError(f"{case.case} has no label map, expected one for segmentation")
    pixels = read_picture(case.image)
    answer_HW = predictor.predict([pixels])[0].labels_HW
    if answer_HW is None:
        raise SnapshotError(f"{predictor.version} draws no masks, the task needs them")
    truth_HW = read_label_map(case.labels, load_case(case.image.parent).shape_HW)
    return Example(title, preview_pixels(pixels), truth_HW, table[answer_HW])


def _of_volume(
    predictor: VolumePredictor, table: LabelArray, case: SnapshotCase, title: str
) -> Example:
    """The slice on which truth and answer together show most, as annotators see it."""
    folder = case.image.parent
    record = load_case(folder)
    if record.volume is None:
        raise SnapshotError(f"{case.case} is a picture, expected a volume")
    plane = record.volume.plane
    truth_XYZ = read_case_labels(case, record.volume.grid)
    answer_XYZ = table[predictor.predict([read_case_volume(case)])[0].labels_XYZ]
    others = tuple(axis for axis in range(3) if axis != plane.axis)
    index = int(((truth_XYZ > 0) | (answer_XYZ > 0)).sum(axis=others).argmax())
    pixels_HW = read_picture(folder / record.preview / f"{index:04d}.png")
    return Example(
        f"{title}, slice {index}",
        preview_pixels(pixels_HW),
        plane.screen(truth_XYZ, index),
        plane.screen(answer_XYZ, index),
    )


def _index_table(known: LabelScheme, wanted: LabelScheme) -> LabelArray:
    """Index by the model's scheme → index by the snapshot's; labels gone since are background."""
    same = [wanted.find(label.name) for label in known.labels]
    return np.array([0, *(label.index if label else 0 for label in same)], dtype=np.uint8)
