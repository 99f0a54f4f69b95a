"""A volume's case on disk for tests, small and without symmetry."""

import hashlib
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from imaging.dataset.cases import CASE_RECORD, CaseRecord, CaseSource, VolumeFacts
from imaging.ids import utc_now
from imaging.io.nifti import write_nifti
from imaging.labelstudio.key_slices import key_slices
from imaging.labelstudio.plane import plane_of
from imaging.layout import TaskFolder
from imaging.publish import MANIFEST, manifest_files, write_json
from imaging.volume import Grid, grid_of

SIDES = (9, 7, 12)  # X, Y, Z of the grids here


def make_grid() -> Grid:
    """Stored as LPS with thick slices, as a DICOM series is."""
    return grid_of(SIDES, np.diag([-0.9, -0.9, 3.0, 1.0]))


def volume_record(number: int = 1, most: int = 100, axis: str = "auto") -> CaseRecord:
    """The record of an invented volume, offered by at most so many slices."""
    grid = make_grid()
    plane = plane_of(grid, axis)
    return CaseRecord(
        case=f"case-{hashlib.sha256(f'volume {number}'.encode()).hexdigest()[:16]}",
        task="Task001_heart",
        patient=f"p-{number:04d}",
        image="image.nii.gz",
        preview="slices",
        shape_HW=plane.shape_HW,
        channels=1,
        bits=16,
        source=CaseSource(f"{number}.nii.gz", "00", 1),
        created_at=utc_now(),
        volume=VolumeFacts(
            grid=grid,
            images=("image.nii.gz",),
            channels=("",),
            modality="CT",
            plane=plane,
            key_slices=key_slices(plane.count, most),
        ),
    )


def make_volume_case(task: TaskFolder, number: int = 1, most: int = 100) -> CaseRecord:
    """The same, published in the task folder; the patient is the number's."""
    record = replace(volume_record(number, most), task=task.name)
    folder = task.case(record.case)
    folder.mkdir(parents=True)
    random = np.random.default_rng(number)
    voxels_XYZ = random.integers(-1000, 1000, SIDES).astype(np.int16)
    write_nifti(folder / record.image, voxels_XYZ, make_grid())
    write_json(folder / CASE_RECORD, record.to_json())
    write_json(folder / MANIFEST, {"format": 1, "files": manifest_files(folder)})
    return record


def drawn_volume(first: int = 3, last: int = 8) -> NDArray[np.uint8]:
    """Label 1 on some axial slices, growing from each to the next; label 2 in a corner of it."""
    labels_XYZ = np.zeros(SIDES, dtype=np.uint8)
    for index in range(first, last + 1):
        labels_XYZ[1 : 3 + (index - first) // 2, 1:4, index] = 1
    labels_XYZ[1, 1, first:last] = 2
    return labels_XYZ
