"""Single images of DICOM files, classic or enhanced multi-frame: where each lies and what it is.

Geometry is in DICOM's own world here: millimetres, LPS+.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue

from imaging.errors import VolumeError
from imaging.io.dicom.header import DAMAGE_IN_MEMORY, DicomFile, explained, text_of
from imaging.io.volume_checks import VolumeLimits
from imaging.volume import FloatArray

# Elements that tell images at one place apart, the likeliest first, and what people call them.
TIMES = (
    ("TemporalPositionIdentifier", "time"),
    ("TemporalPositionIndex", "time"),
    ("EchoNumbers", "echo"),
    ("EchoTime", "echo time"),
    ("EffectiveEchoTime", "echo time"),
    ("DiffusionBValue", "b value"),
    ("ImageType", "image type"),
    ("FrameType", "image type"),
    ("AcquisitionNumber", "acquisition"),
    ("TriggerTime", "trigger time"),
    ("AcquisitionTime", "acquisition time"),
)
MAX_FRAMES = 1 << 16
MAX_SIDE = 1 << 14


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One image with its place in the patient."""

    file: DicomFile
    number: int  # within its file, from 0
    shape_HW: tuple[int, int]
    position: FloatArray  # mm, LPS+, of the centre of the first pixel
    directions: FloatArray  # 2 × 3 unit vectors: along a row (W), down a column (H)
    spacing_HW_mm: tuple[float, float]
    slope: float
    intercept: float
    times: tuple[str, ...]  # values of TIMES, empty where absent
    is_localizer: bool

    @property
    def normal(self) -> FloatArray:
        """Unit vector along which slices are ordered: row direction × column direction."""
        return unit(np.cross(self.directions[0], self.directions[1]))


def unit(vector: FloatArray) -> FloatArray:
    """The vector at length 1."""
    made: FloatArray = vector / np.linalg.norm(vector)
    return made


def check_picture(file: DicomFile) -> None:
    """Make sure that a file holds grey pixels of a kind that volumes are made of.

    Raises:
        VolumeError: `not-an-image`, `colour`, `voxel-type` or `broken`.
    """
    header = file.header
    modality = text_of(header, "Modality")
    if not file.has_pixels or "Rows" not in header or modality == "RTDOSE":
        raise VolumeError(
            f"a DICOM object without an image ({modality or 'no modality'})",
            reason="not-an-image",
            hint="Only images, segmentations (SEG) and structure sets (RTSTRUCT) are read.",
        )
    photometric = text_of(header, "PhotometricInterpretation")
    if photometric not in ("MONOCHROME1", "MONOCHROME2"):
        raise VolumeError(
            f"a colour picture ({photometric[:20] or 'photometric interpretation absent'}), "
            "expected grey values",
            reason="colour",
            hint="Export it as PNG into a task of pictures.",
        )
    with explained():
        bits = int(header.get("BitsAllocated") or 0), int(header.get("BitsStored") or 0)
        samples = int(header.get("SamplesPerPixel") or 1)
        high = int(header.get("HighBit", bits[1] - 1))
    if bits[0] not in (8, 16, 32) or not 0 < bits[1] <= high + 1 <= bits[0] or samples != 1:
        raise VolumeError(
            f"pixels of {bits[1]} bits in {bits[0]}, {samples} samples", reason="voxel-type"
        )


def frames_of(file: DicomFile, limits: VolumeLimits) -> list[Frame]:
    """Every image in a file that passed `check_picture`.

    Raises:
        VolumeError: `no-position` or `no-spacing`: the header does not say where they lie;
            `spacing`, `truncated`, `too-many-voxels`, `broken`.
    """
    header = file.header
    with explained():
        shape_HW = int(header.Rows), int(header.Columns)
        count = int(header.get("NumberOfFrames") or 1)
        _check_size(file, shape_HW, count, limits)
        shared = _first(header, "SharedFunctionalGroupsSequence")
        groups = list(header.get("PerFrameFunctionalGroupsSequence") or [])
        if count > 1 and len(groups) != count:
            raise VolumeError(
                f"{count} images in one file that does not say where each lies",
                reason="no-position",
            )
        sources = [(group, shared, header) for group in groups] or [(header, shared, header)]
        return [_frame(file, k, shape_HW, source, limits) for k, source in enumerate(sources)]


Source = tuple[Dataset, Dataset | None, Dataset]  # of one frame, of all, of the file


def place_of(source: Source) -> tuple[FloatArray, FloatArray, tuple[float, float]]:
    """Position (mm, LPS+), directions (2 × 3) and spacing (H, W) of an image.

    Raises:
        VolumeError: `no-position`, `no-spacing`, `affine` or `broken`.
    """
    position = _numbers(source, "PlanePositionSequence", "ImagePositionPatient", 3)
    directions = _numbers(source, "PlaneOrientationSequence", "ImageOrientationPatient", 6)
    if position is None or directions is None:
        raise VolumeError("an image without position or orientation", reason="no-position")
    spacing = _numbers(source, "PixelMeasuresSequence", "PixelSpacing", 2)
    if spacing is None:
        raise VolumeError("an image without PixelSpacing", reason="no-spacing")
    return np.array(position), _directions(directions), (spacing[0], spacing[1])


def _frame(
    file: DicomFile, number: int, shape_HW: tuple[int, int], source: Source, limits: VolumeLimits
) -> Frame:
    position, directions, spacing = place_of(source)
    low, high = limits.min_spacing_mm, limits.max_spacing_mm
    if not (low <= spacing[0] <= high and low <= spacing[1] <= high):
        raise VolumeError(
            f"pixels of {spacing[0]:g} × {spacing[1]:g} mm, expected {low:g} to {high:g}",
            reason="spacing",
        )
    scale = [
        _number(source, "PixelValueTransformationSequence", keyword, default)
        for keyword, default in (("RescaleSlope", 1.0), ("RescaleIntercept", 0.0))
    ]
    return Frame(
        file=file,
        number=number,
        shape_HW=shape_HW,
        position=position,
        directions=directions,
        spacing_HW_mm=spacing,
        slope=scale[0],
        intercept=scale[1],
        times=tuple(_time(source, keyword) for keyword, _ in TIMES),
        is_localizer="LOCALIZER" in text_of(file.header, "ImageType").upper(),
    )


def _check_size(
    file: DicomFile, shape_HW: tuple[int, int], count: int, limits: VolumeLimits
) -> None:
    rows, columns = shape_HW
    if not (0 < rows <= MAX_SIDE and 0 < columns <= MAX_SIDE and 0 < count <= MAX_FRAMES):
        raise VolumeError(f"{count} images of {rows} × {columns}", reason="too-many-voxels")
    if rows * columns * count > limits.max_voxels:
        raise VolumeError(
            f"a header that claims {rows} × {columns} × {count} voxels, more than "
            f"{limits.max_voxels} in all",
            reason="too-many-voxels",
        )
    claimed = rows * columns * count * (int(file.header.BitsAllocated) // 8)
    if file.pixels_at is not None and file.pixel_bytes < claimed:
        raise VolumeError(
            f"{file.pixel_bytes} bytes of pixels, expected {claimed}", reason="truncated"
        )


def _directions(numbers: list[float]) -> FloatArray:
    """Two unit vectors at right angles; what rounding did to them is undone."""
    along, down = np.array(numbers[:3]), np.array(numbers[3:])
    if min(np.linalg.norm(along), np.linalg.norm(down)) < 0.5:
        raise VolumeError("an orientation of length 0", reason="affine")
    along, down = unit(along), unit(down)
    if abs(along @ down) > 1e-2:
        raise VolumeError("rows and columns that are not at right angles", reason="affine")
    return np.array([along, unit(down - (along @ down) * along)])


def _places(source: Source, group: str) -> Iterator[Dataset]:
    """Where an element may stand: in the frame's functional group, the shared one, the file."""
    frame, shared, header = source
    for functional in (frame, shared):
        found = _first(functional, group) if functional is not None else None
        if found is not None:
            yield found
    yield header


def _numbers(source: Source, group: str, keyword: str, count: int) -> list[float] | None:
    for place in _places(source, group):
        value = place.get(keyword)
        if value is None or value == "":
            continue
        numbers = [float(part) for part in value] if isinstance(value, MultiValue | list) else []
        if len(numbers) != count or not all(math.isfinite(number) for number in numbers):
            raise VolumeError(f"a {keyword} that is not {count} numbers", reason="broken")
        return numbers
    return None


def _number(source: Source, group: str, keyword: str, default: float) -> float:
    for place in _places(source, group):
        value = place.get(keyword)
        if value is None or value == "":
            continue
        number = float(value)
        if not math.isfinite(number) or (keyword == "RescaleSlope" and number == 0.0):
            raise VolumeError(f"a {keyword} of {number:g}", reason="broken")
        return number
    return default


def _time(source: Source, keyword: str) -> str:
    frame, _, header = source
    for place in (_first(frame, "FrameContentSequence"), _first(frame, "MREchoSequence"),
                  _first(frame, "MRDiffusionSequence"), _first(frame, "MRImageFrameTypeSequence"),
                  header):  # fmt: skip
        found = text_of(place, keyword) if place is not None else ""
        if found:
            return found
    return ""


def _first(dataset: Dataset, keyword: str) -> Any:
    """The first item of a sequence, or None."""
    try:
        items = dataset.get(keyword)
        return items[0] if items else None
    except DAMAGE_IN_MEMORY:
        return None
