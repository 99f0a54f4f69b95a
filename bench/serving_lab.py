"""A share with a model and pictures for `bench/serving.py`: both back ends serve the same weights.

The pictures are phantoms: a bright organ with a darker core on a textured background. The network
is trained on them for some seconds, so that masks have the size and the ragged edges of real ones.
"""

import dataclasses
import os
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from imaging.dataset.cases import CaseRecord, CaseSource
from imaging.ids import new_id, utc_now
from imaging.io.picture import write_picture
from imaging.labels import label_scheme
from imaging.layout import Nas
from imaging.model.bundle import Bundle, write_bundle
from imaging.model.network import build_loss, build_network
from imaging.publish import MANIFEST, manifest_files, write_json
from imaging.recipes.facts import SnapshotFacts
from imaging.recipes.recipe import Recipe
from imaging.recipes.segmentation_2d import plan_segmentation_2d
from imaging.registry import promote
from imaging.task import TaskConfig

TASK = "Task001_phantom"
SIDE = 512
TRAIN_SIDE = 128
STEPS = 60
SCHEME = label_scheme(["organ", "core"])
Pixels = npt.NDArray[np.uint8]


def phantom(rng: np.random.Generator, side: int = SIDE) -> tuple[Pixels, Pixels]:
    """A picture and its label map."""
    rows, columns = np.mgrid[0:side, 0:side] / side
    texture = _soft_noise(rng, side, 24)
    centre = rng.uniform(0.35, 0.65, 2)
    distance = np.hypot(rows - centre[0], (columns - centre[1]) * rng.uniform(0.8, 1.2))
    distance = distance + 0.06 * texture
    labels_HW = np.zeros((side, side), dtype=np.uint8)
    labels_HW[distance < rng.uniform(0.22, 0.3)] = 1
    labels_HW[distance < rng.uniform(0.08, 0.14)] = 2
    grey = np.array([70.0, 150.0, 110.0])[labels_HW] + 25 * texture + rng.normal(0, 6, (side, side))
    return np.clip(grey, 0, 255).astype(np.uint8), labels_HW


def _soft_noise(rng: np.random.Generator, side: int, cells: int) -> npt.NDArray[np.float64]:
    coarse = torch.from_numpy(rng.normal(size=(1, 1, cells, cells)))
    smooth = torch.nn.functional.interpolate(coarse, size=(side, side), mode="bicubic")
    return np.asarray(smooth[0, 0].numpy())


def build_share(root: Path, pictures: int, side: int = SIDE) -> Nas:
    """The share: distinct phantoms as cases, and a champion that segments them."""
    nas = Nas(root)
    nas.dataset.mkdir(parents=True)
    nas.marker.touch()
    rng = np.random.default_rng(0)
    for number in range(pictures):
        add_case(nas, f"case-{number:04d}", phantom(rng)[0])
    version = new_id("model")
    record = _record(nas.model(TASK).version(version), side)
    write_bundle(record, _weights(record.recipe))
    promote(nas, TASK, version, "made for the benchmark")
    return nas


def add_case(nas: Nas, name: str, pixels: Pixels) -> None:
    folder = nas.task(TASK).case(name)
    folder.mkdir(parents=True)
    write_picture(folder / "image.png", pixels)
    shape_HW = (pixels.shape[0], pixels.shape[1])
    source = CaseSource(f"{name}.png", "0" * 64, 1)
    record = CaseRecord(
        name, TASK, "p-000000000000", "image.png", "image.png", shape_HW, 1, 8, source, utc_now()
    )
    write_json(folder / "case.json", record.to_json())
    write_json(folder / MANIFEST, {"format": 1, "files": manifest_files(folder)})


def repeat_cases(nas: Nas, mark: str) -> list[str]:
    """The same pictures as new cases, so that no cache knows them; their addresses."""
    addresses = []
    for folder in sorted(nas.task(TASK).cases.glob("case-????")):
        copy = folder.with_name(f"{folder.name}-{mark}")
        copy.mkdir()
        for file in folder.iterdir():
            os.link(file, copy / file.name)
        addresses.append(f"/data/local-files/?d=dataset/{TASK}/cases/{copy.name}/image.png")
    return addresses


def _record(folder: Path, side: int) -> Bundle:
    facts = SnapshotFacts(1, SIDE, SIDE, same_aspect=True, colour=False, bits=8)
    recipe = plan_segmentation_2d(TaskConfig("segmentation", SCHEME), facts, accelerated=True)
    recipe = dataclasses.replace(recipe, input_H=side, input_W=side)
    nobody: dict[str, tuple[str, ...]] = {"train": (), "validation": (), "test": ()}
    return Bundle(
        folder, folder.name, TASK, "run-bench", "snap-bench", SCHEME, False, recipe,
        nobody, nobody, utc_now(),
    )  # fmt: skip


def _weights(recipe: Recipe) -> dict[str, torch.Tensor]:
    """Trained on small phantoms: the network is convolutional and does not mind the size."""
    torch.manual_seed(0)
    rng = np.random.default_rng(1)
    network, loss = build_network(recipe), build_loss(recipe)
    optimiser = torch.optim.AdamW(network.parameters(), lr=2e-3)
    for _ in range(STEPS):
        pairs = [phantom(rng, TRAIN_SIDE) for _ in range(4)]
        images = torch.tensor(np.stack([image for image, _ in pairs]) / 255.0).float()[:, None]
        truth = torch.tensor(np.stack([labels for _, labels in pairs])).long()
        optimiser.zero_grad()
        loss(network(images), truth).backward()
        optimiser.step()
    return network.eval().state_dict()
