"""A model that needs no library: its answer tells which version made it."""

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from imaging.dataset.cases import CaseRecord, CaseSource
from imaging.io.nifti import write_nifti
from imaging.io.picture import write_picture
from imaging.labels import LabelScheme, label_scheme
from imaging.labelstudio.stack import slice_url
from imaging.layout import Nas
from imaging.publish import write_json
from imaging.task import Kind
from tests.imaging.dataset.volume_lab import SIDES, volume_record

TASK = "Task001_heart"
SCHEME = label_scheme(["lv", "myo"])


@dataclass(frozen=True, slots=True)
class FakePrediction:
    labels_HW: npt.NDArray[np.uint8] | None
    probabilities: Mapping[str, float] | None
    score: float


@dataclass(frozen=True, slots=True)
class FakeBundle:
    multi_label: bool = False


@dataclass
class FakePredictor:
    """Marks what is brighter than 100 as its first label; refuses pictures of one value.

    For classes, the share of bright pixels is the probability of the first.
    """

    version: str
    kind: Kind = "segmentation"
    scheme: LabelScheme = SCHEME
    bundle: FakeBundle = FakeBundle()
    takes_volumes: bool = False
    gate: threading.Event | None = None  # closed: predictions wait for it
    batches: list[int] = field(default_factory=list)
    seen: list[tuple[int, ...]] = field(default_factory=list)

    def predict(self, images: Sequence[Any]) -> list[FakePrediction]:
        self.batches.append(len(images))
        if self.gate is not None:
            self.gate.wait(10)
        return [self._one(image) for image in images]

    def _one(self, image: npt.NDArray[Any]) -> FakePrediction:
        self.seen.append(image.shape)
        if image.min() == image.max():
            raise ValueError("one value only")
        if self.kind == "classification":
            bright = float((image > 100).mean())
            return FakePrediction(None, {"lv": bright, "myo": (1 + bright) / 2}, bright)
        return FakePrediction((image > 100).astype(np.uint8), None, 0.75)


@dataclass(frozen=True, slots=True)
class FakeVolumePrediction:
    labels_XYZ: npt.NDArray[np.uint8]
    sureness: tuple[npt.NDArray[np.float64], ...]
    score: float


@dataclass
class FakeVolumePredictor(FakePredictor):
    """Marks what is brighter than 100; is the less sure of a slice the higher its number."""

    takes_volumes: bool = True
    most_at_once: int = 0
    under_way: int = 0

    def predict(self, images: Sequence[Any]) -> list[Any]:
        self.under_way += 1
        self.most_at_once = max(self.most_at_once, self.under_way)
        try:
            return super().predict(images)
        finally:
            self.under_way -= 1

    def _one(self, image: Any) -> Any:
        self.seen.append(image.voxels_CXYZ.shape)
        labels_XYZ = (image.voxels_CXYZ[0] > 100).astype(np.uint8)
        sureness = tuple(np.linspace(1, 0, side) for side in labels_XYZ.shape)
        return FakeVolumePrediction(labels_XYZ, sureness, 0.6)


@dataclass(slots=True)
class FakeLoader:
    """Loads a fake for each version; counts, and fails for those told."""

    broken: set[str] = field(default_factory=set)
    loaded: list[str] = field(default_factory=list)
    make: Callable[[str], FakePredictor] = FakePredictor

    def __call__(self, folder: Path) -> FakePredictor:
        if folder.name in self.broken:
            raise RuntimeError("weights are missing")
        self.loaded.append(folder.name)
        return self.make(folder.name)


def square_picture(size: int = 32, value: int = 200) -> npt.NDArray[np.uint8]:
    pixels_HW = np.zeros((size, size + 8), dtype=np.uint8)
    pixels_HW[4:12, 6:20] = value
    return pixels_HW


def add_case(nas: Nas, name: str, pixels: npt.NDArray[Any] | None = None, task: str = TASK) -> str:
    """A case folder with a 16-bit training image and an 8-bit preview; its address."""
    pixels = square_picture() if pixels is None else pixels
    folder = nas.task(task).case(name)
    folder.mkdir(parents=True)
    write_picture(folder / "image.png", pixels.astype(np.uint16) * 4)
    write_picture(folder / "preview.png", pixels)
    record = CaseRecord(
        case=name,
        task=task,
        patient="p-000000000000",
        image="image.png",
        preview="preview.png",
        shape_HW=(pixels.shape[0], pixels.shape[1]),
        channels=1,
        bits=16,
        source=CaseSource("a.png", "0" * 64, 1),
        created_at="2026-03-14T09:15:02.123456Z",
    )
    write_json(folder / "case.json", record.to_json())
    return f"/data/local-files/?d=dataset/{task}/cases/{name}/preview.png"


def add_volume(nas: Nas, name: str, items: Sequence[int], channels: int = 1) -> dict[str, Any]:
    """A case of 9 × 7 × 12 voxels, bright in a block; the data of a task that shows some slices."""
    task = nas.task(TASK)
    record = replace(volume_record(), case=name)
    assert record.volume is not None
    images = tuple(f"image_{number:04d}.nii.gz" for number in range(channels))
    record = replace(record, volume=replace(record.volume, images=images))
    folder = task.case(name)
    folder.mkdir(parents=True)
    for image in images:
        write_nifti(folder / image, block_voxels(), record.volume.grid)
    write_json(folder / "case.json", record.to_json())
    return {"case": name, "slices": [slice_url(TASK, name, index) for index in items]}


def block_voxels() -> npt.NDArray[np.int16]:
    voxels_XYZ = np.zeros(SIDES, dtype=np.int16)
    voxels_XYZ[1:4, 2:6, 3:11] = 200
    return voxels_XYZ


def point_at(nas: Nas, version: str, task: str = TASK) -> Path:
    """Make a version the champion, as docs/data-format.md describes the pointer."""
    nas.model(task).version(version).mkdir(parents=True, exist_ok=True)
    write_json(
        nas.model(task).champion,
        {
            "format": 1,
            "task": task,
            "version": version,
            "previous": None,
            "changed_at": "2026-03-14T09:15:02.123456Z",
            "reason": "promoted by a test",
            "history": [],
        },
    )
    return nas.model(task).champion
