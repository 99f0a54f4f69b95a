"""`predict` on volumes: a label map for each, on its own grid, and predictions.csv for all."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from imaging.errors import ImagingError
from imaging.io.nifti import SUFFIX, write_label_volume
from imaging.labels import LabelScheme
from imaging.volume import Volume
from stack import console
from stack.errors import UsageError
from stack.verbs_model import ANSWER_COLUMNS, ANSWERS, MASK, check_nothing_is_lost, make_folder
from stack.volume_inputs import EXPECTED, VolumeInput, volume_inputs


class VolumeModel(Protocol):
    """As much of `imaging.model.predict_volume.VolumePredictor` as is needed here."""

    @property
    def version(self) -> str: ...

    @property
    def scheme(self) -> LabelScheme: ...

    @property
    def channels(self) -> int: ...

    def predict(self, images: Sequence[Volume]) -> Sequence[Any]: ...


def predict_volumes(predictor: VolumeModel, paths: Sequence[Path], output: Path) -> int:
    """Write `<name>.nii.gz` for each volume in the files and folders; 0, or 1 if any was refused.

    Raises:
        UsageError: two volumes have one name.
        RefusedError: a file would be overwritten that `predict` did not write.
    """
    volumes, refused = volume_inputs(paths, predictor.channels)
    names = [one.name for one in volumes]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise UsageError(f"found several volumes called {', '.join(repeated)}: masks would collide")
    masks = {f"{name}{SUFFIX}" for name in names}
    check_nothing_is_lost(
        output, {ANSWERS, *masks}, [file for one in volumes for file in one.files]
    )
    make_folder(output)
    for stranger in refused:
        console.complain(f"{stranger.shown}: {stranger.reason}", stranger.hint)
    progress = console.Progress(f"predicting with {predictor.version}")
    answered = 0
    with (output / ANSWERS).open("w", newline="", encoding="utf-8") as stream:
        sheet = csv.writer(stream)
        sheet.writerow((*ANSWER_COLUMNS, MASK, *predictor.scheme.names))
        for number, one in enumerate(volumes, start=1):
            progress.tell(f"{number} of {len(volumes)}")
            try:
                volume = one.read()
                prediction = predictor.predict([volume])[0]
            except (ImagingError, OSError) as error:
                said = (isinstance(error, OSError) and error.strerror) or str(error)
                console.complain(f"{one.shown}: {said}", EXPECTED)
                continue
            for note in volume.notes:
                console.warn(f"{one.shown}: {note}")
            # The row first: a mask that no row names would not be known as ours the next time.
            sheet.writerow(_row(one, predictor, prediction))
            stream.flush()
            write_label_volume(output / f"{one.name}{SUFFIX}", prediction.labels_XYZ, volume.grid)
            answered += 1
    progress.finish(f"{answered} of {len(volumes) + len(refused)} answered, see {output}")
    return 0 if answered == len(volumes) and not refused else 1


def _row(one: VolumeInput, predictor: VolumeModel, prediction: Any) -> list[object]:
    """Score, the mask's file, then the voxels of each label."""
    labels_XYZ = prediction.labels_XYZ
    voxels = [np.count_nonzero(labels_XYZ == label.index) for label in predictor.scheme.labels]
    score = f"{prediction.score:.4f}"
    return [one.shown, predictor.version, score, f"{one.name}{SUFFIX}", *voxels]
