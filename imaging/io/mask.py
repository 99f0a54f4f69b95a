"""What the pixels of a mask file mean: pure rules, no files.

People export masks in many dialects: 0/255 for one label, indices 0…K, palettes, colours. A mask
that fits one reading exactly becomes a label map; one that fits none, or more than one, is
refused, because a wrong label is worse than a missing one.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from imaging.errors import PictureError
from imaging.labels import Label, LabelScheme

LabelArray = NDArray[np.uint8]
PixelArray = NDArray[np.uint8] | NDArray[np.uint16]
Rgb = tuple[int, int, int]

BLACK: Rgb = (0, 0, 0)
WHITE: Rgb = (255, 255, 255)
SHOWN = 8  # values or colours named in a message


@dataclass(frozen=True, slots=True)
class MaskContent:
    """What occurs in a mask: grey values, or colours; background included."""

    values: tuple[int, ...] = ()
    colors: tuple[Rgb, ...] = ()


def mask_content(pixels: PixelArray) -> MaskContent:
    """The distinct values (HW) or colours (HWC) of a mask's pixels, ascending."""
    if pixels.ndim == 2:
        return MaskContent(values=_values(pixels))
    packed = np.unique(_packed(pixels))
    return MaskContent(
        colors=tuple((int(c) >> 16, (int(c) >> 8) & 255, int(c) & 255) for c in packed)
    )


def labels_from_mask(pixels: PixelArray, scheme: LabelScheme) -> LabelArray:
    """The label map that a mask's pixels mean.

    Args:
        pixels: HW grey values or palette indices, or HWC colours, as `decode_mask` gives them.
        scheme: the task's labels.

    Returns:
        uint8 HW, one index per pixel, 0 = background.

    Raises:
        PictureError: reason `mask-values`: the pixels fit no reading, or more than one.
    """
    if pixels.ndim == 3:
        return _from_colors(pixels, scheme)
    values = _values(pixels)
    if set(values) == {0, 65535} or values == (65535,):  # a binary mask saved with 16 bits
        pixels, values = (pixels > 0) * np.uint8(255), tuple(v // 257 for v in values)
    count = len(scheme.labels)
    if values[-1] == 255 and set(values) <= {0, 255} and count == 1:
        return np.asarray(pixels == 255, dtype=np.uint8)
    if values[-1] <= count:
        return pixels.astype(np.uint8)
    raise PictureError(
        f"a mask with the values {_some(values)}; expected {_expected(scheme)}",
        reason="mask-values",
    )


def check_palette(used: Sequence[tuple[int, Rgb]], scheme: LabelScheme | None) -> None:
    """Make sure that a palette does not contradict its indices.

    Args:
        used: (index, colour) of every palette entry that occurs.
        scheme: the task's labels, whose colours must not stand at other indices.

    Raises:
        PictureError: reason `mask-values`: index 0 is not shown black, or a label's colour stands
            at another label's index, so that index and colour say different things.
    """
    by_color: dict[Rgb, Label] = {label.rgb: label for label in scheme.labels} if scheme else {}
    for index, color in used:
        owner = by_color.get(color)
        if (index == 0 and color != BLACK) or (owner is not None and owner.index != index):
            raise PictureError(
                f"a palette mask that shows index {index} as {_hex(color)}; expected index 0 black "
                "and every label's colour at its own index",
                reason="mask-values",
            )


def _from_colors(pixels_HWC: PixelArray, scheme: LabelScheme) -> LabelArray:
    packed_HW = _packed(pixels_HWC)
    labels_HW = np.zeros(packed_HW.shape, dtype=np.uint8)
    matched = packed_HW == 0
    for label in scheme.labels:
        here = packed_HW == _pack(label.rgb)
        labels_HW[here] = label.index
        matched |= here
    if not matched.all():
        strange = mask_content(pixels_HWC[~matched][None]).colors
        raise PictureError(
            f"a colour mask with {_some([_hex(color) for color in strange])}; "
            f"expected black and {_expected_colors(scheme)}",
            reason="mask-values",
        )
    return labels_HW


def _values(pixels: PixelArray) -> tuple[int, ...]:
    # Counting is 20 times faster than np.unique, which sorts all pixels.
    return tuple(int(v) for v in np.flatnonzero(np.bincount(pixels.reshape(-1))))


def _packed(pixels_HWC: PixelArray) -> NDArray[np.uint32]:
    wide = pixels_HWC.astype(np.uint32)
    weights = np.array([1 << 16, 1 << 8, 1], dtype=np.uint32)
    packed: NDArray[np.uint32] = wide @ weights
    return packed


def _pack(color: Rgb) -> int:
    return (color[0] << 16) | (color[1] << 8) | color[2]


def _hex(color: Rgb) -> str:
    return f"#{_pack(color):06x}"


def _some(things: Sequence[object]) -> str:
    shown = ", ".join(str(thing) for thing in things[:SHOWN])
    return shown if len(things) <= SHOWN else f"{shown}, … ({len(things)} in all)"


def _expected(scheme: LabelScheme) -> str:
    if len(scheme.labels) == 1:
        return f"0 and 255, or 0 and 1 for {scheme.names[0]!r}"
    return f"0 to {len(scheme.labels)} for {_some(scheme.names)}"


def _expected_colors(scheme: LabelScheme) -> str:
    return _some([f"{label.color} ({label.name})" for label in scheme.labels])
