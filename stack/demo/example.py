"""The demo's pictures: brain slices of invented patients, with their true label maps.

Made from the MNI ICBM152 2009a template that the nilearn package ships (T1, grey and white
matter; a population average, not a person). Each "patient" is the template under an affine
and an elastic deformation; each "scanner" has its own contrast, shading and noise.
"""

import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from imaging.labels import LabelScheme, label_scheme
from stack.errors import StackError

SIZE = 128  # rows and columns of a slice
SCHEME: LabelScheme = label_scheme(["grey matter", "white matter"], ["#f58231", "#4363d8"])
TEMPLATE = "mni_icbm152_{}_tal_nlin_sym_09a_converted.nii.gz"
SLICES_Z = (62, 78, 94, 110)  # axial levels from the basal ganglia to above the ventricles


class ExampleError(StackError):
    """The example cannot be made."""

    hint = "Run `make setup`; the nilearn package brings the template."


@dataclass(frozen=True, slots=True)
class Scanner:
    """How one machine renders the same anatomy."""

    name: str
    gamma: float  # contrast curve; 1 = the template's
    shading: float  # strength of the coil's intensity gradient, 0 to 1
    noise: float  # standard deviation, of full scale
    inverted: bool = False  # T2-like contrast: fluid bright, white matter dark


OLD_SCANNER = Scanner("A", gamma=1.0, shading=0.1, noise=0.02)
NEW_SCANNER = Scanner("B", gamma=0.8, shading=0.5, noise=0.05, inverted=True)


@dataclass(frozen=True, slots=True)
class ExampleSlice:
    """One picture and its truth."""

    name: str  # <patient>_<slice>, the file's stem
    patient: str
    scanner: str
    image_HW: NDArray[np.uint8]
    labels_HW: NDArray[np.uint8]


def make_patients(first: int, count: int, scanner: Scanner) -> Iterator[ExampleSlice]:
    """The slices of `count` invented patients; the same arguments give the same bytes."""
    t1_XYZ, gm_XYZ, wm_XYZ = (_template(kind) for kind in ("t1", "gm", "wm"))
    for number in range(first, first + count):
        rng = np.random.default_rng(number)
        for index, z in enumerate(SLICES_Z):
            level = int(z + rng.integers(-4, 5))
            rows, columns = _deformation(rng)
            planes = [
                _warp(plane[:, :, level], rows, columns) for plane in (t1_XYZ, gm_XYZ, wm_XYZ)
            ]
            yield ExampleSlice(
                name=f"brain{number:03d}_{index:04d}",
                patient=f"brain{number:03d}",
                scanner=scanner.name,
                image_HW=_render(planes[0], scanner, rng),
                labels_HW=_labels(planes[1], planes[2]),
            )


def _template(kind: str) -> NDArray[np.float32]:
    import nibabel  # a dependency of nilearn; importing nilearn itself takes seconds

    spec = importlib.util.find_spec("nilearn")
    if spec is None or not spec.submodule_search_locations:
        raise ExampleError("the nilearn package is not installed")
    path = Path(spec.submodule_search_locations[0], "datasets", "data", TEMPLATE.format(kind))
    volume: Any = nibabel.load(path)
    return np.asarray(volume.dataobj, dtype=np.float32) / 255.0


def _deformation(rng: np.random.Generator) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Where in the template (1 mm voxels, X and Y) each pixel of the slice is taken from."""
    angle = rng.normal(0, 0.08)
    scale_mm = 1.6 * rng.normal(1, 0.05, 2)  # 128 pixels of 1.6 mm cover the brain
    grid = np.mgrid[0:SIZE, 0:SIZE].astype(np.float64) - SIZE / 2 + rng.normal(0, 2, (2, 1, 1))
    # Row 0 is anterior, column 0 the patient's right, as radiologists look at an axial slice.
    front, side = -grid[0] * scale_mm[0], -grid[1] * scale_mm[1]
    x_mm = np.cos(angle) * side - np.sin(angle) * front + 98
    y_mm = np.sin(angle) * side + np.cos(angle) * front + 116
    elastic = [ndimage.gaussian_filter(rng.normal(0, 1, (SIZE, SIZE)), 12) for _ in range(2)]
    x_mm, y_mm = (mm + 5 * e / e.std() for mm, e in zip((x_mm, y_mm), elastic, strict=True))
    return x_mm, y_mm


def _warp(
    plane_XY: NDArray[np.float32], x_mm: NDArray[np.float64], y_mm: NDArray[np.float64]
) -> NDArray[np.float32]:
    warped: NDArray[np.float32] = ndimage.map_coordinates(plane_XY, [x_mm, y_mm], order=1)
    return warped


def _render(
    t1_HW: NDArray[np.float32], scanner: Scanner, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """The template's intensities as this scanner would show them, 8 bits."""
    head_HW = t1_HW > 0.08
    image_HW = np.clip(t1_HW, 0, 1) ** (scanner.gamma * rng.normal(1, 0.05))
    if scanner.inverted:
        image_HW = np.where(head_HW, 1.0 - 0.9 * image_HW, 0.0)
    ramp_HW = (
        np.linspace(-1, 1, SIZE)[:, None] * rng.normal() + np.linspace(-1, 1, SIZE) * rng.normal()
    )
    image_HW = image_HW * (1 + scanner.shading * ramp_HW / (np.abs(ramp_HW).max() + 1e-6))
    image_HW = image_HW + rng.normal(0, scanner.noise, image_HW.shape)
    return np.asarray(np.clip(image_HW * 240, 0, 255), dtype=np.uint8)


def _labels(gm_HW: NDArray[np.float32], wm_HW: NDArray[np.float32]) -> NDArray[np.uint8]:
    """The likelier tissue where either is more likely than not."""
    grey = (gm_HW > wm_HW) & (gm_HW > 0.4)
    white = (wm_HW >= gm_HW) & (wm_HW > 0.4)
    return (grey * 1 + white * 2).astype(np.uint8)
