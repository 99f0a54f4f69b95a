"""How well a network does on validation volumes: whole ones, at the planned spacing."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from imaging.model.inverse import likeliest
from imaging.model.network import activate
from imaging.model.volume_data import PreparedVolume, PreparedVolumes
from imaging.model.windows import Forward, answer_in_slabs
from imaging.recipes.recipe import VolumeRecipe
from services.trainer.validate import SHOWN, Validation, mean_of

VALIDATED = 16  # volumes at most, evenly spread; more take minutes and tell the same
Slice = tuple[NDArray[np.float32], NDArray[np.uint8], NDArray[np.uint8]]  # input, truth, answer


@torch.inference_mode()
def validate_volumes(
    network: torch.nn.Module, data: PreparedVolumes, recipe: VolumeRecipe, device: torch.device
) -> Validation:
    """Score a network on prepared volumes; it stays in the mode it was in."""
    was_training = network.training
    network.eval()
    forward = _forward(network, recipe, device)
    counts: list[list[float | None]] = []
    slices: list[Slice] = []
    for volume in _spread(data.volumes):
        pred_XYZ = _answer(volume, recipe, forward)
        counts.append(_dice(volume.labels_XYZ, pred_XYZ, recipe.outputs))
        if len(slices) < SHOWN:
            slices.append(_telling_slice(volume, pred_XYZ))
    network.train(was_training)
    by_label = [mean_of(of_label) for of_label in zip(*counts, strict=True)]
    images, truth, pred = (np.stack(_as_large(kind)) for kind in zip(*slices, strict=True))
    labels = tuple(by_label)
    return Validation(mean_of(labels), labels, images[:, None], truth, pred, None, None)


def sheet_slices(
    images_BCXYZ: NDArray[np.float32], labels_BXYZ: NDArray[np.uint8]
) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """The middle slice of each patch as pictures BCHW in [0, 1], and its labels BHW."""
    middle = images_BCXYZ.shape[-1] // 2
    images = np.stack([_screen(_grey(one[0, :, :, middle])) for one in images_BCXYZ])
    return images[:, None], np.stack([_screen(one[:, :, middle]) for one in labels_BXYZ])


def _forward(network: torch.nn.Module, recipe: VolumeRecipe, device: torch.device) -> Forward:
    def forward(images_BCXYZ: NDArray[np.float32]) -> NDArray[np.float32]:
        images = torch.from_numpy(images_BCXYZ).to(device)
        images = images.contiguous(memory_format=torch.channels_last_3d)
        found: NDArray[np.float32] = activate(network(images), recipe).float().cpu().numpy()
        return found

    return forward


def _answer(volume: PreparedVolume, recipe: VolumeRecipe, forward: Forward) -> NDArray[np.uint8]:
    image_CXYZ = volume.image_CXYZ.astype(np.float32)
    slabs = answer_in_slabs(image_CXYZ, recipe.patch_XYZ, recipe.overlap, forward)
    return np.concatenate([likeliest(slab) for slab in slabs])


def _dice(truth: NDArray[np.uint8], pred: NDArray[np.uint8], count: int) -> list[float | None]:
    """Dice of each label; None where neither holds it."""
    pairs = np.bincount((truth.astype(np.intp) * count + pred).ravel(), minlength=count * count)
    pairs = pairs.reshape(count, count)
    totals = pairs.sum(0) + pairs.sum(1)
    return [
        float(2 * pairs[index, index] / totals[index]) if totals[index] else None
        for index in range(1, count)
    ]


def _spread(volumes: Sequence[PreparedVolume]) -> list[PreparedVolume]:
    count = min(len(volumes), VALIDATED)
    return [volumes[place * len(volumes) // count] for place in range(count)]


def _telling_slice(volume: PreparedVolume, pred_XYZ: NDArray[np.uint8]) -> Slice:
    """The axial slice that shows most of the labels, as it is looked at."""
    index = int((volume.labels_XYZ > 0).sum((0, 1)).argmax())
    image_XY = volume.image_CXYZ[0, :, :, index].astype(np.float32)
    truth_XY, pred_XY = volume.labels_XYZ[:, :, index], pred_XYZ[:, :, index]
    return _screen(_grey(image_XY)), _screen(truth_XY), _screen(pred_XY)


def _grey(values_XY: NDArray[np.float32]) -> NDArray[np.float32]:
    """Normalised values as grey ones, from the 1st to the 99th percentile."""
    low, high = np.percentile(values_XY, [1, 99])
    found: NDArray[np.float32] = ((values_XY - low) / max(high - low, 1e-6)).clip(0, 1)
    return found.astype(np.float32)


def _screen(array_XY: NDArray[Any]) -> NDArray[Any]:
    """An axial slice for TensorBoard: the front is up, the patient's right on the left."""
    return array_XY[::-1, ::-1].T


def _as_large(pictures: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
    """Pictures of different sizes, padded with 0 to the largest."""
    height, width = (max(one.shape[axis] for one in pictures) for axis in (0, 1))
    return [
        np.pad(one, [(0, height - one.shape[0]), (0, width - one.shape[1])]) for one in pictures
    ]
