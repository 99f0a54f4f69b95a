"""What people and models answered, as label maps, classes and boxes; and the way back.

A result list is what Label Studio stores for an annotation or a prediction: one entry for each
region or choice. Regions of one label add up; where labels overlap, the one with the higher index
wins. Shapes may be mixed freely. Anything that would make a label map wrong is refused: a label
the task does not know, a picture of another size, a picture turned in the browser. Entries that
hold no region, such as comments, are passed over.

Results made here are the same, to the byte, for the same content, identifiers included.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from imaging.errors import CodecError
from imaging.labels import Label, LabelScheme
from imaging.labelstudio.brush import encode_rle
from imaging.labelstudio.regions import RECTANGLE_KIND, Region, checked_regions, chosen_labels
from imaging.labelstudio.shapes import Box, Shape, box_value

# How many pixels the regions of one answer may cover together: a thousand whole pictures of 2000 ×
# 2000, which take a minute as ellipses (80 million pixels per second) and a second as brush masks.
MAX_COVERED = 2**32
MAX_WHOLE_PICTURES = 200  # … or so many pictures of any size

LabelArray = npt.NDArray[np.uint8]
Result = dict[str, Any]

# Names of tags in every labelling configuration; docs/data-format.md lists them.
IMAGE, CONTROL, RECTANGLE = "image", "label", "rectangle"


def label_map_from_results(
    results: Sequence[Mapping[str, Any]], scheme: LabelScheme, shape_HW: Shape
) -> LabelArray:
    """The label map that an answer draws on a picture; without regions, all background.

    Args:
        results: Label Studio's result list, unchanged.
        scheme: the task's labels.
        shape_HW: rows and columns of the picture.

    Returns:
        labels_HW, one index per pixel, 0 = background.

    Raises:
        CodecError: a region is malformed, unlabelled, or of an unknown kind or label, or all of
            them together cover more than anybody draws.
        GridMismatchError: a region was drawn on a picture of another size.
    """
    most = max(MAX_COVERED, MAX_WHOLE_PICTURES * shape_HW[0] * shape_HW[1])
    labels_HW, _ = painted(checked_regions(results, scheme, shape_HW), shape_HW, most)
    return labels_HW


def painted(regions: Iterable[Region], shape_HW: Shape, most: int) -> tuple[LabelArray, int]:
    """The label map of regions on one picture, and how many pixels they cover together.

    Raises:
        CodecError: a region's value is malformed, or they cover more than `most` pixels.
    """
    labels_HW = np.zeros(shape_HW, dtype=np.uint8)
    covered = 0
    for region in regions:
        patch = region.patch(shape_HW)
        covered += patch.mask_HW.size
        if covered > most:
            raise CodecError(
                f"the regions up to number {region.place} cover pictures of "
                f"{shape_HW[1]} × {shape_HW[0]} pixels more often than anybody draws"
            )
        part = labels_HW[patch.window]
        for label in region.labels:
            np.maximum(part, np.uint8(label.index), out=part, where=patch.mask_HW)
    return labels_HW, covered


def results_from_label_map(labels_HW: LabelArray, scheme: LabelScheme) -> list[Result]:
    """One brush region for each label that is present, in the order of the scheme.

    Raises:
        CodecError: the array is no uint8 label map, or holds an index beyond the scheme.
    """
    if labels_HW.ndim != 2 or labels_HW.dtype != np.uint8 or labels_HW.size == 0:
        raise CodecError(f"found {labels_HW.dtype} {labels_HW.shape}, expected a uint8 H×W map")
    if labels_HW.max() > len(scheme.labels):
        raise CodecError(f"label map holds {labels_HW.max()}, the task has {len(scheme.labels)}")
    pixels = np.bincount(labels_HW.ravel(), minlength=len(scheme.labels) + 1)
    return [
        brush_result(label, labels_HW == label.index)
        for label in scheme.labels
        if pixels[label.index]
    ]


def classes_from_results(
    results: Sequence[Mapping[str, Any]], scheme: LabelScheme, *, multi_label: bool = True
) -> tuple[str, ...]:
    """The classes that an answer chose, in the order of the scheme.

    Only the choices named `label` count: a lab may add others, for instance on image quality.

    Args:
        results: Label Studio's result list, unchanged.
        scheme: the task's classes.
        multi_label: whether any number may hold; if not, exactly one class must be chosen.

    Raises:
        CodecError: a choice is malformed or unknown, or not exactly one was made where one must.
    """
    chosen: set[str] = set()
    for result in results:
        if result.get("type") == "choices" and result.get("from_name", CONTROL) == CONTROL:
            chosen |= {label.name for label in chosen_labels(result, "choices", scheme)}
    if not multi_label and len(chosen) != 1:
        raise CodecError(f"classes chosen: {sorted(chosen)}, expected exactly one")
    return tuple(name for name in scheme.names if name in chosen)


def results_from_classes(
    names: Sequence[str], scores: Mapping[str, float] | None = None
) -> list[Result]:
    """The choice of these classes; its score is that of the least certain. None chosen: no result.

    Raises:
        CodecError: a chosen class has no score between 0 and 1.
    """
    if not names:
        return []
    result: Result = {
        "id": _identifier("choices", *names),
        "type": "choices",
        "from_name": CONTROL,
        "to_name": IMAGE,
        "value": {"choices": list(names)},
    }
    if scores is not None:
        for name in names:
            if not 0 <= scores.get(name, -1) <= 1:
                raise CodecError(f"{name!r} has score {scores.get(name)}, expected 0 to 1")
        result["score"] = round(float(min(scores[name] for name in names)), 6)
    return [result]


def boxes_from_results(
    results: Sequence[Mapping[str, Any]], scheme: LabelScheme, shape_HW: Shape
) -> tuple[Box, ...]:
    """The boxes that an answer drew, in its order; a turned rectangle gives the box around it.

    Raises:
        CodecError: as `label_map_from_results`; also for a region that is no rectangle.
        GridMismatchError: as there.
    """
    regions = checked_regions(results, scheme, shape_HW)
    return tuple(box for region in regions for box in region.boxes(shape_HW))


def results_from_boxes(boxes: Sequence[Box], shape_HW: Shape) -> list[Result]:
    """One rectangle region for each box.

    Raises:
        CodecError: a box is not inside the picture.
    """
    results = []
    for place, box in enumerate(boxes):
        value = box_value(box, shape_HW) | {RECTANGLE_KIND: [box.label]}
        identifier = _identifier("rectangle", str(place), repr(box))
        results.append(_region_result(identifier, RECTANGLE_KIND, RECTANGLE, value, shape_HW))
    return results


# --- writing ----------------------------------------------------------------------------------


def brush_result(label: Label, mask_HW: npt.NDArray[np.bool_], item: int | None = None) -> Result:
    """A label's brush region; on a stack of pictures `item` says on which one."""
    rle = encode_rle(mask_HW)
    value = {"format": "rle", "rle": rle, "brushlabels": [label.name]}
    # Equal masks on two slices are two regions: Label Studio tells regions apart by identifier.
    place = [] if item is None else [str(item)]
    identifier = _identifier("brush", label.name, bytes(rle), *place)
    height, width = mask_HW.shape
    result = _region_result(identifier, "brushlabels", CONTROL, value, (height, width))
    return result if item is None else result | {"item_index": item}


def _region_result(
    identifier: str, kind: str, control: str, value: Mapping[str, Any], shape_HW: Shape
) -> Result:
    return {
        "id": identifier,
        "type": kind,
        "from_name": control,
        "to_name": IMAGE,
        "original_width": shape_HW[1],
        "original_height": shape_HW[0],
        "image_rotation": 0,
        "value": dict(value),
    }


def _identifier(*content: str | bytes) -> str:
    """Ten characters, as Label Studio's own, made from the content."""
    digest = hashlib.sha256()
    for part in content:
        data = part.encode() if isinstance(part, str) else part
        digest.update(len(data).to_bytes(8, "big") + data)
    return digest.hexdigest()[:10]
