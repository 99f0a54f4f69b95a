"""A frozen task of tiny volumes, as ingest and the watchdog would have left it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imaging.dataset.cases import CASE_RECORD, CaseRecord, CaseSource, VolumeFacts
from imaging.dataset.folds import Split
from imaging.dataset.folds_file import FOLDS_FILE, folds_record
from imaging.dataset.manifest import ImageFile, Snapshot, SnapshotCase, manifest_record
from imaging.ids import utc_now
from imaging.io.nifti import write_label_volume, write_nifti
from imaging.io.picture import png_bytes
from imaging.io.volume_digest import case_id
from imaging.labels import LabelScheme, label_scheme
from imaging.labelstudio.plane import plane_of
from imaging.layout import MARKER, Nas, TaskFolder
from imaging.publish import MANIFEST, manifest_files, sha256_of, write_json
from imaging.task import TaskConfig, save_task
from imaging.volume import Grid, Volume, grid_of

TASK = "Task002_organs"
SCHEME = label_scheme(["liver", "left kidney"])
SIDES = (7, 6, 5)
# Stored as left, posterior, superior, the first two swapped, and no two voxel sides alike.
AFFINE = np.array([[0, -0.8, 0, 10], [-0.9, 0, 0, 20], [0, 0, 2.5, -30], [0, 0, 0, 1]])
SPLITS: tuple[Split, ...] = ("train", "train", "validation", "test")


@dataclass(frozen=True, slots=True)
class Lab:
    """A NAS with one task of volumes and its snapshot."""

    nas: Nas
    task: TaskFolder
    snapshot: Snapshot


def volume_of(number: int, channels: int = 1) -> Volume:
    """A volume unlike all others."""
    random = np.random.default_rng(number)
    grid = grid_of(SIDES, AFFINE)
    voxels_CXYZ = random.integers(-1000, 1000, (channels, *grid.shape_XYZ), dtype=np.int16)
    return Volume(voxels_CXYZ, grid, "CT")


def truth_of(number: int, grid: Grid) -> NDArray[np.uint8]:
    """Two organs; the second is missing in every third case."""
    labels_XYZ = np.zeros(grid.shape_XYZ, dtype=np.uint8)
    labels_XYZ[1:4, 1:4, 1:4] = 1
    labels_XYZ[0, 0, 0] = 1
    if number % 3:
        labels_XYZ[4:, 5:, 2:] = 2
    return labels_XYZ


def make_lab(
    root: Path,
    channels: tuple[str, ...] = (),
    metadata: Mapping[str, str] | None = None,
    volumes: Sequence[Volume] = (),
) -> Lab:
    """Four cases of as many patients, on the sides that SPLITS says."""
    root.mkdir(parents=True, exist_ok=True)
    (root / MARKER).touch()
    nas = Nas(root)
    task = nas.task(TASK)
    save_task(task.config, TaskConfig(kind="segmentation", scheme=SCHEME, modality="CT"))
    folder = task.snapshot("snap-20260314T091502Z-7c1e")
    cases = []
    for number, split in enumerate(SPLITS):
        volume = volumes[number] if volumes else volume_of(number, max(1, len(channels)))
        images = add_volume(task, volume, f"p-{number:04d}", channels, metadata or {})
        labels = folder / "labels" / f"{case_id([volume])}.nii.gz"
        labels.parent.mkdir(parents=True, exist_ok=True)
        labels_XYZ = truth_of(number, volume.grid)
        write_label_volume(labels, labels_XYZ, volume.grid)
        cases.append(_frozen(number, split, images, labels, labels_XYZ))
    snapshot = Snapshot(
        id=folder.name,
        task=TASK,
        kind="segmentation",
        multi_label=False,
        scheme=SCHEME,
        cases=tuple(cases),
        folder=folder,
        created_at=utc_now(),
    )
    patients = {case.patient: case.split for case in cases}
    sides = {case.case: case.split for case in cases}
    write_json(folder / FOLDS_FILE, folds_record(snapshot, patients, sides, 0))
    write_json(folder / MANIFEST, manifest_record(snapshot, task.root, manifest_files(folder)))
    return Lab(nas, task, snapshot)


def add_volume(
    task: TaskFolder,
    volume: Volume,
    patient: str = "p-0000",
    channels: tuple[str, ...] = (),
    metadata: Mapping[str, str] | None = None,
) -> list[Path]:
    """A published case folder; its images."""
    case = case_id([volume])
    folder = task.case(case)
    folder.mkdir(parents=True)
    several = len(volume.voxels_CXYZ) > 1
    images = []
    for number, channel_XYZ in enumerate(volume.voxels_CXYZ):
        images.append(folder / (f"image_{number:04d}.nii.gz" if several else "image.nii.gz"))
        write_nifti(images[-1], channel_XYZ, volume.grid)
    plane = plane_of(volume.grid, "axial")
    for index in range(plane.count):
        shown_HW = (plane.screen(volume.voxels_CXYZ[0], index) >> 4).astype(np.uint8)
        (folder / "slices").mkdir(exist_ok=True)
        (folder / "slices" / f"{index:04d}.png").write_bytes(png_bytes(shown_HW))
    facts = VolumeFacts(
        grid=volume.grid,
        images=tuple(image.name for image in images),
        channels=channels,
        modality=volume.modality,
        plane=plane,
        key_slices=tuple(range(plane.count)),
    )
    record = CaseRecord(
        case=case,
        task=task.name,
        patient=patient,
        image=images[0].name,
        preview="slices",
        shape_HW=plane.shape_HW,
        channels=1,
        bits=16,
        source=CaseSource(f"imagesTr/{case}.nii.gz", "00", 1),
        created_at=utc_now(),
        metadata=dict(metadata or {}),
        volume=facts,
    )
    write_json(folder / CASE_RECORD, record.to_json())
    write_json(folder / MANIFEST, {"format": 1, "files": manifest_files(folder)})
    return images


def _frozen(
    number: int, split: Split, images: list[Path], labels: Path, labels_XYZ: NDArray[Any]
) -> SnapshotCase:
    return SnapshotCase(
        case=images[0].parent.name,
        patient=f"p-{number:04d}",
        split=split,
        image=images[0],
        image_sha256=sha256_of(images[0]),
        labels=labels,
        classes=None,
        labels_sha256=sha256_of(labels),
        present=present_in(labels_XYZ, SCHEME),
        more_images=tuple(ImageFile(path, sha256_of(path)) for path in images[1:]),
        interpolated=(2,),
    )


def present_in(labels_XYZ: NDArray[Any], scheme: LabelScheme) -> tuple[str, ...]:
    return tuple(label.name for label in scheme.labels if (labels_XYZ == label.index).any())
