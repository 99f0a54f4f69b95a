"""What annotators see of a volume: which values are black and white, and each slice as a picture.

CT has a fixed scale, so it is shown in the windows that radiologists use, by body part. Other
modalities have none: their window is found in the values of the whole volume, once, so that slices
look alike and neighbours do not flicker. Pixels are 8 bits; what trains is the volume itself.
"""

import math
import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imaging.errors import RecordError
from imaging.io.png import png_grey
from imaging.labelstudio.plane import Plane, slice_of, upright
from imaging.labelstudio.stack import slice_name
from imaging.task import VolumePolicy
from imaging.volume import Volume
from imaging.windows import AUTO, CT_PRESETS, SOFT_TISSUE, SPELLINGS, Window, window_named

Pixels = NDArray[np.uint8]
Floats = NDArray[np.float64]

PERCENTILES = (0.5, 99.5)
# A percentile of so many voxels is as good as of all; a 600-slice CT has 150 times as many.
SAMPLE_VOXELS = 2**20
# A window in which less of a CT has any contrast was not meant for it, for instance because its
# values are no HU.
LEAST_SHOWN = 0.002
LUT_TYPES = ("uint8", "int8", "uint16", "int16")
# What DICOM's Body Part Examined (PS3.16, annex L) calls a part, or a label → its preset.
PARTS = (
    (re.compile(r"lung|pulmon|bronch|airway"), "lung"),
    (re.compile(r"liver|hepat"), "liver"),
    (re.compile(r"abdom|pelvis|kidney|renal|spleen|pancrea|bladder|colon"), "abdomen"),
    (re.compile(r"brain|^head|cerebr|ha?emorrhage|stroke"), "brain"),
    (re.compile(r"bone|skull|femur|tibia|humerus|fracture|spine|vertebra|sacrum|^ribs?\b"), "bone"),
    (re.compile(r"^(extremity|knee|hip|foot|hand|ankle|shoulder|elbow|wrist|leg|arm)$"), "bone"),
    (re.compile(r"heart|mediastin|aorta|chest|thorax"), "mediastinum"),
)


def window_of(
    volume: Volume,
    policy: VolumePolicy,
    channel: int = 0,
    *,
    body_part: str = "",
    labels: Sequence[str] = (),
) -> Window:
    """The window to show one channel of a volume in.

    Args:
        volume: its values; CT in HU.
        policy: `window` says a preset, "centre/width", or auto.
        channel: which channel of a multi-modal case.
        body_part: DICOM's Body Part Examined, where known.
        labels: names of the task's labels: what annotators look for decides before the body part,
            if all labels that name a part agree.

    Returns:
        For auto: CT by labels, then body part, else soft tissue; PET from 0 to the 99.5th
        percentile of its positive values; anything else from the 0.5th to the 99.5th percentile
        of the values above the smallest one, which is the background.

    Raises:
        RecordError: the policy's window is neither a preset nor "centre/width".
    """
    if policy.window != AUTO:
        return _asked_for(policy.window)
    values = _sample(volume.voxels_CXYZ[channel])
    if not values.size:
        return Window(0.0, 1.0, "empty")
    if volume.modality == "CT":
        window = CT_PRESETS[_preset(body_part, labels)]
        if np.mean((values > window.low) & (values < window.high)) >= LEAST_SHOWN:
            return window
    if volume.modality == "PT":
        positive = values[values > 0]
        high = float(np.percentile(positive, PERCENTILES[1])) if positive.size else 1.0
        return Window(0.0, high, "percentile")
    inside = values[values > values.min()]
    if not inside.size:
        return Window(float(values[0]), float(values[0]) + 1.0, "constant")
    low, high = (float(value) for value in np.percentile(inside, PERCENTILES))
    if high <= low:  # two values: the background, and the rest
        low = float(values.min())
    return Window(low, high, "percentiles")


def render(volume: Volume, plane: Plane, window: Window, channel: int = 0) -> Iterator[Pixels]:
    """The slices of one channel as they lie on the screen, uint8 HW, in the plane's order."""
    to_grey = _grey_scale(volume.voxels_CXYZ.dtype, window)
    voxels_XYZ = volume.voxels_CXYZ[channel]
    for index in range(plane.count):
        yield plane.enlarged(to_grey(upright(slice_of(voxels_XYZ, plane.axis, index))))


def write_slices(
    folder: Path,
    voxels_XYZ: NDArray[Any],
    plane: Plane,
    window: Window,
    *,
    threads: int = 1,
    progress: Callable[[], None] = lambda: None,
) -> None:
    """Write every slice as a PNG named after its voxel index; the folder is made.

    Files are written plainly: whoever calls shows the finished folder in one step.

    Args:
        folder: where they go.
        voxels_XYZ: one channel of a volume.
        plane: how its slices lie on the screen.
        window: from `window_of`.
        threads: how many slices at once; most of the work is done without Python's lock.
        progress: called after each slice.
    """
    folder.mkdir(parents=True, exist_ok=True)
    to_grey = _grey_scale(voxels_XYZ.dtype, window)

    def write(index: int) -> None:
        grey = to_grey(upright(slice_of(voxels_XYZ, plane.axis, index)))
        (folder / slice_name(index)).write_bytes(png_grey(plane.enlarged(grey)))

    with ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(write, range(plane.count)):
            progress()


def _asked_for(text: str) -> Window:
    window = window_named(text)
    if window is None:
        raise RecordError(
            f"volume.window is {text!r:.60}, expected {SPELLINGS}",
            hint="Correct volume.window in task.yaml.",
        )
    return window


def _preset(body_part: str, labels: Sequence[str]) -> str:
    named = {part for part in map(_part, labels) if part}
    if len(named) == 1:
        return named.pop()
    return _part(body_part) or SOFT_TISSUE


def _part(text: str) -> str | None:
    return next((preset for pattern, preset in PARTS if pattern.search(text.lower())), None)


def _sample(voxels_XYZ: NDArray[Any]) -> Floats:
    """Finite values of the whole volume, of a large one from every so many-th voxel."""
    step = max(1, math.ceil((voxels_XYZ.size / SAMPLE_VOXELS) ** (1 / 3)))
    values = voxels_XYZ[::step, ::step, ::step].astype(np.float64).ravel()
    found: Floats = values[np.isfinite(values)]
    return found


def _grey_scale(dtype: np.dtype[Any], window: Window) -> Callable[[NDArray[Any]], Pixels]:
    """What turns values into grey: 0 up to the window's low end, 255 from its high end on."""
    if dtype.name not in LUT_TYPES:
        return lambda values: _grey(values, window)
    bits, native = np.dtype(f"u{dtype.itemsize}"), dtype.newbyteorder("=")
    table = _grey(np.arange(2 ** (8 * dtype.itemsize), dtype=bits).view(native), window)

    def look_up(values: NDArray[Any]) -> Pixels:
        # Every bit pattern has its place in the table, so "wrap" never wraps; it skips a check.
        return table.take(values.astype(native, copy=False).view(bits), mode="wrap")

    return look_up


def _grey(values: NDArray[Any], window: Window) -> Pixels:
    scale = 255.0 / max(window.high - window.low, 1e-30)
    exact = np.dtype(np.float32 if values.dtype == np.float32 else np.float64)
    with np.errstate(over="ignore"):  # the largest floating point numbers are white
        grey = (values.astype(exact) - exact.type(window.low)) * exact.type(scale)
        grey = np.fmin(np.fmax(grey, 0), 255)  # fmax prefers 0 to what is no number: black
    pixels: Pixels = np.rint(grey).astype(np.uint8)
    return pixels
