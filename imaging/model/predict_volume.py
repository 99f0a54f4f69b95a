"""Predictions of volumes: voxels in, a label map on their own grid out.

Nothing here grows with labels times voxels of the original grid: the network's answer arrives in
slabs at the planned spacing and leaves as one byte per voxel. With the OpenVINO runtime neither
torch nor MONAI is imported.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from imaging.errors import BundleError
from imaging.labels import LabelScheme
from imaging.model.bundle import Bundle
from imaging.model.inverse import labels_from_slabs, likeliest
from imaging.model.pieces import clean
from imaging.model.volume_input import volume_input
from imaging.model.windows import answer_in_slabs
from imaging.recipes.recipe import VolumeRecipe
from imaging.resample import LabelArray, Resampling, Taps, from_spacing
from imaging.task import Kind
from imaging.volume import Volume

FloatArray = NDArray[np.float32]
Forward = Callable[[FloatArray], FloatArray]  # images_BCXYZ to probabilities, from any thread
Sureness = tuple[FloatArray, FloatArray, FloatArray]


@dataclass(frozen=True, slots=True, eq=False)
class VolumePrediction:
    """A model's answer about one volume, on the volume's own RAS+ grid.

    `score` in [0, 1] says how sure it is; annotators are asked about the lowest first. `sureness`
    says the same of each slice along X, Y and Z.
    """

    labels_XYZ: LabelArray
    sureness: Sureness
    score: float


class VolumePredictor:
    """A loaded model. `predict` may be called from several threads at the same time."""

    takes_volumes = True

    def __init__(self, bundle: Bundle, forward: Forward) -> None:
        """Raises:
        BundleError: the bundle's recipe is not one for volumes.
        """
        if not isinstance(bundle.recipe, VolumeRecipe):
            raise BundleError(f"{bundle.version} is made for pictures, expected volumes")
        self.bundle = bundle
        self._recipe = bundle.recipe
        self._forward = forward

    @property
    def version(self) -> str:
        return self.bundle.version

    @property
    def scheme(self) -> LabelScheme:
        return self.bundle.scheme

    @property
    def kind(self) -> Kind:
        return self._recipe.kind

    @property
    def channels(self) -> int:
        """How many a volume must have."""
        return self._recipe.channels

    @property
    def channel_names(self) -> tuple[str, ...]:
        """In the order that they are taken in; empty when nobody named them."""
        return self._recipe.channel_names

    def warm_up(self) -> None:
        """A first answer of the network, which takes longer than all others."""
        recipe = self._recipe
        self._forward(np.zeros((1, recipe.channels, *recipe.patch_XYZ), dtype=np.float32))

    def predict(self, images: Sequence[Volume]) -> list[VolumePrediction]:
        """Answers in the order of the volumes.

        Raises:
            VolumeError: a volume has another number of channels than the model was trained on.
        """
        return [self._answer(volume, is_cleaned=True) for volume in images]

    def uncleaned(self, volume: Volume) -> LabelArray:
        """The label map before the bundle's cleaning, to choose that by."""
        return self._answer(volume, is_cleaned=False).labels_XYZ

    def _answer(self, volume: Volume, *, is_cleaned: bool) -> VolumePrediction:
        recipe, grid = self._recipe, volume.grid
        image_CXYZ = volume_input(volume, recipe)
        back = from_spacing(grid, recipe.spacing_mm)
        slabs = answer_in_slabs(image_CXYZ, recipe.patch_XYZ, recipe.overlap, self._forward)
        confidence = _Confidence(recipe.outputs)
        labels_XYZ = labels_from_slabs(confidence.watch(slabs), back)
        if is_cleaned:
            voxel_mm3 = math.prod(grid.spacing_mm)
            clean(labels_XYZ, self.bundle.postprocessing, self.scheme, voxel_mm3)
        return VolumePrediction(labels_XYZ, confidence.by_slice(back), confidence.score())


class _Confidence:
    """How sure an answer is, added up slab by slab at the planned spacing.

    The Dice to expect of what is drawn, by the model's own probabilities: 2 Σ p·m / (Σ p + Σ m),
    with the probability p of a label and its mask m. Where nothing is drawn: one minus the
    largest probability of any label. Of slices all labels count as one.

    Source: soft Dice confidence, Borges et al. 2024, arXiv:2402.10665.
    """

    def __init__(self, outputs: int) -> None:
        self.inside, self.expected, self.drawn = np.zeros((3, outputs))
        self.largest = 0.0
        self.along_x: list[
            NDArray[np.floating]
        ] = []  # of each slab: what a slice adds up to, and its top
        self.planes: NDArray[np.floating] | None = None  # sums over X: 3 × YZ, then the largest

    def watch(self, slabs: Iterable[FloatArray]) -> Iterator[FloatArray]:
        """The slabs, looked at in passing."""
        for slab in slabs:
            self._add(slab)
            yield slab

    def _add(self, slab: FloatArray) -> None:
        labels = likeliest(slab)
        for index in range(1, len(slab)):
            mask = labels == index
            self.expected[index] += float(slab[index].sum(dtype=np.float64))
            self.drawn[index] += int(mask.sum())
            self.inside[index] += float((slab[index] * mask).sum(dtype=np.float64))
        any_XYZ = 1 - slab[0]
        drawn_XYZ = labels > 0
        parts = (any_XYZ * drawn_XYZ, any_XYZ, drawn_XYZ.astype(np.float32))
        self.along_x.append(np.stack([*(part.sum((1, 2)) for part in parts), any_XYZ.max((1, 2))]))
        planes = np.stack([*(part.sum(0) for part in parts), any_XYZ.max(0)])
        if self.planes is None:
            self.planes = planes
        else:
            self.planes[:3] += planes[:3]
            np.maximum(self.planes[3], planes[3], out=self.planes[3])
        self.largest = max(self.largest, float(slab[1:].max()))

    def score(self) -> float:
        held = self.drawn[1:] > 0
        if not held.any():
            return float(np.clip(1 - self.largest, 0, 1))
        dice = 2 * self.inside[1:][held] / (self.expected[1:][held] + self.drawn[1:][held])
        return float(np.clip(dice.mean(), 0, 1))

    def by_slice(self, back: Resampling) -> Sureness:
        """Of each slice of the target grid along X, Y and Z."""
        if self.planes is None:
            raise BundleError("the network gave no answer")
        along_y = np.concatenate([self.planes[:3].sum(2), self.planes[3:].max(2)])
        along_z = np.concatenate([self.planes[:3].sum(1), self.planes[3:].max(1)])
        sums = (np.concatenate(self.along_x, axis=1), along_y, along_z)
        x, y, z = (_on_slices(*one) for one in zip(sums, back.taps, strict=True))
        return x, y, z


def _on_slices(sums: NDArray[np.floating], taps: Taps) -> FloatArray:
    inside, expected, drawn, largest = sums
    dice = 2 * inside / np.maximum(expected + drawn, 1e-6)
    sure = np.clip(np.where(drawn > 0, dice, 1 - largest), 0, 1)
    mixed = sure[taps.low] * (1 - taps.share) + sure[taps.high] * taps.share
    found: FloatArray = mixed.astype(np.float32)
    return found
