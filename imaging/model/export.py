"""A trained network as files: the state dict for MONAI, and the same network for OpenVINO.

The OpenVINO model ends in probabilities and is compared with the trained network before anybody
can see it: an export that answers differently is never published.
"""

import io
import pickle
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import cast

import numpy as np
import torch

from imaging.errors import BundleError
from imaging.model.network import activate, build_network
from imaging.model.openvino import OpenVinoModel, save_openvino
from imaging.model.transforms import FloatArray
from imaging.recipes.recipe import Recipe

BATCH = 4  # of the comparison
MAX_DIFFERENCE = 1e-3  # of a probability; measured: 1e-5
MIN_AGREEMENT = 0.999  # share of pixels, or pictures, with the same answer


class _Probabilities(torch.nn.Module):
    """A network and what turns its logits into probabilities."""

    def __init__(self, recipe: Recipe, weights: Mapping[str, torch.Tensor]) -> None:
        super().__init__()
        self.network = build_network(recipe)
        self.network.load_state_dict(weights)
        self.recipe = recipe

    def forward(self, images_BCHW: torch.Tensor) -> torch.Tensor:
        return activate(self.network(images_BCHW), self.recipe)


def export_weights(
    recipe: Recipe, weights: Mapping[str, torch.Tensor], state_path: Path, openvino_path: Path
) -> None:
    """Write both files and make sure that they give the same answers.

    Raises:
        BundleError: weights are not finite, or the two disagree.
        OSError: the share is full or gone.
    """
    weights = {name: tensor.detach().cpu() for name, tensor in weights.items()}
    broken = [name for name, tensor in weights.items() if not torch.isfinite(tensor).all()]
    if broken:
        raise BundleError(f"weights are not finite: {', '.join(broken[:3])}: training diverged")
    for path in (state_path, openvino_path):
        path.parent.mkdir(parents=True, exist_ok=True)
    stream = io.BytesIO()
    torch.save(weights, stream)  # onto a full disk it would say RuntimeError and not why
    state_path.write_bytes(stream.getvalue())
    network = _Probabilities(recipe, weights).eval()
    _save_openvino(network, recipe, openvino_path)
    _compare(network, recipe, OpenVinoModel(openvino_path))


def torch_forward(
    recipe: Recipe, state_path: Path, threads: int | None = None
) -> Callable[[FloatArray], FloatArray]:
    """The forward pass of a bundle in torch, on a GPU where there is one.

    Raises:
        BundleError: the weights cannot be read, or do not fit the recipe's network.
    """
    if threads:
        torch.set_num_threads(threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        weights = torch.load(state_path, map_location="cpu", weights_only=True)
        network = _Probabilities(recipe, weights).eval().to(device)
    except (OSError, RuntimeError, ValueError, pickle.UnpicklingError) as error:
        raise BundleError(f"{state_path}: {error}") from error

    def forward(images_BCHW: FloatArray) -> FloatArray:
        with torch.inference_mode():
            probabilities = network(torch.from_numpy(images_BCHW).to(device))
        return cast(FloatArray, probabilities.cpu().numpy())

    return forward


def _save_openvino(network: torch.nn.Module, recipe: Recipe, path: Path) -> None:
    example = torch.zeros(BATCH, recipe.channels, *recipe.input_shape)
    with warnings.catch_warnings():
        # OpenVINO traces with torch.jit.trace, which torch 2.13 calls deprecated; through
        # torch.export it takes twice as long and warns about more.
        warnings.simplefilter("ignore")
        save_openvino(network, example, path)


def _compare(network: torch.nn.Module, recipe: Recipe, exported: OpenVinoModel) -> None:
    generator = torch.Generator().manual_seed(recipe.seed)
    # Soft blobs and noise: pictures of no particular kind, in the range that preprocessing gives.
    sides = recipe.input_shape
    batch = BATCH if len(sides) == 2 else 1  # of a large patch one is enough, and takes seconds
    coarse = torch.rand(batch, recipe.channels, *[8] * len(sides), generator=generator)
    mode = "bilinear" if len(sides) == 2 else "trilinear"
    images = torch.nn.functional.interpolate(coarse, size=sides, mode=mode)
    images = (images + 0.1 * torch.randn(images.shape, generator=generator)).clamp(0, 1)
    with torch.inference_mode():
        expected = network(images).numpy()
    found = exported(images.numpy())
    difference = float(np.abs(expected - found).max())
    agreement = float((expected.argmax(1) == found.argmax(1)).mean())
    if difference > MAX_DIFFERENCE or agreement < MIN_AGREEMENT:
        raise BundleError(
            f"the OpenVINO export differs from the trained network: probabilities by "
            f"{difference:.4f} (at most {MAX_DIFFERENCE}), same answer in {agreement:.2%}"
        )
