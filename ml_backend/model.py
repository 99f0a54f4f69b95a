"""What the back end needs of a model. `imaging.model.predict` has the real one, tests a small fake.

A predictor is called from several threads at once.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from imaging.labels import LabelScheme
from imaging.task import Kind
from imaging.volume import Volume

PixelArray = npt.NDArray[np.uint8] | npt.NDArray[np.uint16]  # HW, or HWC with C = 3
Image = PixelArray | Volume
LabelArray = npt.NDArray[np.uint8]
Sureness = npt.NDArray[np.floating[Any]]


class Prediction(Protocol):
    """A model's answer about one picture."""

    @property
    def labels_HW(self) -> LabelArray | None:
        """The label map on the picture's own grid; None for classification."""

    @property
    def probabilities(self) -> Mapping[str, float] | None:
        """Label name → probability; None for segmentation."""

    @property
    def score(self) -> float:
        """Confidence between 0 and 1; the least certain pictures are annotated first."""


class VolumePrediction(Protocol):
    """A model's answer about one volume."""

    @property
    def labels_XYZ(self) -> LabelArray:
        """The label map on the volume's own grid."""

    @property
    def sureness(self) -> tuple[Sureness, Sureness, Sureness]:
        """For each axis of XYZ, one number per slice; low = unsure, NaN = not known."""

    @property
    def score(self) -> float:
        """Confidence between 0 and 1; the least certain volumes are annotated first."""


class Bundle(Protocol):
    """What a model says of itself, as far as answering needs it."""

    @property
    def multi_label(self) -> bool:
        """Whether several classes may hold at once."""


class Predictor(Protocol):
    """One version of a task's model, loaded."""

    @property
    def bundle(self) -> Bundle: ...

    @property
    def version(self) -> str: ...

    @property
    def scheme(self) -> LabelScheme: ...

    @property
    def kind(self) -> Kind: ...

    @property
    def takes_volumes(self) -> bool:
        """Whether it answers about volumes, with `VolumePrediction`, rather than pictures."""

    def predict(self, images: Sequence[Any]) -> Sequence[Any]:
        """One answer for each picture or volume, in order."""


Load = Callable[[Path], Predictor]
