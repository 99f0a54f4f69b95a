"""A snapshot's volumes as arrays at the planned spacing: read, resampled and normalised once.

In memory while there is room, in half precision: 150 hippocampi take 30 MB, 100 abdomens at 1.5 mm
5 GB. What does not fit lies in a file on the machine's own disk, mapped into memory; the file has
no name, so that not even a killed training leaves it behind.
"""

import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from imaging.dataset.snapshot import SnapshotCase
from imaging.dataset.volumes import read_case_labels, read_case_volume
from imaging.model.volume_input import volume_input
from imaging.recipes.recipe import Triple, VolumeRecipe
from imaging.resample import LabelArray, resample_labels, to_spacing

Scalars = TypeVar("Scalars", bound=np.generic)
READERS = 2  # threads; each holds a whole volume in single precision for a moment
MEMORY_BYTES = 2 << 30  # of prepared volumes; the rest goes to disk
PLACES = 4096  # of each label that patches may be centred on
MARGIN = 1.25  # side of what is cut out, for the warp to turn and shrink within
PATCH_STREAM = 3  # tells the random numbers of patches from others of the same seed


@dataclass(frozen=True, slots=True, eq=False)
class PreparedVolume:
    """One case at the planned spacing."""

    case: str
    image_CXYZ: NDArray[np.float16]
    labels_XYZ: LabelArray
    places: tuple[NDArray[np.int16], ...]  # per label that it shows: some of its voxels, N × 3


@dataclass(frozen=True, slots=True, eq=False)
class PreparedVolumes:
    """Cases that train or validate, in the snapshot's order."""

    volumes: tuple[PreparedVolume, ...]

    def __len__(self) -> int:
        return len(self.volumes)

    @property
    def cases(self) -> tuple[str, ...]:
        return tuple(one.case for one in self.volumes)


class Store:
    """Where arrays are kept: in memory up to a number of bytes, then in files without a name."""

    def __init__(self, memory_bytes: int = MEMORY_BYTES, folder: Path | None = None) -> None:
        """`folder` is on a disk of this machine; None: the system's for temporary files."""
        self.left_bytes = memory_bytes
        self.folder = folder

    def keep(self, array: NDArray[Scalars]) -> NDArray[Scalars]:
        """The same values, wherever there is room for them.

        Raises:
            OSError: the disk is full.
        """
        if array.nbytes <= self.left_bytes or not array.size:
            self.left_bytes -= array.nbytes
            return array
        with tempfile.TemporaryFile(dir=self.folder) as file:
            array.tofile(file)  # a full disk is noticed here, and not as a signal later
            file.flush()
            mapped: NDArray[Any] = np.memmap(file, array.dtype, mode="r", shape=array.shape)
        return mapped


def prepare_volumes(
    cases: Sequence[SnapshotCase], recipe: VolumeRecipe, store: Store
) -> PreparedVolumes:
    """Read, resample and normalise cases.

    Raises:
        VolumeError: a volume or label map cannot be read, or has other channels.
        GridMismatchError: a label map is not on its volume's grid.
        SnapshotError: a case has no label map.
        OSError: the disk is full.
    """
    with ThreadPoolExecutor(READERS) as pool:
        found = tuple(pool.map(lambda case: _prepared(case, recipe, store), cases))
    return PreparedVolumes(found)


def cut_patches(
    data: PreparedVolumes, chosen_B: NDArray[np.int64], recipe: VolumeRecipe, iteration: int
) -> tuple[NDArray[np.float16], LabelArray]:
    """Pieces of volumes somewhat larger than the network's input: images_BCXYZ, labels_BXYZ.

    A share of them is centred on a voxel of a label, each label of the case as often as the
    others; the rest lies anywhere. Where a volume ends there is 0. Everything follows from the
    recipe's seed and the iteration.
    """
    sides = cut_sides(recipe)
    random = np.random.default_rng([recipe.seed, PATCH_STREAM, iteration])
    images = np.zeros((len(chosen_B), recipe.channels, *sides), dtype=np.float16)
    labels = np.zeros((len(chosen_B), *sides), dtype=np.uint8)
    for place, case in enumerate(chosen_B.tolist()):
        volume = data.volumes[case]
        starts = _starts(volume, sides, recipe.foreground_share, random)
        source: list[slice] = []
        target: list[slice] = []
        for start, side, length in zip(starts, sides, volume.labels_XYZ.shape, strict=True):
            first, last = max(0, start), min(length, start + side)
            source.append(slice(first, last))
            target.append(slice(first - start, last - start))
        for channel, image_XYZ in enumerate(volume.image_CXYZ):
            images[place, channel][tuple(target)] = image_XYZ[tuple(source)]
        labels[place][tuple(target)] = volume.labels_XYZ[tuple(source)]
    return images, labels


def cut_sides(recipe: VolumeRecipe) -> Triple:
    """Sides of what is cut out of a volume to become one patch."""
    x, y, z = (round(side * MARGIN) for side in recipe.patch_XYZ)
    return x, y, z


def _starts(
    volume: PreparedVolume, sides: Triple, share: float, random: np.random.Generator
) -> Iterator[int]:
    """Where the piece begins on each axis; below 0 where the volume is smaller than it."""
    on_label = random.random() < share
    shape = volume.labels_XYZ.shape
    if on_label and volume.places:
        of_label = volume.places[int(random.integers(len(volume.places)))]
        centre = of_label[int(random.integers(len(of_label)))].tolist()
    else:
        centre = [int(random.integers(length)) for length in shape]
    for middle, side, length in zip(centre, sides, shape, strict=True):
        if length <= side:
            yield -((side - length) // 2)
        else:
            yield min(max(0, middle - side // 2), length - side)


def _prepared(case: SnapshotCase, recipe: VolumeRecipe, store: Store) -> PreparedVolume:
    volume = read_case_volume(case)
    image_CXYZ = volume_input(volume, recipe).astype(np.float16)
    labels_XYZ = read_case_labels(case, volume.grid)
    resampling = to_spacing(volume.grid, recipe.spacing_mm)
    labels_XYZ = resample_labels(labels_XYZ, resampling, recipe.outputs)
    random = np.random.default_rng([recipe.seed, int(labels_XYZ.size)])
    return PreparedVolume(
        case=case.case,
        image_CXYZ=store.keep(image_CXYZ),
        labels_XYZ=store.keep(labels_XYZ),
        places=tuple(_places(labels_XYZ, index, random) for index in _held(labels_XYZ)),
    )


def _held(labels_XYZ: LabelArray) -> list[int]:
    counts = np.bincount(labels_XYZ.ravel())
    return [int(index) for index in np.flatnonzero(counts) if index > 0]


def _places(labels_XYZ: LabelArray, index: int, random: np.random.Generator) -> NDArray[np.int16]:
    flat = np.flatnonzero(labels_XYZ == index)
    if len(flat) > PLACES:
        flat = random.choice(flat, PLACES, replace=False)
    return np.stack(np.unravel_index(flat, labels_XYZ.shape), axis=1).astype(np.int16)
