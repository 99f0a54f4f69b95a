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

PixelArray = npt.NDArray[np.uint8] | npt.NDArray[np.uint16]  # HW, or HWC with C = 3
LabelArray = npt.NDArray[np.uint8]


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

    def predict(self, images: Sequence[Any]) -> Sequence[Prediction]:
        """One answer for each picture, in order."""


Load = Callable[[Path], Predictor]
