"""How single images make one volume: pure geometry, no pixels, no file names.

Slices are ordered by their position along the normal of their plane. What does not fit together is
split apart; what fits almost is brought onto an even, upright grid, with a note that says so; what
would have to be guessed is refused.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from imaging.errors import VolumeError
from imaging.io.dicom.frames import TIMES, Frame, unit
from imaging.io.volume_checks import VolumeLimits, check_grid, check_shape
from imaging.volume import FloatArray, Grid

SAME_PLACE_MM = 1e-3
SAME_DIRECTION = 1e-4  # 1 - cosine: 0.8°
SAME_SPACING = 1e-3  # share
MAX_UNEVEN = 0.05  # of the step: slices this far from an even grid count as on it
MAX_MULTIPLE_ERROR = 0.1  # of the step: how well a gap has to be a multiple of it
MAX_STEP_RATIO = 2.0  # of the largest step to the smallest; beyond it too much would be invented
MAX_DRIFT = 0.1  # of a pixel: slices that slide sideways less than this stand upright
MAX_TILT_DEG = 45.0
MAX_PLANES = 64  # of one series: beyond it, a film that turns around the patient
MAX_PARTS = 8  # time points of one series that become cases of their own
MAX_GROWTH = 2.0  # of rows and columns, when tilted slices are brought upright
SHOWN = 5
TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


@dataclass(frozen=True, slots=True, eq=False)
class Placing:
    """Where the voxels of an even, upright grid lie in the acquired images.

    Voxel (row h, column w) of the grid is at row `rows[k, 0] + h * rows[k, 1]` of image k, and
    likewise for columns; slice z of the grid is at `slices[z]` images from the first.
    """

    rows: FloatArray
    columns: FloatArray
    slices: FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class Stack:
    """Images in the order of their slices, and the grid that they make."""

    frames: tuple[Frame, ...]
    grid: Grid  # stored order: columns, rows, slices
    placing: Placing | None  # None: every image is a slice of the grid, voxel by voxel
    notes: tuple[str, ...]


@dataclass(slots=True)
class _Plane:
    """The in-plane grid of the result while it is worked out."""

    shape_HW: tuple[int, int]
    spacing_HW_mm: tuple[float, float]
    origin_mm: FloatArray


def by_plane(frames: Sequence[Frame]) -> list[list[Frame]]:
    """Images parted by orientation, field of view and kind, largest part first.

    Images of another matrix stay together where they show the same field of view.

    Raises:
        VolumeError: reason `mixed-orientation`: hardly two lie in one plane.
    """
    parts: list[list[Frame]] = []
    for frame in frames:
        for part in parts:
            if _fits(frame, part[0]):
                part.append(frame)
                break
        else:
            parts.append([frame])
        if len(parts) > MAX_PLANES:
            raise VolumeError(
                f"images in more than {MAX_PLANES} planes or matrices in one series: no volume",
                reason="mixed-orientation",
            )
    return sorted(parts, key=len, reverse=True)


def by_time(frames: Sequence[Frame]) -> list[tuple[str, list[Frame]]] | None:
    """Images parted by time, echo or the like, so that each part shows every place once.

    Returns:
        What each part is called, and its images; None where no element parts them like that.
    """
    places = len(by_place(frames))
    for number, (_, word) in enumerate(TIMES):
        parts: dict[str, list[Frame]] = {}
        for frame in frames:
            parts.setdefault(frame.times[number], []).append(frame)
        sizes = {len(part) for part in parts.values()}
        if len(parts) < 2 or sizes != {places} or "" in parts:
            continue
        if all(len(by_place(part)) == places for part in parts.values()):
            return [(f"{word} {k + 1} of {len(parts)}", parts[key])
                    for k, key in enumerate(sorted(parts, key=_natural))]  # fmt: skip
    return None


def by_place(frames: Sequence[Frame]) -> list[list[Frame]]:
    """Images in slice order; those at one place together, in the order of their files."""
    normal = frames[0].normal
    order = sorted(frames, key=lambda f: (float(f.position @ normal), str(f.file.path), f.number))
    places: list[list[Frame]] = []
    for frame in order:
        if places and abs((frame.position - places[-1][0].position) @ normal) < SAME_PLACE_MM:
            places[-1].append(frame)
        else:
            places.append([frame])
    return places


def stack_of(frames: Sequence[Frame], limits: VolumeLimits) -> Stack:
    """The volume that images make, one at each place.

    Args:
        frames: in slice order, of one orientation and field of view, see `by_plane`, `by_place`.
        limits: how few slices make a volume, what voxels may measure.

    Raises:
        VolumeError: `too-few-slices`, `missing-slices`, `uneven-spacing`, `not-a-stack`,
            `spacing`, `too-many-voxels`.
    """
    if len(frames) < limits.min_slices:
        raise VolumeError(
            f"{len(frames)} slices, expected at least {limits.min_slices}",
            reason="too-few-slices",
            hint="Single images go as PNG into a task of pictures.",
        )
    normal = frames[0].normal
    along_mm = np.array([float(frame.position @ normal) for frame in frames])
    step_mm, is_even = _step(along_mm)
    usual = _usual(frames)
    notes: list[str] = []
    tilt_deg, is_upright = _tilt(frames, normal, usual)
    is_one_matrix = all(
        frame.shape_HW == usual.shape_HW and _same_spacing(frame, usual) for frame in frames
    )
    count = len(frames) if is_even else round(float(np.ptp(along_mm)) / step_mm) + 1
    if is_even:
        step_mm = float(np.ptp(along_mm)) / (count - 1)
    else:
        steps = np.diff(along_mm)
        step_mm = float(np.ptp(along_mm)) / (count - 1)
        notes.append(
            f"slices lay {steps.min():.3f} to {steps.max():.3f} mm apart; resampled linearly from "
            f"{len(frames)} to {count} slices, {step_mm:.3f} mm apart"
        )
    plane = _canvas(frames, usual)
    if not is_upright:
        notes.append(_tilt_note(tilt_deg))
    if not is_one_matrix:
        odd = sum(frame.shape_HW != usual.shape_HW for frame in frames)
        notes.append(
            f"{odd} of {len(frames)} images had another matrix over the same field of view; "
            f"resampled linearly to {plane.shape_HW[0]} × {plane.shape_HW[1]}"
        )
    is_exact = is_even and is_upright and is_one_matrix
    if is_exact:
        plane.shape_HW, plane.origin_mm = usual.shape_HW, frames[0].position
    grid = _grid(frames[0], plane, step_mm, count, limits)
    placing = None if is_exact else _placing(frames, plane, along_mm, step_mm, count)
    return Stack(tuple(frames), grid, placing, tuple(notes))


def _step(along_mm: FloatArray) -> tuple[float, bool]:
    """The usual distance between slices, and whether all lie evenly.

    Raises:
        VolumeError: `missing-slices` or `uneven-spacing`.
    """
    steps = np.diff(along_mm)
    usual = float(np.sort(steps)[(len(steps) - 1) // 2])
    gaps = [k for k, step in enumerate(steps) if _multiple(step, usual) >= 2]
    if gaps:
        missing = sum(_multiple(steps[k], usual) - 1 for k in gaps)
        where = ", ".join(f"{along_mm[k]:.2f} and {along_mm[k + 1]:.2f}" for k in gaps[:SHOWN])
        more = f" and at {len(gaps) - SHOWN} more places" if len(gaps) > SHOWN else ""
        raise VolumeError(
            f"{missing} slices are missing: slices lie {usual:.3f} mm apart, but none between "
            f"{where} mm along the normal{more}",
            reason="missing-slices",
        )
    even = np.linspace(along_mm[0], along_mm[-1], len(along_mm))
    mean = float(steps.mean())
    if float(np.abs(along_mm - even).max()) <= MAX_UNEVEN * mean:
        return mean, True
    if float(steps.max()) > MAX_STEP_RATIO * float(steps.min()):
        shown = ", ".join(f"{step:.2f}" for step in steps[:12])
        raise VolumeError(
            f"slices lie {steps.min():.2f} to {steps.max():.2f} mm apart ({shown}"
            f"{', …' if len(steps) > 12 else ''}); most of an even grid would be invented",
            reason="uneven-spacing",
            hint="Export a reconstruction with even slices.",
        )
    return usual, False


def _multiple(step: float, usual: float) -> int:
    """How many usual steps this one is, where it is a whole number of them; else 1."""
    nearest = round(step / usual)
    fits = abs(step / usual - nearest) <= MAX_MULTIPLE_ERROR * max(1.0, math.sqrt(nearest))
    return nearest if fits else 1


def _tilt(frames: Sequence[Frame], normal: FloatArray, usual: Frame) -> tuple[float, bool]:
    """The angle between the normal and the way slices are stacked, and whether it is none.

    Raises:
        VolumeError: reason `not-a-stack`: slices slide sideways in no regular way, or too far.
    """
    moved = np.array([frame.position - frames[0].position for frame in frames])
    along = moved @ normal
    # The centres of the images, not their corners: images of another matrix share those.
    centres = np.array([_centre(frame) - _centre(frames[0]) for frame in frames])
    sideways = centres - np.outer(centres @ normal, normal)
    drift = sideways[-1] / along[-1]
    pixel_mm = min(usual.spacing_HW_mm)
    if float(np.linalg.norm(sideways, axis=1).max()) <= MAX_DRIFT * pixel_mm:
        return 0.0, True
    if all(frame.shape_HW == usual.shape_HW for frame in frames):
        irregular = np.linalg.norm(sideways - np.outer(along, drift), axis=1).max()
    else:
        irregular = max(0.0, np.linalg.norm(sideways, axis=1).max() - pixel_mm)
    angle = math.degrees(math.atan(float(np.linalg.norm(drift))))
    if irregular > pixel_mm or angle > MAX_TILT_DEG:
        raise VolumeError(
            f"images that slide sideways against each other, by {angle:.1f}° and up to "
            f"{irregular:.2f} mm out of line: no stack of slices",
            reason="not-a-stack",
        )
    return angle, float(np.linalg.norm(sideways[-1])) <= MAX_DRIFT * pixel_mm


def _tilt_note(angle_deg: float) -> str:
    return (
        f"gantry tilt of {angle_deg:.1f}°: every slice was shifted within its own plane, linearly, "
        "onto an upright grid; slices keep their planes and places in the patient"
    )


def _centre(frame: Frame) -> FloatArray:
    height, width = ((n - 1) / 2 * mm for n, mm in zip(frame.shape_HW, frame.spacing_HW_mm,
                                                       strict=True))  # fmt: skip
    made: FloatArray = frame.position + width * frame.directions[0] + height * frame.directions[1]
    return made


def _usual(frames: Sequence[Frame]) -> Frame:
    """An image with the matrix that most have."""
    shapes = [frame.shape_HW for frame in frames]
    most = max(set(shapes), key=lambda shape: (shapes.count(shape), shape))
    return next(frame for frame in frames if frame.shape_HW == most)


def _canvas(frames: Sequence[Frame], usual: Frame) -> _Plane:
    """A plane in the first image's place that shows all of every image, on its pixel grid."""
    first = next(frame for frame in frames if frame.shape_HW == usual.shape_HW)
    starts, ends = [], []
    for frame in frames:
        offset = _in_plane(frame.position - first.position, frame) / usual.spacing_HW_mm
        if frame.shape_HW != usual.shape_HW:  # the same field of view: no reason to grow
            continue
        starts.append(offset)
        ends.append(offset + frame.shape_HW)
    low = np.floor(np.min(starts, axis=0) + MAX_DRIFT)
    high = np.ceil(np.max(ends, axis=0) - MAX_DRIFT)
    sides = (high - low).astype(int)
    if (sides > MAX_GROWTH * np.array(usual.shape_HW) + 1).any():
        raise VolumeError(
            f"tilted images that would need {sides[0]} × {sides[1]} pixels", reason="not-a-stack"
        )
    along, down = first.directions
    shift = low * usual.spacing_HW_mm
    normal = frames[0].normal
    depth = (frames[0].position - first.position) @ normal
    origin = first.position + depth * normal + shift[1] * along + shift[0] * down
    return _Plane((int(sides[0]), int(sides[1])), usual.spacing_HW_mm, origin)


def _in_plane(vector: FloatArray, frame: Frame) -> FloatArray:
    """A vector's parts down a column and along a row, mm: H, W."""
    return np.array([vector @ frame.directions[1], vector @ frame.directions[0]])


def _grid(
    first: Frame, plane: _Plane, step_mm: float, count: int, limits: VolumeLimits
) -> Grid:  # fmt: skip
    affine = np.eye(4)
    along, down = first.directions
    affine[:3, 0] = along * plane.spacing_HW_mm[1]
    affine[:3, 1] = down * plane.spacing_HW_mm[0]
    affine[:3, 2] = unit(np.cross(along, down)) * step_mm
    affine[:3, 3] = plane.origin_mm
    shape = check_shape((plane.shape_HW[1], plane.shape_HW[0], count), limits)
    return check_grid(shape, TO_RAS @ affine, limits)


def _placing(
    frames: Sequence[Frame], plane: _Plane, along_mm: FloatArray, step_mm: float, count: int
) -> Placing:
    rows, columns = [], []
    for frame in frames:
        start = _in_plane(plane.origin_mm - frame.position, frame) / frame.spacing_HW_mm
        zoom = np.divide(plane.spacing_HW_mm, frame.spacing_HW_mm)
        rows.append((start[0], zoom[0]))
        columns.append((start[1], zoom[1]))
    targets = along_mm[0] + step_mm * np.arange(count)
    slices = np.interp(targets, along_mm, np.arange(len(frames)))
    return Placing(np.array(rows), np.array(columns), slices)


def _fits(frame: Frame, other: Frame) -> bool:
    if frame.is_localizer != other.is_localizer:
        return False
    cosines = (frame.directions * other.directions).sum(axis=1)
    if (1.0 - cosines > SAME_DIRECTION).any():
        return False
    if frame.shape_HW == other.shape_HW:
        return _same_spacing(frame, other)
    extents = [np.multiply(one.shape_HW, one.spacing_HW_mm) for one in (frame, other)]
    coarser = np.maximum(frame.spacing_HW_mm, other.spacing_HW_mm)
    apart = _in_plane(frame.position - other.position, other)
    is_same_size = (np.abs(extents[0] - extents[1]) < 0.5 * coarser).all()
    return bool(is_same_size and (np.abs(apart) <= coarser).all())


def _same_spacing(frame: Frame, other: Frame) -> bool:
    ratio = np.divide(frame.spacing_HW_mm, other.spacing_HW_mm)
    return bool((np.abs(ratio - 1.0) < SAME_SPACING).all())


def _natural(text: str) -> tuple[float, str]:
    try:
        return float(text), text
    except ValueError:
        return math.inf, text


def described(frames: Sequence[Frame]) -> Iterator[str]:
    """What the images of a part look like, for a message: matrix and spacing."""
    for shape, spacing in sorted({(frame.shape_HW, frame.spacing_HW_mm) for frame in frames}):
        yield f"{shape[0]} × {shape[1]} pixels of {spacing[0]:g} × {spacing[1]:g} mm"
