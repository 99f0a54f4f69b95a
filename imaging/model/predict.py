"""Predictions: pictures in, label maps or class probabilities on their own grid out.

With the OpenVINO runtime neither torch nor MONAI is imported: a server then starts within a
second, in a quarter of the memory.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from imaging.errors import BundleError
from imaging.labels import LabelScheme
from imaging.model.bundle import OPENVINO_MODEL, WEIGHTS, Bundle, load_bundle
from imaging.model.transforms import (
    FloatArray,
    LabelArray,
    Placement,
    crop,
    labels_on_picture,
    likeliest,
    preprocess,
)
from imaging.recipes.recipe import PictureRecipe, VolumeRecipe
from imaging.task import Kind

if TYPE_CHECKING:
    from imaging.model.predict_volume import VolumePredictor

Runtime = Literal["openvino", "torch"]
Forward = Callable[[FloatArray], FloatArray]  # images_BCHW to probabilities, safe from any thread
BATCH = 8  # larger ones are no faster on a CPU, and the first answer waits longer


@dataclass(frozen=True, slots=True)
class Prediction:
    """A model's answer about one picture.

    `score` in [0, 1] says how sure it is; annotators are asked about the lowest first.
    """

    labels_HW: LabelArray | None  # segmentation
    probabilities: Mapping[str, float] | None  # classification: class → probability
    score: float


class Predictor:
    """A loaded model. `predict` may be called from several threads at the same time."""

    takes_volumes = False

    def __init__(self, bundle: Bundle, forward: Forward) -> None:
        """Raises:
        BundleError: the bundle's recipe is not one for pictures.
        """
        if not isinstance(bundle.recipe, PictureRecipe):
            raise BundleError(f"{bundle.version} is made for volumes, expected pictures")
        self.bundle = bundle
        self._preprocessing = bundle.recipe.preprocessing
        self._forward = forward

    @property
    def version(self) -> str:
        return self.bundle.version

    @property
    def scheme(self) -> LabelScheme:
        return self.bundle.scheme

    @property
    def kind(self) -> Kind:
        return self.bundle.recipe.kind

    def warm_up(self) -> None:
        """A first answer, which takes longer than all others."""
        self.predict([np.zeros(self.bundle.recipe.input_shape, dtype=np.uint8)])

    def predict(self, images: Sequence[NDArray[Any]]) -> list[Prediction]:
        """Answers in the order of the images.

        Args:
            images: pictures of any sizes, HW or HWC with C = 3, 8 or 16 bits.
        """
        answers: list[Prediction] = []
        for start in range(0, len(images), BATCH):
            prepared = [
                preprocess(pixels, self._preprocessing) for pixels in images[start : start + BATCH]
            ]
            output = self._forward(np.stack([image_CHW for image_CHW, _ in prepared]))
            answers += [
                self._answer(probabilities, placement)
                for probabilities, (_, placement) in zip(output, prepared, strict=True)
            ]
        return answers

    def _answer(self, probabilities: FloatArray, placement: Placement) -> Prediction:
        if self.kind == "segmentation":
            return self._mask(probabilities, placement)
        names = self.scheme.names
        by_name = {name: float(p) for name, p in zip(names, probabilities, strict=True)}
        sure = class_confidence(probabilities, several=self.bundle.multi_label)
        return Prediction(None, by_name, sure)

    def _mask(self, probabilities_KHW: FloatArray, placement: Placement) -> Prediction:
        inner_KHW = crop(probabilities_KHW, placement)
        inner_HW = likeliest(inner_KHW)
        is_own_grid = placement.inner_HW == placement.shape_HW
        labels_HW = inner_HW if is_own_grid else labels_on_picture(probabilities_KHW, placement)
        return Prediction(labels_HW, None, mask_confidence(inner_KHW, inner_HW))


AnyPredictor: TypeAlias = "Predictor | VolumePredictor"


def load_predictor(
    folder: Path,
    runtime: Runtime = "openvino",
    threads: int | None = None,
    streams: int | None = None,
) -> AnyPredictor:
    """A published bundle, checked against its hashes and ready to answer: a VolumePredictor when
    it was trained on volumes (`takes_volumes`), a Predictor when on pictures.

    Args:
        folder: `models/<task>/<version>/`.
        runtime: openvino on a CPU; torch runs the same weights on a GPU where there is one.
        threads: CPU threads; None leaves the choice to the runtime.
        streams: pictures that OpenVINO computes at the same time, for servers; None: one. Patches
            of volumes are computed one at a time.

    Raises:
        BundleError: the bundle is absent, changed or unusable.
    """
    return predictor_of(load_bundle(folder), folder, runtime, threads, streams)


def predictor_of(
    bundle: Bundle,
    folder: Path,
    runtime: Runtime = "openvino",
    threads: int | None = None,
    streams: int | None = None,
) -> AnyPredictor:
    """A predictor from model files that may lie in a folder not published yet."""
    if streams and isinstance(bundle.recipe, VolumeRecipe):
        streams = 1  # a volume is many calls, one after the other: each gets all the cores
    # Each runtime is imported only when it is used: torch takes seconds and 200 MB.
    forward: Forward
    if runtime == "torch":
        from imaging.model.export import torch_forward

        forward = torch_forward(bundle.recipe, folder / WEIGHTS, threads)
    else:
        from imaging.model.openvino import OpenVinoModel

        forward = OpenVinoModel(folder / OPENVINO_MODEL, threads, streams)
    if isinstance(bundle.recipe, VolumeRecipe):
        from imaging.model.predict_volume import VolumePredictor  # needs scipy, pictures do not

        return VolumePredictor(bundle, forward)
    return Predictor(bundle, forward)


def mask_confidence(probabilities_KHW: FloatArray, labels_HW: LabelArray | None = None) -> float:
    """How sure a label map is: the Dice to expect of it, by the model's own probabilities.

    For each label drawn, 2 Σ p·m / (Σ p + Σ m) with the label's probability p and its mask m;
    their mean. When nothing is drawn: one minus the largest probability of any label.

    Args:
        probabilities_KHW: of every label, background first.
        labels_HW: their `likeliest`, where that is known already.

    Source: soft Dice confidence, Borges et al. 2024, arXiv:2402.10665.
    """
    labels_HW = likeliest(probabilities_KHW) if labels_HW is None else labels_HW
    sizes_K = np.bincount(labels_HW.ravel(), minlength=len(probabilities_KHW))
    dice = []
    for index in np.flatnonzero(sizes_K[1:]) + 1:
        probability_HW = probabilities_KHW[index]
        # A product and its sum: picking the mask's pixels out takes six times as long.
        inside = float((probability_HW * (labels_HW == index)).sum())
        dice.append(2 * inside / (float(probability_HW.sum()) + int(sizes_K[index])))
    if not dice:
        return float(np.clip(1 - probabilities_KHW[1:].max(), 0, 1))
    return float(np.clip(np.mean(dice), 0, 1))


def class_confidence(probabilities_K: FloatArray, *, several: bool) -> float:
    """How sure an answer is: the largest probability or, where several classes may hold at once,
    how far the least certain class is from even odds."""
    if several:
        return float(np.maximum(probabilities_K, 1 - probabilities_K).min())
    return float(probabilities_K.max())
