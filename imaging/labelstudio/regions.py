"""The entries of an answer, checked: whose label, on which picture, of which kind.

What is inside a region's `value` is read by the module that knows the kind: `brush`, `bitmask` or
`shapes`. Entries without a region, such as comments, are passed over; anything else that would
make a label map wrong is refused, with the place and kind of the region in the message.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from imaging.errors import CodecError, GridMismatchError
from imaging.labels import Label, LabelScheme
from imaging.labelstudio.bitmask import decode_bitmask
from imaging.labelstudio.brush import OPAQUE, decode_rle
from imaging.labelstudio.shapes import (
    Box,
    Patch,
    Shape,
    Value,
    ellipse_patch,
    keypoint_patch,
    polygon_patch,
    rectangle_box,
    rectangle_patch,
)

MAX_ENTRIES = 20_000
ENTRIES_PER_LABEL = 4  # … or so many for each label on each picture of a long stack
RECTANGLE_KIND = "rectanglelabels"
# Entries that hold no region; people may add such controls to their project.
WITHOUT_REGION = (
    "choices", "datetime", "number", "pairwise", "ranker", "rating", "relation", "taxonomy",
    "textarea",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Region:
    """One region of an answer, checked for everything but what its value says."""

    place: int  # from 1, for messages
    kind: str
    labels: tuple[Label, ...]  # at least one
    value: Value
    item: int = 0  # which picture of the task's stack; a task of one picture has no other

    def patch(self, shape_HW: Shape) -> Patch:
        """What the region covers.

        Raises:
            CodecError: the value is malformed, or claims more than it may.
            GridMismatchError: a bitmask is of another size than the picture.
        """
        with _naming(self.place, self.kind):
            return PATCH_OF[self.kind](self.value, shape_HW)

    def boxes(self, shape_HW: Shape) -> list[Box]:
        """The box around a rectangle, once for each of its labels.

        Raises:
            CodecError: the region is no rectangle, or its value is malformed.
        """
        with _naming(self.place, self.kind):
            if self.kind != RECTANGLE_KIND:
                raise CodecError("found where boxes are wanted, expected only rectangles")
            return [rectangle_box(self.value, label.name, shape_HW) for label in self.labels]


def checked_regions(
    results: Sequence[Mapping[str, Any]],
    scheme: LabelScheme,
    shape_HW: Shape,
    *,
    stack: int | None = None,
) -> Iterator[Region]:
    """The regions of an answer, in its order.

    Args:
        results: Label Studio's result list, unchanged.
        scheme: the task's labels.
        shape_HW: rows and columns of the picture, or of each one in a stack.
        stack: how many pictures the task shows, where it is one of a stack; None = one picture.

    Raises:
        CodecError: an entry is malformed, unlabelled, of an unknown kind or label, or on a
            picture that the task does not have.
        GridMismatchError: a region was drawn on a picture of another size.
    """
    most = max(MAX_ENTRIES, ENTRIES_PER_LABEL * len(scheme.labels) * (stack or 1))
    if len(results) > most:
        raise CodecError(f"answer has {len(results)} entries, expected at most {most}")
    for place, result in enumerate(results, start=1):
        kind = str(result.get("type"))
        if kind in WITHOUT_REGION:
            continue
        with _naming(place, kind):
            if kind not in PATCH_OF:
                raise CodecError(f"kind is unknown, expected one of {', '.join(PATCH_OF)}")
            _check_picture(result, shape_HW)
            item = _checked_item(result.get("item_index"), stack)
            labels = chosen_labels(result, kind, scheme)
        yield Region(place, kind, labels, result["value"], item)


def chosen_labels(result: Mapping[str, Any], kind: str, scheme: LabelScheme) -> tuple[Label, ...]:
    """The labels or classes that an entry carries, at least one, each once.

    Raises:
        CodecError: there are none, or the task does not know one.
    """
    value = result.get("value")
    if not isinstance(value, Mapping):
        raise CodecError(f"value is {type(value).__name__}, expected an object")
    names = value.get(kind)
    if not isinstance(names, list | tuple) or not names:
        raise CodecError(f"{kind} is {names!r:.60}, expected a list with a label")
    return tuple(dict.fromkeys(_known_label(name, scheme) for name in names))


def _known_label(name: object, scheme: LabelScheme) -> Label:
    label = scheme.find(name) if isinstance(name, str) else None
    if label is None:
        raise CodecError(f"label is {name!r:.60}, expected one of {', '.join(scheme.names)}")
    return label


def _check_picture(result: Mapping[str, Any], shape_HW: Shape) -> None:
    """Make sure that the region was drawn on this picture, as it lies in the file."""
    found = _pixels(result, "original_height"), _pixels(result, "original_width")
    if found != shape_HW:
        raise GridMismatchError(shape_HW, found)
    rotation = result.get("image_rotation")
    if rotation:
        raise CodecError(f"picture was turned by {rotation!r:.20}° for drawing, expected 0°")
    if "is_positive" in result:
        raise CodecError("found a click for an interactive model, expected a mark")


def _checked_item(item: object, stack: int | None) -> int:
    """Which picture of the task a region lies on."""
    if stack is None:
        if item:
            raise CodecError(f"item_index is {item!r:.20}, expected a task of one picture")
        return 0
    if item is None and stack == 1:
        return 0
    if isinstance(item, bool) or not isinstance(item, int) or not 0 <= item < stack:
        raise CodecError(
            f"item_index is {item!r:.20}, expected 0 to {stack - 1}: the place of a slice"
        )
    return item


def _pixels(result: Mapping[str, Any], key: str) -> int:
    found = result.get(key)
    if not isinstance(found, int):
        raise CodecError(f"{key} is {found!r:.20}, expected a number of pixels")
    return found


@contextmanager
def _naming(place: int, kind: str) -> Iterator[None]:
    """Say in the message which region it is about."""
    try:
        yield
    except CodecError as error:
        raise CodecError(f"region {place} ({kind:.40}): {error}") from error


def _brush_patch(value: Value, shape_HW: Shape) -> Patch:
    if value.get("format") != "rle":
        raise CodecError(f"format is {value.get('format')!r:.60}, expected 'rle'")
    return Patch(0, 0, decode_rle(value.get("rle", ()), shape_HW) > OPAQUE)


def _bitmask_patch(value: Value, shape_HW: Shape) -> Patch:
    return Patch(0, 0, decode_bitmask(value.get("imageDataURL"), shape_HW))


PATCH_OF: dict[str, Callable[[Value, Shape], Patch]] = {
    "brushlabels": _brush_patch,
    "bitmasklabels": _bitmask_patch,
    "polygonlabels": polygon_patch,
    "ellipselabels": ellipse_patch,
    RECTANGLE_KIND: rectangle_patch,
    "keypointlabels": keypoint_patch,
}
