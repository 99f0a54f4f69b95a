"""Invented pictures with a known truth, and a NAS filled with them."""

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imaging.dataset.annotations import AnnotationRecord, land
from imaging.dataset.cases import CASE_RECORD, CaseRecord, CaseSource
from imaging.dataset.snapshot import Snapshot, freeze_snapshot
from imaging.ids import utc_now
from imaging.io.picture import pixel_digest, write_picture
from imaging.labels import LabelScheme, label_scheme
from imaging.labelstudio.results import results_from_classes, results_from_label_map
from imaging.layout import MARKER, Nas, TaskFolder
from imaging.publish import MANIFEST, manifest_files, write_json
from imaging.task import GatePolicy, RecipeChoice, Scalar, TaskConfig, save_task

Pixels = NDArray[Any]
TASK = "Task001_phantom"

# A recipe small enough for a unit test: a network of a few thousand weights on 32 × 32 pixels.
TINY_MASKS: dict[str, Scalar] = {
    "input_H": 32,
    "input_W": 32,
    "widths": "8 16 32",
    "blocks": 1,
    "learning_rate": 1e-2,
    "validate_every_s": 0.5,
    "checkpoint_every_s": 0.5,
}
TINY_CLASSES: dict[str, Scalar] = {
    "input_H": 32,
    "input_W": 32,
    "widths": "4 8 8 16",
    "learning_rate": 1e-2,
    "validate_every_s": 0.5,
    "checkpoint_every_s": 0.5,
}


def mask_config(budget_s: float = 2.0, **numbers: Scalar) -> TaskConfig:
    """Bright discs are `disc`, the brighter squares in them `core`."""
    return TaskConfig(
        kind="segmentation",
        scheme=label_scheme(["disc", "core"]),
        recipe=RecipeChoice("auto", budget_s, TINY_MASKS | numbers),
        gate=GatePolicy(min_held_out_cases=3, resamples=200),
    )


def class_config(budget_s: float = 2.0, **numbers: Scalar) -> TaskConfig:
    """A disc on the left, or on the right."""
    return TaskConfig(
        kind="classification",
        scheme=label_scheme(["left", "right"]),
        recipe=RecipeChoice("auto", budget_s, TINY_CLASSES | {"augment_flip_W": False} | numbers),
        gate=GatePolicy(min_held_out_cases=3, resamples=200),
    )


def disc_picture(
    number: int, shape_HW: tuple[int, int] = (40, 36)
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """A picture without symmetry and its label map: 1 a disc, 2 a square in it."""
    random = np.random.default_rng(number)
    height, width = shape_HW
    rows, columns = np.mgrid[:height, :width]
    radius = random.uniform(0.18, 0.28) * min(shape_HW)
    y, x = random.uniform(0.35, 0.65) * height, random.uniform(0.35, 0.65) * width
    labels_HW = ((rows - y) ** 2 + (columns - x) ** 2 < radius**2).astype(np.uint8)
    labels_HW[(abs(rows - y) < radius / 3) & (abs(columns - x) < radius / 3)] = 2
    values = np.array([40.0, 120.0, 220.0])[labels_HW] + random.normal(0, 6, shape_HW)
    return values.clip(0, 255).astype(np.uint8), labels_HW


def side_picture(
    number: int, shape_HW: tuple[int, int] = (40, 36)
) -> tuple[NDArray[np.uint8], str]:
    """A picture with a disc on one side, and the side's name; the number's parity decides."""
    random = np.random.default_rng(number)
    height, width = shape_HW
    rows, columns = np.mgrid[:height, :width]
    name = ("left", "right")[number % 2]
    x = (0.25 if name == "left" else 0.75) * width
    y = random.uniform(0.3, 0.7) * height
    disc = (rows - y) ** 2 + (columns - x) ** 2 < (0.15 * min(shape_HW)) ** 2
    values = 40 + 150 * disc + random.normal(0, 6, shape_HW)
    return values.clip(0, 255).astype(np.uint8), name


def add_case(task: TaskFolder, pixels: Pixels, patient: str) -> str:
    """A published case folder, as ingest makes it; the case."""
    case = f"case-{pixel_digest(pixels)[:16]}"
    folder = task.case(case)
    folder.mkdir(parents=True)
    write_picture(folder / "image.png", pixels)
    record = CaseRecord(
        case=case,
        task=task.name,
        patient=patient,
        image="image.png",
        preview="image.png",
        shape_HW=(pixels.shape[0], pixels.shape[1]),
        channels=1 if pixels.ndim == 2 else 3,
        bits=8,
        source=CaseSource("phantom.png", "00", 1),
        created_at=utc_now(),
    )
    write_json(folder / CASE_RECORD, record.to_json())
    write_json(folder / MANIFEST, {"format": 1, "files": manifest_files(folder)})
    return case


def add_truth(
    task: TaskFolder, case: str, truth: NDArray[np.uint8] | str, scheme: LabelScheme
) -> None:
    """Land the right answer: a label map or a class."""
    results = (
        results_from_classes([truth])
        if isinstance(truth, str)
        else results_from_label_map(truth, scheme)
    )
    digest = hashlib.sha256(case.encode()).hexdigest()[:12]
    record = AnnotationRecord(
        case=case,
        key=f"import-{digest}",
        origin="import",
        annotator="import",
        updated_at=utc_now(),
        results=tuple(results),
        landed_at=utc_now(),
    )
    land(task, record)


def phantom_nas(root: Path, config: TaskConfig, count: int = 24) -> Nas:
    """A NAS with one labelled task: `count` pictures, two per patient."""
    root.mkdir(parents=True, exist_ok=True)
    (root / MARKER).touch()
    nas = Nas(root)
    task = nas.task(TASK)
    save_task(task.config, config)
    for number in range(count):
        pixels, truth = (
            disc_picture(number) if config.kind == "segmentation" else side_picture(number)
        )
        case = add_case(task, pixels, f"p-{number // 2:04d}")
        add_truth(task, case, truth, config.scheme)
    return nas


def phantom_snapshot(nas: Nas, config: TaskConfig) -> Snapshot:
    """The frozen answers of a phantom NAS."""
    return freeze_snapshot(nas.task(TASK), config)


def held_out_more(config: TaskConfig, share: float) -> TaskConfig:
    """The same task with another share of held-out patients."""
    return replace(config, split=replace(config.split, held_out=share))
