"""Volumes: voxels with an affine, and the grid they lie on.

Inside the project every volume is RAS+ and `XYZ`: the first axis runs to the patient's right … no
nearer than that is possible without resampling, so an oblique volume keeps its oblique affine.
A file stores its voxels in an order of its own. `Grid` remembers that order, so that a label map
goes back on exactly the grid that the image came with, voxel by voxel and to the last digit.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeVar

import numpy as np
from nibabel.orientations import (
    apply_orientation,
    inv_ornt_aff,
    io_orientation,
    ornt2axcodes,
)
from numpy.typing import NDArray

from imaging.errors import RecordError

FloatArray = NDArray[np.float64]
Row = tuple[float, float, float, float]
Scalars = TypeVar("Scalars", bound=np.generic)

TOLERANCE_MM = 1e-3  # two grids whose corners lie closer than this are one


@dataclass(frozen=True, slots=True)
class Grid:
    """Where voxels lie, as a file says it; everything else follows from these two.

    `stored_shape` and `stored_affine` describe the file's own axes (voxel index → world mm, RAS+
    world). `shape_XYZ` and `affine` describe the same grid with its axes in RAS+ order.
    """

    stored_shape: tuple[int, int, int]
    stored_affine: tuple[Row, Row, Row, Row]

    @property
    def orientation(self) -> NDArray[np.floating]:
        """nibabel's orientation of the stored axes: for each, its RAS+ axis and direction."""
        return _orientation(self.stored_affine)

    @property
    def codes(self) -> str:
        """Where the stored axes run to, such as `LPS`."""
        return "".join(ornt2axcodes(self.orientation))

    @property
    def shape_XYZ(self) -> tuple[int, int, int]:
        """Voxels along the axes in RAS+ order."""
        places = np.argsort(self.orientation[:, 0])
        x, y, z = (self.stored_shape[place] for place in places)
        return x, y, z

    @property
    def affine(self) -> FloatArray:
        """4 × 4, voxel index in RAS+ order → world mm."""
        stored = np.array(self.stored_affine)
        found: FloatArray = stored @ inv_ornt_aff(self.orientation, self.stored_shape)
        return found

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Edge lengths of a voxel, XYZ."""
        x, y, z = np.linalg.norm(self.affine[:3, :3], axis=0).tolist()
        return x, y, z

    def is_same(self, other: "Grid", tolerance_mm: float = TOLERANCE_MM) -> bool:
        """Whether two files store voxels at the same places, whatever the order of their axes."""
        if self.shape_XYZ != other.shape_XYZ:
            return False
        corners = np.array(np.meshgrid(*([0, n - 1] for n in self.shape_XYZ))).reshape(3, -1)
        points = np.vstack([corners, np.ones(corners.shape[1])])
        apart = np.abs(self.affine @ points - other.affine @ points).max()
        return bool(apart <= tolerance_mm)

    def to_json(self) -> dict[str, Any]:
        return {"shape": list(self.stored_shape), "affine": [list(r) for r in self.stored_affine]}


@lru_cache(maxsize=256)
def _orientation(affine: tuple[Row, ...]) -> NDArray[np.floating]:
    """Remembered, for every view of a volume asks: a tenth of the time of reading a small file."""
    found: NDArray[np.floating] = io_orientation(np.array(affine))
    found.setflags(write=False)
    return found


def grid_of(shape: Sequence[int], affine: NDArray[np.floating]) -> Grid:
    """The grid of an array as it is stored; `affine` is 4 × 4, to RAS+ world mm."""
    x, y, z = (int(side) for side in shape)
    rows = [(float(a), float(b), float(c), float(d)) for a, b, c, d in affine.tolist()]
    return Grid((x, y, z), (rows[0], rows[1], rows[2], rows[3]))


def parse_grid(record: Any, *, where: str) -> Grid:
    """The grid in a JSON record.

    Raises:
        RecordError: it is not one.
    """
    try:
        affine = np.array(record["affine"], dtype=np.float64)
        shape = [int(side) for side in record["shape"]]
        if affine.shape != (4, 4) or len(shape) != 3 or not np.isfinite(affine).all():
            raise RecordError(
                f"{where}: grid is {record!r:.200}, expected 3 sides and 4 × 4 numbers"
            )
        return grid_of(shape, affine)
    except (KeyError, TypeError, ValueError) as error:
        raise RecordError(f"{where}: {error!r} while reading a grid") from error


def to_ras(stored_IJK: NDArray[Scalars], grid: Grid) -> NDArray[Scalars]:
    """An array in the file's order as XYZ: a view, nothing is computed. Further axes stay last."""
    turned: NDArray[Scalars] = apply_orientation(stored_IJK, grid.orientation)
    return turned


def to_stored(array_XYZ: NDArray[Scalars], grid: Grid) -> NDArray[Scalars]:
    """An XYZ array in the order of the grid's file: the way back from `to_ras`, a view."""
    orientation = grid.orientation
    axes = orientation[:, 0].astype(int)
    flips = tuple(
        slice(None, None, -1 if orientation[np.flatnonzero(axes == axis)[0], 1] < 0 else 1)
        for axis in range(3)
    )
    return array_XYZ[flips].transpose(*axes.tolist(), *range(3, array_XYZ.ndim))


@dataclass(frozen=True, slots=True, eq=False)
class Volume:
    """Voxels of one image on one grid. Several channels (T1, T2, FLAIR) share the grid."""

    voxels_CXYZ: NDArray[Any]  # uint8, int16, uint16, int32 or float32; CT in HU
    grid: Grid
    modality: str = ""  # DICOM's word: CT, MR, PT …; empty = not said
    channels: tuple[str, ...] = ()  # their names; empty = one without a name
    notes: tuple[str, ...] = ()  # what was found odd or changed on reading, sentences for people
