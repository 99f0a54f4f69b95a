"""What a recipe for volumes needs to know about a snapshot before it can be planned."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np
from numpy.typing import NDArray

from imaging.dataset.snapshot import Snapshot
from imaging.dataset.volumes import read_case_labels, read_case_volume
from imaging.errors import SnapshotError
from imaging.recipes.facts import spread
from imaging.volume import Volume

SAMPLE = 32  # volumes looked at
VALUES = 20_000  # of each volume's labelled voxels; more change the third digit only
ZEROS = 0.2  # share of exact zeros from which on a volume was cut out of its surroundings


@dataclass(frozen=True, slots=True)
class ChannelFacts:
    """Values of one channel where labels lie, over all volumes looked at."""

    low: float  # 0.5th percentile
    high: float  # 99.5th
    mean: float  # between the two
    deviation: float


@dataclass(frozen=True, slots=True)
class VolumeSetFacts:
    """Grids and values of the volumes that train."""

    train_cases: int
    median_spacing_mm: tuple[float, float, float]
    tenth_spacing_mm: tuple[float, float, float]  # 10th percentile, axis by axis
    extents_mm: tuple[tuple[float, float, float], ...]  # of each volume looked at
    channels: tuple[ChannelFacts, ...]
    is_cut_out: bool  # most volumes are 0 around what they show, such as skull-stripped brains


def measure_volumes(snapshot: Snapshot) -> VolumeSetFacts:
    """Look at up to 32 training volumes, evenly spread over the snapshot.

    Raises:
        SnapshotError: there is nothing to train on, or volumes differ in their channels.
        VolumeError: a volume of the snapshot cannot be read.
        GridMismatchError: a label map is not on its volume's grid.
    """
    cases = snapshot.of("train")
    if not cases:
        raise SnapshotError(
            f"snapshot {snapshot.id} has no training cases",
            hint="Label cases of more patients: some are held out for validation and test.",
        )
    spacings, extents, values, zeros = [], [], [], []
    for case in spread(cases, SAMPLE):
        volume = read_case_volume(case)
        labels_XYZ = read_case_labels(case, volume.grid)
        spacing_mm = volume.grid.spacing_mm
        spacings.append(spacing_mm)
        x, y, z = (n * mm for n, mm in zip(volume.grid.shape_XYZ, spacing_mm, strict=True))
        extents.append((x, y, z))
        values.append(_labelled(volume, labels_XYZ))
        zeros.append(float((volume.voxels_CXYZ[0] == 0).mean()))
    if len({one.shape[0] for one in values}) > 1:
        counts = sorted({one.shape[0] for one in values})
        raise SnapshotError(
            f"volumes of {' and '.join(map(str, counts))} channels in one snapshot, expected as "
            "many in each"
        )
    return VolumeSetFacts(
        train_cases=len(cases),
        median_spacing_mm=_by_axis(spacings, 50),
        tenth_spacing_mm=_by_axis(spacings, 10),
        extents_mm=tuple(extents),
        channels=tuple(_channel_facts(channel) for channel in np.concatenate(values, axis=1)),
        is_cut_out=median(zeros) > ZEROS,
    )


def _labelled(volume: Volume, labels_XYZ: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Values of labelled voxels, channels × at most 20 000; of all voxels where none is."""
    held = np.flatnonzero(labels_XYZ.ravel())
    if not len(held):
        held = np.arange(labels_XYZ.size)
    chosen = held[:: max(1, len(held) // VALUES)]
    flat = [np.ascontiguousarray(channel).ravel()[chosen] for channel in volume.voxels_CXYZ]
    found = np.stack(flat).astype(np.float32)
    return found[:, np.isfinite(found).all(axis=0)]


def _channel_facts(values: NDArray[np.float32]) -> ChannelFacts:
    if not len(values):
        return ChannelFacts(0.0, 1.0, 0.0, 1.0)
    low, high = (float(one) for one in np.percentile(values, [0.5, 99.5]))
    clipped = values.clip(low, high).astype(np.float64)
    return ChannelFacts(
        low, max(high, low + 1e-3), float(clipped.mean()), max(float(clipped.std()), 1e-3)
    )


def _by_axis(
    spacings: Sequence[tuple[float, float, float]], percentile: float
) -> tuple[float, float, float]:
    x, y, z = np.percentile(np.array(spacings), percentile, axis=0).tolist()
    return x, y, z
