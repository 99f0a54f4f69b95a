"""How the slices of a volume lie on an annotator's screen: the only mapping between the two.

A slice is shown as radiologists hang it: the patient's right is on the left of axial and coronal
slices, the front is up on axial ones, the head is up on coronal and sagittal ones, and the front is
on the left of sagittal ones. In RAS+ order that is one rule for all three: the first of the two
remaining axes runs from right to left on the screen, the second from bottom to top. Oblique volumes
are shown along their own axes; directions then hold as nearly as the axes do.

Pixels on the screen are square in mm: voxels are repeated along the coarser side, none is ever
left out, and a slice whose longer side has fewer than MIN_SIDE pixels is enlarged by a whole
factor. Each pixel shows the voxel that its centre lies in. A voxel has the label that most of its
pixels have, so that label map → screen → label map is the identity, and a stroke is lost only
where it covers less than half of every voxel it touches.
"""

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from imaging.errors import GridMismatchError, RecordError
from imaging.volume import Grid

Scalars = TypeVar("Scalars", bound=np.generic)
Places = NDArray[np.intp]

AXES = ("sagittal", "coronal", "axial")  # the axis of XYZ along which slices are paged
AUTO = "auto"
MIN_SIDE = 256  # pixels; a hippocampus of 35 × 51 voxels could not be drawn on otherwise
# A side that would be longer, because voxels are 40 times as long as they are wide, is not drawn
# to scale: browsers and brush regions take no more. A side of more voxels keeps them all.
MAX_SIDE = 4096
EQUAL = 1.01  # spacings whose ratio is below this are one: scanners round them differently
THICK = 1.5  # times the other two spacings: these are slices, whatever axis is stored last


@dataclass(frozen=True, slots=True)
class Plane:
    """Slices of one volume along one axis; build it with `plane_of`."""

    grid: Grid
    axis: int  # of XYZ: 0 sagittal, 1 coronal, 2 axial slices
    shape_HW: tuple[int, int]  # rows and columns on the screen

    @property
    def count(self) -> int:
        """How many slices there are; slice k lies at voxel index k of the axis."""
        return self.grid.shape_XYZ[self.axis]

    def screen(self, array_XYZ: NDArray[Scalars], index: int) -> NDArray[Scalars]:
        """Slice `index` of an array as it lies on the screen, HW; nearest neighbour.

        Raises:
            GridMismatchError: the array does not lie on the plane's grid.
            IndexError: there is no such slice.
        """
        if array_XYZ.shape != self.grid.shape_XYZ:
            raise GridMismatchError(self.grid.shape_XYZ, array_XYZ.shape)
        return self.spread(slice_of(array_XYZ, self.axis, index))

    def spread(self, slice_AB: NDArray[Scalars]) -> NDArray[Scalars]:
        """One slice's voxels on the screen, HW; A and B are the two axes that are left of XYZ."""
        return self.enlarged(upright(slice_AB))

    def enlarged(self, shown: NDArray[Scalars]) -> NDArray[Scalars]:
        """An upright slice with its voxels repeated until pixels are square and large enough.

        What is done to every voxel alike, such as windowing, costs less before than after this.
        """
        for axis, side in enumerate(self.shape_HW):
            if side != shown.shape[axis]:
                shown = shown.take(_shown_voxels(shown.shape[axis], side), axis=axis)
        return np.ascontiguousarray(shown)

    def voxels(self, screen_HW: NDArray[Scalars]) -> NDArray[Scalars]:
        """What the screen shows at the centre of each voxel, as `array_XYZ.take(index, axis)` lies.

        The way back from `screen`; what people drew is read by `labels`.

        Raises:
            GridMismatchError: the picture has other rows or columns than the screen.
        """
        if screen_HW.shape != self.shape_HW:
            raise GridMismatchError(self.shape_HW, screen_HW.shape)
        across, up = (side for axis, side in enumerate(self.grid.shape_XYZ) if axis != self.axis)
        for axis, side in enumerate((up, across)):
            if side != screen_HW.shape[axis]:
                screen_HW = screen_HW.take(_centre_pixels(side, screen_HW.shape[axis]), axis=axis)
        return screen_HW.T[::-1, ::-1]

    def labels(self, screen_HW: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """A label map drawn on the screen as the label of each of the slice's voxels.

        A voxel gets the label that most of its pixels have; of several with equally many the
        highest, so that background is first to give way and overlaps end as they do everywhere.

        Args:
            screen_HW: one index per pixel, 0 = background.

        Returns:
            One index per voxel, as `labels_XYZ.take(index, axis)` lies.

        Raises:
            GridMismatchError: the picture has other rows or columns than the screen.
        """
        across, up = (side for axis, side in enumerate(self.grid.shape_XYZ) if axis != self.axis)
        if screen_HW.shape == (up, across) or screen_HW.shape != self.shape_HW:
            return self.voxels(screen_HW)
        found_UA = np.zeros((up, across), dtype=np.uint8)
        most_UA = np.zeros((up, across), dtype=np.int64)
        starts = [
            _first_pixels(n, side) for n, side in zip((up, across), self.shape_HW, strict=True)
        ]
        for index in np.flatnonzero(np.bincount(screen_HW.ravel())):  # ascending: ">=" below
            rows = np.add.reduceat(screen_HW == index, starts[0], axis=0, dtype=np.int64)
            count_UA = np.add.reduceat(rows, starts[1], axis=1)
            wins_UA = (count_UA >= most_UA) & (count_UA > 0)
            found_UA[wins_UA], most_UA[wins_UA] = index, count_UA[wins_UA]
        return found_UA.T[::-1, ::-1]

    def to_json(self) -> dict[str, Any]:
        return {"axis": AXES[self.axis], "shape_HW": list(self.shape_HW)}


def plane_of(grid: Grid, axis: str = AUTO) -> Plane:
    """The plane of a volume.

    Args:
        grid: where its voxels lie.
        axis: `sagittal`, `coronal`, `axial`, or `auto`: along the slices as they were acquired.
            An axis with voxels half as long again as along the other two is that of the slices.
            Else, where two of the three spacings are equal, it is the third: scanners give square
            pixels. Else it is the axis that the file stores last, as DICOM series and what is
            converted from them have it. Oblique axes go by what they are nearest to.

    Raises:
        RecordError: there is no such axis.
    """
    if axis != AUTO and axis not in AXES:
        raise RecordError(f"axis is {axis!r:.40}, expected {AUTO}, {', '.join(AXES)}")
    paged = _acquired_axis(grid) if axis == AUTO else AXES.index(axis)
    across, up = (place for place in range(3) if place != paged)
    sides, spacing_mm = grid.shape_XYZ, grid.spacing_mm
    pixel_mm = min(spacing_mm[across], spacing_mm[up])
    widest = max(sides[place] * spacing_mm[place] / pixel_mm for place in (across, up))
    pixel_mm /= max(1, math.ceil(MIN_SIDE / widest))
    height, width = (
        max(sides[place], min(MAX_SIDE, round(sides[place] * spacing_mm[place] / pixel_mm)))
        for place in (up, across)
    )
    return Plane(grid, paged, (height, width))


def upright(slice_AB: NDArray[Scalars]) -> NDArray[Scalars]:
    """A slice as it hangs, one pixel per voxel: a view. Of a DICOM series often just as stored."""
    return slice_AB[::-1, ::-1].T


def slice_of(array_XYZ: NDArray[Scalars], axis: int, index: int) -> NDArray[Scalars]:
    """One slice of an array, a view: what `array_XYZ.take(index, axis)` copies.

    Raises:
        IndexError: there is no such slice.
    """
    if not 0 <= index < array_XYZ.shape[axis]:
        raise IndexError(f"slice {index}, expected 0 to {array_XYZ.shape[axis] - 1}")
    places: list[int | slice] = [slice(None)] * 3
    places[axis] = index
    return array_XYZ[tuple(places)]


def parse_plane(record: Any, grid: Grid, *, where: str) -> Plane:
    """The plane in a JSON record.

    Raises:
        RecordError: it is not one.
    """
    try:
        height, width = (int(side) for side in record["shape_HW"])
        plane = Plane(grid, AXES.index(record["axis"]), (height, width))
    except (KeyError, TypeError, ValueError) as error:
        raise RecordError(f"{where}: {error!r} while reading a plane") from error
    across, up = (side for axis, side in enumerate(grid.shape_XYZ) if axis != plane.axis)
    if height < up or width < across:
        raise RecordError(
            f"{where}: slices of {across} × {up} voxels on {width} × {height} pixels, "
            "expected no fewer pixels than voxels"
        )
    return plane


def _acquired_axis(grid: Grid) -> int:
    spacing_mm = grid.spacing_mm
    for axis in range(3):
        others = [spacing_mm[place] for place in range(3) if place != axis]
        if spacing_mm[axis] >= THICK * max(others):
            return axis
    odd = []
    for axis in range(3):
        low, high = sorted(spacing_mm[place] for place in range(3) if place != axis)
        is_square = high < EQUAL * low
        differs = not low / EQUAL < spacing_mm[axis] < high * EQUAL
        if is_square and differs:
            odd.append(axis)
    return odd[0] if len(odd) == 1 else int(grid.orientation[2, 0])


@lru_cache(maxsize=64)
def _shown_voxels(voxels: int, pixels: int) -> Places:
    """For each pixel of a side the voxel that its centre lies in; whole numbers, so exact."""
    places: Places = (2 * np.arange(pixels) + 1) * voxels // (2 * pixels)
    return places


@lru_cache(maxsize=64)
def _first_pixels(voxels: int, pixels: int) -> Places:
    """For each voxel of a side the first of the pixels that show it."""
    places: Places = np.searchsorted(_shown_voxels(voxels, pixels), np.arange(voxels))
    return places


@lru_cache(maxsize=64)
def _centre_pixels(voxels: int, pixels: int) -> Places:
    """For each voxel of a side the pixel at its centre, which shows it if pixels ≥ voxels."""
    places: Places = (2 * np.arange(voxels) + 1) * pixels // (2 * voxels)
    return places
