"""How the slices of a volume lie on an annotator's screen: the only mapping between the two.

A slice is shown as radiologists hang it: the patient's right is on the left of axial and coronal
slices, the front is up on axial ones, the head is up on coronal and sagittal ones, and the front is
on the left of sagittal ones. Pixels on the screen are square in mm: the coarser side of a voxel is
repeated, none is ever left out, and small volumes are enlarged by a whole factor. A voxel belongs
to a mask when the pixel at its centre does, so that label map → screen → label map is the identity.
"""

from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from imaging.errors import RecordError
from imaging.volume import Grid

Scalars = TypeVar("Scalars", bound=np.generic)
AXES = ("sagittal", "coronal", "axial")  # the axis of XYZ along which slices are paged


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
        """Slice `index` of an array as it lies on the screen, HW; nearest neighbour."""
        raise NotImplementedError

    def voxels(self, screen_HW: NDArray[Scalars]) -> NDArray[Scalars]:
        """What lies on the screen on the slice's voxels, as `array_XYZ.take(index, axis)` does."""
        raise NotImplementedError

    def to_json(self) -> dict[str, Any]:
        return {"axis": AXES[self.axis], "shape_HW": list(self.shape_HW)}


def plane_of(grid: Grid, axis: str = "auto") -> Plane:
    """The plane of a volume; `auto` follows how it was acquired."""
    raise NotImplementedError


def parse_plane(record: Any, grid: Grid, *, where: str) -> Plane:
    """The plane in a JSON record.

    Raises:
        RecordError: it is not one.
    """
    try:
        height, width = (int(side) for side in record["shape_HW"])
        return Plane(grid, AXES.index(record["axis"]), (height, width))
    except (KeyError, TypeError, ValueError) as error:
        raise RecordError(f"{where}: {error!r} while reading a plane") from error
