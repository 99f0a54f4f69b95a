"""A small lab on disk for tests: cases of invented patients, and what people said about them."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imaging.dataset.annotations import AnnotationRecord, land
from imaging.dataset.cases import CASE_RECORD, CaseRecord, CaseSource, VolumeFacts, load_case
from imaging.ids import utc_now
from imaging.io.nifti import write_label_volume, write_nifti
from imaging.io.picture import write_picture
from imaging.labels import label_scheme
from imaging.labelstudio.plane import Plane
from imaging.labelstudio.results import results_from_classes, results_from_label_map
from imaging.layout import MARKER, Nas, TaskFolder
from imaging.publish import MANIFEST, manifest_files, sha256_of, write_json
from imaging.task import TaskConfig
from imaging.volume import grid_of

SEGMENTATION = TaskConfig(kind="segmentation", scheme=label_scheme(["lv", "scar"]))
CLASSIFICATION = TaskConfig(kind="classification", scheme=label_scheme(["normal", "pneumonia"]))
TASK = "Task001_heart"
SHAPE_HW = (12, 16)
VOLUMES = TaskConfig(kind="segmentation", scheme=label_scheme(["liver", "kidney"]), modality="CT")
SHAPE_XYZ = (6, 5, 8)
# Stored from left to right, front to back and feet to head, 0.8 × 0.9 × 2.5 mm; not at the origin.
LPS = np.array([[-0.8, 0, 0, 40], [0, -0.9, 0, 30], [0, 0, 2.5, -12], [0, 0, 0, 1.0]])


def make_nas(root: Path) -> Nas:
    (root / MARKER).touch()
    return Nas(root)


def make_task(root: Path) -> TaskFolder:
    return make_nas(root).task(TASK)


def make_case(task: TaskFolder, number: int, patient: str | None = None) -> str:
    """A picture unlike all others; its case."""
    image_HW = np.full(SHAPE_HW, number % 251, dtype=np.uint8)
    image_HW[0, : number % 7] = 255
    case = f"case-{hashlib.sha256(str(number).encode()).hexdigest()[:16]}"
    folder = task.case(case)
    folder.mkdir(parents=True)
    write_picture(folder / "image.png", image_HW)
    record = CaseRecord(
        case=case,
        task=task.name,
        patient=patient or f"p-{number:04d}",
        image="image.png",
        preview="image.png",
        shape_HW=SHAPE_HW,
        channels=1,
        bits=8,
        source=CaseSource(f"{number}.png", "00", 1),
        created_at=utc_now(),
    )
    publish_record(task, record)
    return case


def make_volume(
    task: TaskFolder, number: int, patient: str | None = None, channels: Sequence[str] = ("",)
) -> str:
    """A volume unlike all others, shown in axial slices; its case."""
    grid = grid_of(SHAPE_XYZ, LPS)
    case = f"case-{hashlib.sha256(f'volume {number}'.encode()).hexdigest()[:16]}"
    folder = task.case(case)
    folder.mkdir(parents=True)
    one = len(channels) == 1
    images = tuple(
        f"image{'' if one else f'_{place:04d}'}.nii.gz" for place in range(len(channels))
    )
    for place, name in enumerate(images):
        write_nifti(folder / name, volume_voxels(number + 1000 * place), grid)
    plane = Plane(grid, 2, (SHAPE_XYZ[1], SHAPE_XYZ[0]))
    facts = VolumeFacts(grid, images, tuple(channels), "CT", plane, tuple(range(plane.count)))
    record = CaseRecord(
        case=case,
        task=task.name,
        patient=patient or f"p-{number:04d}",
        image=images[0],
        preview="slices",
        shape_HW=plane.shape_HW,
        channels=len(channels),
        bits=16,
        source=CaseSource(f"{number}.nii.gz", "00", 1),
        created_at=utc_now(),
        volume=facts,
    )
    publish_record(task, record)
    return case


def publish_record(task: TaskFolder, record: CaseRecord) -> None:
    """Write what is known about a case whose images lie there."""
    folder = task.case(record.case)
    write_json(folder / CASE_RECORD, record.to_json())
    write_json(folder / MANIFEST, {"format": 1, "files": manifest_files(folder)})


def volume_voxels(number: int) -> NDArray[np.int16]:
    return np.random.default_rng(number).integers(-1000, 1000, SHAPE_XYZ).astype(np.int16)


def block(size: int, index: int = 1) -> NDArray[np.uint8]:
    """A label map with a block of one label, off the middle on every axis."""
    labels_XYZ = np.zeros(SHAPE_XYZ, dtype=np.uint8)
    labels_XYZ[:size, 1 : 1 + size, 2 : 2 + size] = index
    return labels_XYZ


def import_label_map(
    task: TaskFolder, case: str, labels_XYZ: NDArray[np.uint8], number: int = 1, **fields: Any
) -> Path:
    """Land a label map that came with a volume; its record."""
    key = f"import-{hashlib.sha256(f'{case} {number}'.encode()).hexdigest()[:12]}"
    path = task.case_annotations(case) / f"{key}.nii.gz"
    write_label_volume(path, labels_XYZ, grid_of(SHAPE_XYZ, LPS))
    said = {"origin": "import", "annotator": "import", "label_map": path.name}
    return answer(task, case, [], key=key, **said | {"label_map_sha256": sha256_of(path)} | fields)


def regroup(task: TaskFolder, case: str, patient: str) -> None:
    """Somebody finds out that a case is of another patient."""
    publish_record(task, replace(load_case(task.case(case)), patient=patient))


def drawn(rows: int, index: int = 1) -> NDArray[np.uint8]:
    """A label map whose first rows show one label."""
    labels_HW = np.zeros(SHAPE_HW, dtype=np.uint8)
    labels_HW[:rows] = index
    return labels_HW


def mask_results(labels_HW: NDArray[np.uint8]) -> list[dict[str, Any]]:
    return results_from_label_map(labels_HW, SEGMENTATION.scheme)


def answer(
    task: TaskFolder,
    case: str,
    results: Sequence[Mapping[str, Any]] | NDArray[np.uint8] | str,
    key: str = "1-1",
    **fields: Any,
) -> Path:
    """Land what somebody said: a label map, a class name, or results as they are."""
    if isinstance(results, np.ndarray):
        results = mask_results(results)
    elif isinstance(results, str):
        results = results_from_classes([results])
    record = AnnotationRecord(
        **{
            "case": case,
            "key": key,
            "origin": "label_studio",
            "annotator": "3",
            "updated_at": utc_now(),
            "results": tuple(results),
            "landed_at": utc_now(),
        }
        | fields
    )
    return land(task, record)


def label_cases(task: TaskFolder, numbers: range, kind: str = "segmentation") -> list[str]:
    """Cases of as many patients, each labelled once."""
    cases = []
    for number in numbers:
        case = make_case(task, number)
        said = (
            drawn(1 + number % 10)
            if kind == "segmentation"
            else ["normal", "pneumonia"][number % 2]
        )
        answer(task, case, said, key=f"{number + 1}-{number + 1}")
        cases.append(case)
    return cases
