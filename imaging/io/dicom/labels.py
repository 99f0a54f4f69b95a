"""DICOM-SEG and RTSTRUCT as label sources: their voxels on the grid of the series.

Where a segment's pixels lie decides, never the order of its frames: each is carried to the image's
grid by position, whatever way the object was cut. Segments are matched to labels by name; those
that no label is called after are left out, as the couch and the body outline of a plan are.
"""

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.pixels.utils import iter_pixels

from imaging.errors import VolumeError
from imaging.io.dicom.frames import Source, place_of
from imaging.io.dicom.geometry import TO_RAS
from imaging.io.dicom.header import (
    DAMAGE_IN_MEMORY,
    explained,
    quiet,
    read_header,
    text_of,
    whole_dataset,
)
from imaging.io.dicom.outline import inside
from imaging.io.dicom.pixels import plugin_of
from imaging.io.dicom.series import LabelObject, Series
from imaging.io.volume_checks import LIMITS, VolumeLimits
from imaging.labels import Label, LabelScheme
from imaging.volume import FloatArray, Grid, to_ras

LabelArray = NDArray[np.uint8]
OFF_GRID = 0.1  # voxels that a segment's centres may lie beside the image's
OFF_SHIFTED_GRID = 0.51  # … in the planes of images that were shifted upright
OFF_SLICE = 0.25  # slices that a contour's plane may lie beside an image's
MAX_SEGMENT_FRAMES = 100_000
SHOWN = 8
CLOSED = ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR", "CLOSED_PLANAR_XOR")


def read_label_object(
    found: LabelObject,
    series: Series,
    grid: Grid,
    scheme: LabelScheme,
    limits: VolumeLimits = LIMITS,
) -> LabelArray:
    """The label map that a DICOM-SEG or RTSTRUCT makes on a series' grid.

    Args:
        found: the object, as `sort_dicom` gave it.
        series: the images that it was drawn on.
        grid: the one of `read_series(series)`.
        scheme: the task's labels; names compare without case. Where two overlap, the higher
            index wins.
        limits: how much the object may claim.

    Returns:
        uint8 XYZ, one index per voxel.

    Raises:
        VolumeError: `label-values`: no segment is called like a label; `other-grid`: it lies
            elsewhere than the series; `several-patients`: it is of another patient; `broken`, ….
        OSError: it cannot be read.
    """
    if found.patient and series.patient and found.patient != series.patient:
        raise VolumeError("labels of another patient than the images'", reason="several-patients")
    labels_IJK = np.zeros(grid.stored_shape, dtype=np.uint8)
    tolerance = OFF_GRID if series.stack.placing is None else OFF_SHIFTED_GRID
    with quiet(), explained("a damaged label object"):
        file = read_header(found.path, limits)  # again: what is decoded is what was checked
        if found.kind == "seg":
            dataset = whole_dataset(found.path, file.header)
            _draw_segments(dataset, labels_IJK, grid, scheme, tolerance)
        else:
            _draw_contours(file.header, labels_IJK, grid, scheme)
    return np.ascontiguousarray(to_ras(labels_IJK, grid))


def segment_names(found: LabelObject) -> tuple[str, ...]:
    """What the structures of a label object are called."""
    with quiet(), explained("a damaged label object"):
        if found.kind == "seg":
            return tuple(text_of(one, "SegmentLabel") for one in found.header.SegmentSequence)
        return tuple(text_of(one, "ROIName") for one in found.header.StructureSetROISequence)


def _draw_segments(
    dataset: Dataset, labels_IJK: LabelArray, grid: Grid, scheme: LabelScheme, tolerance: float
) -> None:
    labels = _matched(
        {int(one.SegmentNumber): (text_of(one, "SegmentLabel"), *_meanings(one))
         for one in dataset.SegmentSequence}, scheme)  # fmt: skip
    count = int(dataset.get("NumberOfFrames") or 1)
    groups = list(dataset.PerFrameFunctionalGroupsSequence)
    shape_HW = int(dataset.Rows), int(dataset.Columns)
    if len(groups) != count or count > MAX_SEGMENT_FRAMES:
        raise VolumeError(f"{count} frames described by {len(groups)} groups", reason="broken")
    shared = dataset.SharedFunctionalGroupsSequence[0]
    half = _threshold(dataset)
    to_index = np.linalg.inv(np.array(grid.stored_affine))
    for number, (group, pixels_HW) in enumerate(zip(groups, _pixels(dataset, count), strict=True)):
        if pixels_HW.shape != shape_HW:
            raise VolumeError(f"frame {number} of {pixels_HW.shape} pixels", reason="broken")
        source: Source = (group, shared, dataset)
        for label, mask_HW in _masks(pixels_HW, half, source, labels):
            rows, columns = np.nonzero(mask_HW)
            if not len(rows):
                continue
            affine = TO_RAS @ _frame_affine(source)
            ones, zeros = np.ones(len(rows)), np.zeros(len(rows))
            at = (to_index @ affine @ np.array([columns, rows, zeros, ones]))[:3]
            _mark(labels_IJK, at, label, tolerance)


def _pixels(dataset: Dataset, count: int) -> Iterator[NDArray[Any]]:
    """The frames' pixels, one frame at a time.

    pydicom cannot iterate over bits where a frame does not fill whole bytes.
    """
    if int(dataset.BitsAllocated) != 1 or dataset.file_meta.TransferSyntaxUID.is_compressed:
        plugin = plugin_of(dataset.file_meta.TransferSyntaxUID)
        yield from iter_pixels(dataset, decoding_plugin=plugin)
        return
    packed = np.frombuffer(dataset.PixelData, dtype=np.uint8)
    is_little = dataset.original_encoding[1]
    if not is_little and dataset["PixelData"].VR == "OW":
        packed = packed.view(">u2").astype("<u2").view(np.uint8)
    rows, columns = int(dataset.Rows), int(dataset.Columns)
    size = rows * columns
    if packed.size * 8 < size * count:
        raise VolumeError(f"{packed.size} bytes of segments", reason="truncated")
    for number in range(count):
        begin, end = number * size, (number + 1) * size
        bits = np.unpackbits(packed[begin // 8 : -(-end // 8)], bitorder="little")
        yield bits[begin % 8 :][:size].reshape(rows, columns)


def _masks(
    pixels_HW: NDArray[Any], half: float | None, source: Source, labels: dict[int, Label]
) -> Iterator[tuple[Label, NDArray[np.bool_]]]:
    """The masks in one frame: one segment's, or where values are segment numbers, several."""
    if half is None:
        for number in np.unique(pixels_HW).tolist():
            if number in labels:
                yield labels[number], pixels_HW == number
        return
    items = source[0].get("SegmentIdentificationSequence") or (
        source[1].get("SegmentIdentificationSequence") if source[1] is not None else None
    )
    if not items:
        raise VolumeError("a frame that does not say which segment it shows", reason="broken")
    number = int(items[0].ReferencedSegmentNumber)
    if number in labels:
        yield labels[number], pixels_HW >= half


def _threshold(dataset: Dataset) -> float | None:
    """From which value on a pixel belongs to a segment; None: values are segment numbers."""
    kind = text_of(dataset, "SegmentationType")
    if kind == "LABELMAP":
        return None
    if kind == "FRACTIONAL":
        return float(dataset.MaximumFractionalValue) / 2
    return 1.0


def _frame_affine(source: Source) -> FloatArray:
    """(column, row, 0) → mm, LPS+."""
    position, directions, spacing_HW_mm = place_of(source)
    affine = np.eye(4)
    affine[:3, 0] = directions[0] * spacing_HW_mm[1]
    affine[:3, 1] = directions[1] * spacing_HW_mm[0]
    affine[:3, 2] = np.cross(directions[0], directions[1])
    affine[:3, 3] = position
    return affine


def _mark(labels_IJK: LabelArray, at: FloatArray, label: Label, tolerance: float) -> None:
    """Set voxels; `at` is 3×N in the grid's stored indices."""
    nearest = np.rint(at)
    off = np.abs(at - nearest).max(axis=1)
    sides = np.array(labels_IJK.shape)[:, None]
    if off[2] > OFF_SLICE or off[:2].max() > tolerance or (nearest < 0).any() or (
        nearest >= sides
    ).any():  # fmt: skip
        raise VolumeError(
            f"segment {label.name!r} lies beside the voxels of the images, by up to "
            f"{off.max():.2f} voxels or outside of them",
            reason="other-grid",
        )
    places = tuple(nearest.astype(np.int64))
    labels_IJK[places] = np.maximum(labels_IJK[places], np.uint8(label.index))


def _draw_contours(
    dataset: Dataset, labels_IJK: LabelArray, grid: Grid, scheme: LabelScheme
) -> None:
    labels = _matched(
        {int(one.ROINumber): (text_of(one, "ROIName"),)
         for one in dataset.StructureSetROISequence}, scheme)  # fmt: skip
    to_index = np.linalg.inv(np.array(grid.stored_affine)) @ TO_RAS
    shape_HW = labels_IJK.shape[1], labels_IJK.shape[0]
    for roi in dataset.get("ROIContourSequence") or []:
        label = labels.get(int(roi.ReferencedROINumber))
        if label is None:
            continue
        by_slice: dict[int, list[FloatArray]] = {}
        for contour in roi.get("ContourSequence") or []:
            if text_of(contour, "ContourGeometricType") in CLOSED:
                k, points = _on_slice(contour, to_index, labels_IJK.shape[2], label)
                by_slice.setdefault(k, []).append(points)
        for k, outlines in by_slice.items():
            mask_HW = inside(outlines, shape_HW)
            slice_IJ = labels_IJK[:, :, k]
            slice_IJ[mask_HW.T] = np.maximum(slice_IJ[mask_HW.T], np.uint8(label.index))


def _on_slice(
    contour: Dataset, to_index: FloatArray, slices: int, label: Label
) -> tuple[int, FloatArray]:
    """The slice that a contour lies on, and its points as (row, column)."""
    numbers = np.array([float(part) for part in contour.ContourData])
    if len(numbers) % 3 or not len(numbers) or not np.isfinite(numbers).all():
        raise VolumeError(f"a contour of {len(numbers)} numbers", reason="broken")
    points = np.vstack([numbers.reshape(-1, 3).T, np.ones(len(numbers) // 3)])
    column, row, depth = (to_index @ points)[:3]
    k = round(float(depth.mean()))
    if np.abs(depth - k).max() > OFF_SLICE or not 0 <= k < slices:
        raise VolumeError(
            f"a contour of {label.name!r} lies at slice {depth.min():.2f} to {depth.max():.2f} of "
            f"{slices}; expected one plane of the images",
            reason="other-grid",
        )
    return k, np.column_stack([row, column])


def _meanings(segment: Dataset) -> Iterator[str]:
    """Other names that a segment goes by."""
    with suppress(*DAMAGE_IN_MEMORY):
        yield text_of(segment.SegmentedPropertyTypeCodeSequence[0], "CodeMeaning")
    yield text_of(segment, "TrackingID")


def _matched(names: dict[int, tuple[str, ...]], scheme: LabelScheme) -> dict[int, Label]:
    """Number → label of the structures that are called like one.

    Raises:
        VolumeError: reason `label-values`: none is.
    """
    by_name = {label.name.casefold(): label for label in scheme.labels}
    matched = {}
    for number, called in names.items():
        found = [by_name[name.casefold()] for name in called if name.casefold() in by_name]
        if found:
            matched[number] = found[0]
    if not matched:
        shown = ", ".join(repr(called[0])[:40] for called in list(names.values())[:SHOWN])
        raise VolumeError(
            f"structures called {shown or 'nothing'}; expected one of {', '.join(scheme.names)}",
            reason="label-values",
            hint="Name the structures as task.yaml names its labels; case does not matter.",
        )
    return matched
