"""Invented volumes with a known truth, as cases of a snapshot."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from imaging.dataset.cases import CASE_RECORD, CaseRecord, CaseSource, VolumeFacts
from imaging.dataset.folds import SPLITS
from imaging.dataset.manifest import ImageFile
from imaging.dataset.snapshot import Snapshot, SnapshotCase
from imaging.ids import utc_now
from imaging.io.nifti import write_label_volume, write_nifti
from imaging.labels import label_scheme
from imaging.labelstudio.plane import plane_of
from imaging.publish import write_json
from imaging.task import RecipeChoice, Scalar, TaskConfig
from imaging.volume import Grid, grid_of

SCHEME = label_scheme(["front", "back"])
# A recipe small enough for a unit test: a few thousand weights, patches of 16³.
TINY_VOLUMES: dict[str, Scalar] = {
    "patch_X": 16,
    "patch_Y": 16,
    "patch_Z": 16,
    "widths": "4 8",
    "blocks": 1,
    "learning_rate": 1e-2,
}


def volume_config(budget_s: float = 2.0, modality: str = "MR", **numbers: Scalar) -> TaskConfig:
    """A bright ball, its front half `front`, the rest `back`."""
    return TaskConfig(
        kind="segmentation",
        scheme=SCHEME,
        modality=modality,
        recipe=RecipeChoice("auto", budget_s, TINY_VOLUMES | numbers),
    )


def ball_grid(number: int) -> Grid:
    """Grids of different shapes, thick slices, every third one flipped or turned on disk."""
    affine = np.diag([1.0, 1.2, 2.0, 1.0])
    affine[:3, 3] = [number, -5, 7]
    if number % 3 == 1:
        affine = affine @ np.diag([-1, 1, 1, 1])
    if number % 3 == 2:
        affine = affine[:, [2, 0, 1, 3]]
    return grid_of((22 + number % 3, 20, 14), affine)


def ball_volume(
    number: int, channels: int = 1
) -> tuple[NDArray[np.float32], NDArray[np.uint8], Grid]:
    """Voxels CXYZ, label map XYZ and their grid."""
    random = np.random.default_rng(number)
    grid = ball_grid(number)
    places = np.indices(grid.shape_XYZ) * np.array(grid.spacing_mm)[:, None, None, None]
    extent = np.array(grid.shape_XYZ) * grid.spacing_mm
    centre = extent * random.uniform(0.4, 0.6, 3)
    distance = np.sqrt(((places - centre[:, None, None, None]) ** 2).sum(0))
    labels_XYZ = (distance < 0.3 * extent.min()).astype(np.uint8)
    labels_XYZ[(labels_XYZ > 0) & (places[1] < centre[1])] = 2
    values = np.array([40.0, 120.0, 200.0])[labels_XYZ]
    noise = random.normal(0, 8, (channels, *grid.shape_XYZ))
    return (values + noise).astype(np.float32), labels_XYZ, grid


def volume_snapshot(folder: Path, count: int = 6, channels: int = 1) -> Snapshot:
    """Cases written as the loop keeps them, one patient each: train, train, validation, test, …"""
    cases = []
    for number in range(count):
        image_CXYZ, labels_XYZ, grid = ball_volume(number, channels)
        home = folder / f"case-{number}"
        home.mkdir(parents=True)
        paths = [home / f"image_{channel:04d}.nii.gz" for channel in range(channels)]
        for path, channel_XYZ in zip(paths, image_CXYZ, strict=True):
            write_nifti(path, channel_XYZ, grid)
        write_label_volume(home / "labels.nii.gz", labels_XYZ, grid)
        write_json(home / CASE_RECORD, _record(home.name, grid, paths).to_json())
        cases.append(
            SnapshotCase(
                case=home.name,
                patient=f"p-{number}",
                split=("train", *SPLITS)[number % 4],
                image=paths[0],
                image_sha256="00",
                labels=home / "labels.nii.gz",
                classes=None,
                more_images=tuple(ImageFile(path, "00") for path in paths[1:]),
            )
        )
    return snapshot_of(folder, cases)


def _record(case: str, grid: Grid, paths: Sequence[Path]) -> CaseRecord:
    plane = plane_of(grid)
    names = tuple(path.name for path in paths)
    return CaseRecord(
        case=case,
        task="Task001_ball",
        patient="p-0001",
        image=names[0],
        preview="slices",
        shape_HW=plane.shape_HW,
        channels=1,
        bits=16,
        source=CaseSource("ball.nii.gz", "00", 1),
        created_at=utc_now(),
        volume=VolumeFacts(grid, names, names, "MR", plane, (0,)),
    )


def snapshot_of(folder: Path, cases: Sequence[SnapshotCase]) -> Snapshot:
    return Snapshot(
        "snap-1", "Task001_ball", "segmentation", False, SCHEME, tuple(cases), folder, ""
    )
