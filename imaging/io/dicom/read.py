"""The voxels of a DICOM series, in modality units, on the grid that its geometry makes.

Values are what the scanner means by them: rescaled slice by slice (HU for CT), never inverted.
MONOCHROME1 and pixel padding concern how a picture is shown, so they only leave a note.
"""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imaging.errors import VolumeError
from imaging.io.dicom.frames import Frame
from imaging.io.dicom.geometry import Placing, Stack
from imaging.io.dicom.header import quiet, text_of
from imaging.io.dicom.labels import read_label_object
from imaging.io.dicom.pixels import PixelSource
from imaging.io.dicom.series import Series
from imaging.io.volume_checks import LIMITS, VolumeLimits
from imaging.volume import FloatArray, Volume, to_ras

__all__ = ["read_label_object", "read_series"]

THREADS = min(4, os.cpu_count() or 1)
SHORT = np.iinfo(np.int16)


@dataclass(slots=True)
class _Extent:
    """Smallest and largest value, and whether all are whole."""

    low: float
    high: float
    is_whole: bool


def read_series(series: Series, limits: VolumeLimits = LIMITS) -> Volume:
    """The volume of one series: one channel, RAS+, int16 where exact, else float32.

    Raises:
        VolumeError: `broken`, `truncated`: pixels cannot be decoded; `too-many-voxels`.
        OSError: a file cannot be read.
    """
    stack = series.stack
    count = stack.grid.stored_shape[0] * stack.grid.stored_shape[1] * stack.grid.stored_shape[2]
    if count > limits.max_voxels:
        raise VolumeError(
            f"{count} voxels, more than {limits.max_voxels}", reason="too-many-voxels"
        )
    if any("ModalityLUTSequence" in header for header in series.headers):
        raise VolumeError("values that need a table (Modality LUT)", reason="voxel-type")
    with quiet():
        voxels_DHW = _exact(stack) if stack.placing is None else _resampled(stack, stack.placing)
        notes = (*series.notes, *_value_notes(series))
    voxels_XYZ = to_ras(voxels_DHW.transpose(2, 1, 0), stack.grid)
    return Volume(voxels_XYZ[None], stack.grid, series.modality, notes=notes)


def _exact(stack: Stack) -> NDArray[Any]:
    """Images stacked as they are: slices, rows, columns."""
    source = PixelSource(stack.frames)
    first = source.stored(stack.frames[0])
    shape = (len(stack.frames), *first.shape)
    stored_DHW = np.empty(shape, dtype=first.dtype)

    def load(slices: range) -> list[_Extent]:
        return [_load(stored_DHW, k, source.stored(stack.frames[k]), stack) for k in slices]

    extents = [one for part in _in_threads(load, len(stack.frames)) for one in part]
    return _rescaled(stored_DHW, stack.frames, extents)


def _load(stored_DHW: NDArray[Any], k: int, pixels_HW: NDArray[Any], stack: Stack) -> _Extent:
    if pixels_HW.dtype != stored_DHW.dtype:
        raise VolumeError(
            f"images of {pixels_HW.dtype} and {stored_DHW.dtype} in one series", reason="voxel-type"
        )
    stored_DHW[k] = pixels_HW
    return _extent(pixels_HW, stack.frames[k])


def _extent(pixels_HW: NDArray[Any], frame: Frame) -> _Extent:
    ends = [int(end) * frame.slope + frame.intercept for end in (pixels_HW.min(), pixels_HW.max())]
    is_whole = frame.slope.is_integer() and frame.intercept.is_integer()
    return _Extent(min(ends), max(ends), is_whole)


def _rescaled(
    stored_DHW: NDArray[Any], frames: Sequence[Frame], extents: Sequence[_Extent]
) -> NDArray[Any]:
    """Modality values; in place where they are whole and 16 bits wide."""
    is_short = all(e.is_whole and SHORT.min <= e.low and e.high <= SHORT.max for e in extents)
    kind = np.dtype(np.int16 if is_short else np.float32)
    is_in_place = is_short and stored_DHW.dtype.itemsize == kind.itemsize
    made_DHW = stored_DHW.view(kind) if is_in_place else np.empty(stored_DHW.shape, dtype=kind)

    def scale(slices: range) -> None:
        for k in slices:
            frame = frames[k]
            if (frame.slope, frame.intercept) == (1.0, 0.0):
                if not is_in_place:
                    made_DHW[k] = stored_DHW[k]
            elif is_short:
                wide_HW = stored_DHW[k].astype(np.int32)
                made_DHW[k] = wide_HW * int(frame.slope) + int(frame.intercept)
            else:
                made_DHW[k] = stored_DHW[k].astype(np.float64) * frame.slope + frame.intercept

    list(_in_threads(scale, len(frames)))
    return made_DHW


def _resampled(stack: Stack, placing: Placing) -> NDArray[Any]:
    """Images brought onto an even, upright grid: linearly in their planes, then between them."""
    columns, rows, _ = stack.grid.stored_shape
    made_DHW = np.empty((len(stack.frames), rows, columns), dtype=np.float32)
    lowest = np.empty(len(stack.frames))
    source = PixelSource(stack.frames)
    is_whole = all(f.slope.is_integer() and f.intercept.is_integer() for f in stack.frames)

    def place(part: range) -> None:
        for k in part:
            frame = stack.frames[k]
            values_HW = source.stored(frame).astype(np.float64) * frame.slope + frame.intercept
            lowest[k] = values_HW.min()
            across = _along(values_HW, placing.rows[k], rows)
            made_DHW[k] = _along(across.T, placing.columns[k], columns).T

    list(_in_threads(place, len(stack.frames)))
    made_DHW[np.isnan(made_DHW)] = lowest.min()  # where a tilted slice shows nothing
    even_DHW = _between(made_DHW, placing.slices)
    if is_whole and SHORT.min <= even_DHW.min() and even_DHW.max() <= SHORT.max:
        return np.rint(even_DHW).astype(np.int16)
    return even_DHW


def _along(values: FloatArray, placing: FloatArray, count: int) -> FloatArray:
    """Linear interpolation along the first axis; NaN outside."""
    start, zoom = placing
    size = values.shape[0]
    at = start + zoom * np.arange(count)
    nearest = np.rint(at)
    at = np.where(np.abs(at - nearest) < 1e-6, nearest, at)
    low = np.clip(np.floor(at).astype(int), 0, size - 1)
    high = np.minimum(low + 1, size - 1)
    share = np.clip(at - low, 0.0, 1.0)[:, None]
    made: FloatArray = values[low] * (1.0 - share) + values[high] * share
    # Half a pixel beyond the last centre still belongs to it.
    made[(at < -0.5) | (at > size - 0.5)] = np.nan
    return made


def _between(values_DHW: NDArray[np.float32], at: FloatArray) -> NDArray[np.float32]:
    """Linear interpolation between slices; the same array where every slice stays."""
    count = values_DHW.shape[0]
    if len(at) == count and np.allclose(at, np.arange(count), atol=1e-9):
        return values_DHW
    low = np.clip(np.floor(at + 1e-9).astype(int), 0, count - 1)
    high = np.minimum(low + 1, count - 1)
    made = np.empty((len(at), *values_DHW.shape[1:]), dtype=np.float32)
    for k in range(len(at)):
        share = np.float32(np.clip(at[k] - low[k], 0.0, 1.0))
        made[k] = values_DHW[low[k]] * (1 - share) + values_DHW[high[k]] * share
    return made


def _value_notes(series: Series) -> tuple[str, ...]:
    header = series.headers[0]
    notes: list[str] = []
    if text_of(header, "PhotometricInterpretation") == "MONOCHROME1":
        notes.append("the scanner shows low values bright (MONOCHROME1); values are kept")
    if text_of(header, "PixelPaddingValue"):
        notes.append("pixels without data carry the scanner's padding value; values are kept")
    if text_of(header, "LossyImageCompression") == "01":
        notes.append("the pixels went through lossy compression")
    return tuple(notes)


def _in_threads(work: Any, count: int) -> Any:
    """Call `work` with ranges that cover `count` slices; two files at a time hide waiting."""
    if THREADS == 1 or count < 2 * THREADS:
        return [work(range(count))]
    size = -(-count // (4 * THREADS))
    ranges = [range(k, min(k + size, count)) for k in range(0, count, size)]
    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(partial(work), ranges))
