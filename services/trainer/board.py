"""What a training shows on TensorBoard: curves, pictures, and what augmentation does to them."""

from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.tensorboard import SummaryWriter

from imaging.labels import LabelScheme
from imaging.model.augment import augment
from imaging.model.augment_volume import augment_volumes
from imaging.model.data import Prepared
from imaging.model.transforms import FloatArray, LabelArray
from imaging.model.volume_data import PreparedVolumes, cut_patches
from imaging.recipes.recipe import PictureRecipe, Recipe, VolumeRecipe
from services.trainer.errors import HopelessRunError
from services.trainer.validate import Validation
from services.trainer.validate_volumes import sheet_slices

if TYPE_CHECKING:
    from services.trainer.loop import TrainingData

SHEET = 16  # pictures on the contact sheet, 4 × 4
SHEET_VOLUMES = 4  # patches, which take a second each when they are large
OPACITY = 0.45
Rgb = NDArray[np.uint8]


class TensorBoard:
    """Writes event files into a run's folder."""

    def __init__(self, folder: Path, scheme: LabelScheme) -> None:
        self.scheme = scheme
        self.writer = SummaryWriter(str(folder), flush_secs=10)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self.writer.close()

    def start(self, data: "TrainingData", recipe: Recipe) -> None:
        """The contact sheet: training cases as the network meets them, truth drawn in."""
        images, labels = augmented(data.train, recipe)
        if labels is None:
            tiles = [plain(image_CHW) for image_CHW in images]
        else:
            pairs = zip(images, labels, strict=True)
            tiles = [overlay(image_CHW, drawn, self.scheme) for image_CHW, drawn in pairs]
        self._picture("augmentation", contact_sheet(tiles), 0)

    def training(self, iteration: int, loss: float, rate: float, images_per_s: float) -> None:
        self.writer.add_scalar("training/loss", loss, iteration)
        self.writer.add_scalar("training/learning rate", rate, iteration)
        self.writer.add_scalar("training/images per second", images_per_s, iteration)

    def validation(self, iteration: int, found: Validation) -> None:
        """Scores per label, and the first few cases: input, truth, answer side by side."""
        if found.score is not None:
            self.writer.add_scalar("validation/mean", found.score, iteration)
        for name, score in zip(self.scheme.names, found.labels, strict=True):
            if score is not None:
                self.writer.add_scalar(f"validation/{name}", score, iteration)
        if found.truth_BHW is not None and found.pred_BHW is not None:
            cases = zip(found.images_BCHW, found.truth_BHW, found.pred_BHW, strict=True)
            rows = np.concatenate([self._row(*case) for case in cases])
            self._picture("validation/input, truth, answer", rows, iteration)
        elif found.classes_BK is not None and found.probabilities_BK is not None:
            text = answer_table(found.classes_BK, found.probabilities_BK, self.scheme)
            self.writer.add_text("validation/answers", text, iteration)
            self._picture(
                "validation/input", contact_sheet([plain(one) for one in found.images_BCHW]), 0
            )

    def _row(self, image_CHW: FloatArray, truth_HW: LabelArray, pred_HW: LabelArray) -> Rgb:
        drawn = [overlay(image_CHW, labels_HW, self.scheme) for labels_HW in (truth_HW, pred_HW)]
        return np.concatenate([plain(image_CHW), *drawn], axis=1)

    def _picture(self, name: str, image_HWC: Rgb, iteration: int) -> None:
        self.writer.add_image(name, image_HWC, iteration, dataformats="HWC")


def augmented(
    data: Prepared | PreparedVolumes, recipe: Recipe
) -> tuple[FloatArray, LabelArray | None]:
    """The first cases after augmentation as pictures BCHW, with label maps BHW where they have
    some; of volumes the middle slice of a patch."""
    generator = torch.Generator().manual_seed(recipe.seed)
    if isinstance(data, PreparedVolumes) and isinstance(recipe, VolumeRecipe):
        first = np.arange(min(SHEET_VOLUMES, len(data)))
        pieces, drawn = (torch.from_numpy(one) for one in cut_patches(data, first, recipe, 0))
        patches, truth = augment_volumes(pieces.float(), drawn.long(), recipe, generator)
        return sheet_slices(patches.numpy(), truth.byte().numpy())
    if not isinstance(data, Prepared) or not isinstance(recipe, PictureRecipe):
        raise HopelessRunError(f"recipe {recipe.name} does not fit the prepared cases")
    images = torch.from_numpy(data.images_NCHW[:SHEET]).float()
    labels = None
    if data.labels_NHW is not None:
        labels = torch.from_numpy(data.labels_NHW[:SHEET]).long()
    images, labels = augment(images, labels, recipe, generator)
    return images.numpy(), None if labels is None else labels.byte().numpy()


def plain(image_CHW: FloatArray) -> Rgb:
    """A network input as a picture, HWC."""
    channels = image_CHW if len(image_CHW) == 3 else np.repeat(image_CHW[:1], 3, axis=0)
    image_HWC = np.rint(channels.clip(0, 1).transpose(1, 2, 0) * 255)
    return cast(Rgb, image_HWC.astype(np.uint8))


def overlay(image_CHW: FloatArray, labels_HW: LabelArray, scheme: LabelScheme) -> Rgb:
    """A picture with its labels in the scheme's colours, HWC."""
    colors = np.zeros((256, 3), dtype=np.float32)
    for label in scheme.labels:
        colors[label.index] = label.rgb
    image_HWC = plain(image_CHW).astype(np.float32)
    mixed = (1 - OPACITY) * image_HWC + OPACITY * colors[labels_HW]
    drawn = np.rint(np.where(labels_HW[..., None] > 0, mixed, image_HWC))
    return cast(Rgb, drawn.astype(np.uint8))


def contact_sheet(tiles: Sequence[Rgb]) -> Rgb:
    """Pictures of one size in a square of rows, missing ones black."""
    side = int(np.ceil(np.sqrt(len(tiles))))
    filled = [*tiles, *[np.zeros_like(tiles[0])] * (side * side - len(tiles))]
    rows = [np.concatenate(filled[r * side : (r + 1) * side], axis=1) for r in range(side)]
    return np.concatenate(rows)


def answer_table(truth_BK: FloatArray, odds_BK: FloatArray, scheme: LabelScheme) -> str:
    """What was true and what was answered, as a Markdown table."""
    lines = ["| case | truth | answer |", "|---|---|---|"]
    for number, (truth_K, odds_K) in enumerate(zip(truth_BK, odds_BK, strict=True), start=1):
        truth = [name for name, held in zip(scheme.names, truth_K, strict=True) if held > 0]
        answer = [f"{name} {odds:.2f}" for name, odds in zip(scheme.names, odds_K, strict=True)]
        lines.append(f"| {number} | {', '.join(truth)} | {', '.join(answer)} |")
    return "\n".join(lines)
