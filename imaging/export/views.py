"""The pictures that a case is shown as: a picture itself, a volume slice by slice.

The slices are the previews that ingest made; the label map is laid on the same screen. Slices along
another axis, or of another channel, are drawn when somebody wants them.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from imaging.errors import ExportError
from imaging.export.folder import ExportCase, file_hashes
from imaging.io.nifti import read_label_volume, read_nifti
from imaging.io.picture import read_label_map
from imaging.labelstudio.plane import plane_of
from imaging.preview import render, window_of
from imaging.task import VolumePolicy


@dataclass(frozen=True, slots=True)
class View:
    """A picture of 8 bits, and the label map on its pixels."""

    image: Path
    sha256: str
    labels_HW: NDArray[np.uint8]
    index: int | None = None  # of a volume: the slice


def views_of(case: ExportCase) -> Iterator[View]:
    """A picture's one view, or a volume's slices in order.

    Raises:
        ExportError: the case has no label map, or ingest made no picture of a slice.
    """
    folder, hashes = case.frozen.image.parent, file_hashes(case)
    volume = case.record.volume
    if volume is None:
        labels_HW = read_label_map(case.labels, case.record.shape_HW)
        name = case.record.preview
        yield View(folder / name, str(hashes.get(name)), labels_HW)
        return
    labels_XYZ = read_label_volume(case.labels, volume.grid)
    for index in range(volume.plane.count):
        name = f"{case.record.preview}/{index:04d}.png"
        if name not in hashes:
            raise ExportError(f"{case.name} has no picture {name}, expected one for every slice")
        labels_HW = volume.plane.screen(labels_XYZ, index)
        yield View(folder / name, str(hashes[name]), labels_HW, index)


def drawn_slices(
    case: ExportCase, shown: VolumePolicy, channel: int = 0
) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.uint8]]]:
    """Picture and label map of each slice, HW, along the axis and in the window that are wanted.

    Args:
        case: a volume with a label map.
        shown: axis and window, as in task.yaml.
        channel: which one, from 0.

    Raises:
        ExportError: the case is a picture, has no label map, or has fewer channels.
        VolumeError: a file cannot be read.
    """
    facts = case.record.volume
    if facts is None:
        raise ExportError(f"{case.name} is a picture, expected a volume")
    if channel >= len(case.images):
        raise ExportError(f"{case.name} has {len(case.images)} channels, expected {channel + 1}")
    volume = replace(read_nifti(case.images[channel][0]), modality=facts.modality)
    labels_XYZ = read_label_volume(case.labels, facts.grid)
    plane = plane_of(facts.grid, shown.axis)
    window = window_of(volume, shown, body_part=facts.headers.get("BodyPartExamined", ""))
    for index, grey_HW in enumerate(render(volume, plane, window)):
        yield grey_HW, plane.screen(labels_XYZ, index)
