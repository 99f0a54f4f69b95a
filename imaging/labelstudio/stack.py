"""Volumes in Label Studio: a stack of pictures for a task, regions on slices for a label map.

A task's data lists the pictures it shows; a region's `item_index` is a place in that list, and the
number in the picture's name is the slice it shows. The list is only ever appended to, so that a
place keeps its meaning. What a region of any kind covers on its slice is decided as on pictures
(`results`); where slices lie in the volume, `plane` alone knows.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote, unquote

import numpy as np
import numpy.typing as npt

from imaging.errors import CodecError, GridMismatchError
from imaging.ids import checked_name, checked_task_name
from imaging.labels import LabelScheme
from imaging.labelstudio.plane import Plane, slice_of
from imaging.labelstudio.regions import Region, checked_regions
from imaging.labelstudio.results import (
    MAX_COVERED,
    MAX_WHOLE_PICTURES,
    Result,
    brush_result,
    painted,
)

LabelArray = npt.NDArray[np.uint8]

SLICES = "slices"  # the key in a task's data, and the folder of a case
SLICE_NAME = re.compile(r"/slices/(\d{4,6})\.png$")


def slice_name(index: int) -> str:
    """The file of a slice in the case's folder of slices."""
    return f"{index:04d}.png"


def slice_url(task_name: str, case: str, index: int) -> str:
    """Where Label Studio finds a slice: in the shared folder.

    Raises:
        UnsafeNameError: a name cannot be part of a path.
    """
    folder = f"dataset/{checked_task_name(task_name)}/cases/{checked_name(case)}"
    return f"/data/local-files/?d={quote(f'{folder}/{SLICES}/{slice_name(index)}')}"


def items_of(data: Mapping[str, Any]) -> tuple[int, ...]:
    """The slices that a task's data shows, in order: what its regions' `item_index` counts.

    Raises:
        CodecError: they are no list of slices, each once.
    """
    urls = data.get(SLICES)
    if not isinstance(urls, list | tuple) or not urls:
        raise CodecError(f"slices is {urls!r:.60}, expected the addresses of a case's slices")
    items = tuple(_index(url) for url in urls)
    if len(set(items)) != len(items):
        raise CodecError("slices names one slice twice, expected each once")
    return items


def label_volume_from_results(
    results: Sequence[Mapping[str, Any]], scheme: LabelScheme, plane: Plane, items: Sequence[int]
) -> LabelArray:
    """The label map that an answer draws on a volume; background wherever nothing was drawn.

    Args:
        results: Label Studio's result list, unchanged.
        scheme: the task's labels; where regions overlap, the higher index wins.
        plane: how the volume's slices lay on the screen.
        items: the slice that each picture of the task showed.

    Returns:
        labels_XYZ on the volume's grid, RAS+.

    Raises:
        CodecError: a region is malformed, unlabelled, of an unknown kind or label, or on no slice
            of the task; or all together cover more than anybody draws.
        GridMismatchError: a region was drawn on a picture of another size.
    """
    labels_XYZ = np.zeros(plane.grid.shape_XYZ, dtype=np.uint8)
    _check_items(items, plane)
    by_item: dict[int, list[Region]] = {}
    for region in checked_regions(results, scheme, plane.shape_HW, stack=len(items)):
        by_item.setdefault(region.item, []).append(region)
    pixels = plane.shape_HW[0] * plane.shape_HW[1]
    each_label_once = len(scheme.labels) * len(items)
    left = max(MAX_COVERED, max(MAX_WHOLE_PICTURES, 2 * each_label_once) * pixels)
    for item, regions in sorted(by_item.items()):
        labels_HW, covered = painted(regions, plane.shape_HW, left)
        left -= covered
        slice_of(labels_XYZ, plane.axis, items[item])[...] = plane.labels(labels_HW)
    return labels_XYZ


def results_from_label_volume(
    labels_XYZ: LabelArray, scheme: LabelScheme, plane: Plane, items: Sequence[int]
) -> list[Result]:
    """One brush region for each label on each slice that shows it: by slice, then by label.

    Args:
        labels_XYZ: on the volume's grid, RAS+.
        scheme: the task's labels.
        plane: how the volume's slices lie on the screen.
        items: the slice that each picture of the task shows; labels elsewhere are left out.

    Raises:
        CodecError: the array is no uint8 label map, or holds an index beyond the scheme.
        GridMismatchError: it does not lie on the volume's grid.
    """
    if labels_XYZ.dtype != np.uint8:
        raise CodecError(f"found a {labels_XYZ.dtype} array, expected a uint8 label map")
    if labels_XYZ.shape != plane.grid.shape_XYZ:
        raise GridMismatchError(plane.grid.shape_XYZ, labels_XYZ.shape)
    _check_items(items, plane)
    results: list[Result] = []
    for item, index in enumerate(items):
        labels_AB = slice_of(labels_XYZ, plane.axis, index)
        present = np.flatnonzero(np.bincount(labels_AB.ravel())).tolist()
        if present and present[-1] > len(scheme.labels):
            raise CodecError(f"label map holds {present[-1]}, the task has {len(scheme.labels)}")
        if present == [0]:
            continue
        labels_HW = plane.spread(labels_AB)
        for label in (scheme.labels[found - 1] for found in present if found):
            results.append(brush_result(label, labels_HW == label.index, item))
    return results


def _check_items(items: Sequence[int], plane: Plane) -> None:
    beyond = [index for index in items if not 0 <= index < plane.count]
    if beyond:
        raise CodecError(
            f"the task shows slice {beyond[0]}, expected 0 to {plane.count - 1}",
            hint="Restore the task's data: the list of slices must be that of its own case.",
        )


def _index(url: object) -> int:
    match = SLICE_NAME.search(unquote(url)) if isinstance(url, str) else None
    if match is None:
        raise CodecError(f"a slice is {url!r:.200}, expected …/{SLICES}/0007.png")
    return int(match[1])
