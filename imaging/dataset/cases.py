"""Case records: what ingest found out about one image, as `cases/<case>/case.json`."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from imaging.errors import RecordError
from imaging.labelstudio.plane import Plane, parse_plane
from imaging.layout import TaskFolder
from imaging.publish import read_json
from imaging.volume import Grid, parse_grid

CASE_RECORD = "case.json"


@dataclass(frozen=True, slots=True)
class CaseSource:
    """The file in rawdata/ a case was made from."""

    path: str  # relative to rawdata/, as people named it; never logged
    sha256: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class VolumeFacts:
    """What a case that is a volume has beside what pictures have."""

    grid: Grid
    images: tuple[str, ...]  # .nii.gz files in the case folder, one for each channel
    channels: tuple[str, ...]  # their names, for people
    modality: str  # DICOM's word: CT, MR …
    plane: Plane  # how its slices lie on an annotator's screen
    key_slices: tuple[int, ...]  # slices that annotators are offered, in order; all if few
    notes: tuple[str, ...] = ()  # what was odd or changed on reading, sentences for people
    headers: Mapping[str, str] = field(default_factory=dict)  # DICOM, after de-identification

    def to_json(self) -> dict[str, Any]:
        return {
            "grid": self.grid.to_json(),
            "images": list(self.images),
            "channels": list(self.channels),
            "modality": self.modality,
            "plane": self.plane.to_json(),
            "key_slices": list(self.key_slices),
            "notes": list(self.notes),
            "headers": dict(self.headers),
        }


@dataclass(frozen=True, slots=True)
class CaseRecord:
    """One image grid and all that is known about it.

    The identifier is made from the pixels, so the same picture is the same case however often,
    and under whatever name or in whatever lossless format, it is dropped.
    """

    case: str  # case-<first 16 hex digits of the pixel hash>
    task: str
    patient: str  # pseudonym; groups the cases of one person
    image: str  # file in the case folder that trains: PNG, uint8 or uint16, L or RGB; or .nii.gz
    preview: str  # what annotators see: a PNG, uint8; of a volume the folder of its slices
    shape_HW: tuple[int, int]  # of the picture, or of each slice on the screen
    channels: int  # 1 or 3
    bits: int  # 8 or 16
    source: CaseSource
    created_at: str
    spacing_mm: tuple[float, float] | None = None  # rows, columns; None = unknown
    metadata: Mapping[str, str] = field(default_factory=dict)  # further columns of cases.csv
    volume: VolumeFacts | None = None

    def to_json(self) -> dict[str, Any]:
        record = asdict(replace(self, volume=None))
        del record["volume"]
        if self.volume is None:
            return {"format": 1, "kind": "picture"} | record
        return {"format": 1, "kind": "volume"} | record | {"volume": self.volume.to_json()}


def parse_case(record: Mapping[str, Any], *, where: str) -> CaseRecord:
    """The record in a case.json.

    Raises:
        RecordError: a key is missing or of the wrong type.
    """
    try:
        spacing = record["spacing_mm"]
        return CaseRecord(
            case=str(record["case"]),
            task=str(record["task"]),
            patient=str(record["patient"]),
            image=str(record["image"]),
            preview=str(record["preview"]),
            shape_HW=(int(record["shape_HW"][0]), int(record["shape_HW"][1])),
            channels=int(record["channels"]),
            bits=int(record["bits"]),
            source=CaseSource(
                path=str(record["source"]["path"]),
                sha256=str(record["source"]["sha256"]),
                size_bytes=int(record["source"]["size_bytes"]),
            ),
            created_at=str(record["created_at"]),
            spacing_mm=None if spacing is None else (float(spacing[0]), float(spacing[1])),
            metadata={str(key): str(value) for key, value in record["metadata"].items()},
            volume=_parse_volume(record["volume"], where) if "volume" in record else None,
        )
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise RecordError(f"{where}: {error!r} while reading a case record") from error


def _parse_volume(record: Mapping[str, Any], where: str) -> VolumeFacts:
    grid = parse_grid(record["grid"], where=where)
    return VolumeFacts(
        grid=grid,
        images=tuple(map(str, record["images"])),
        channels=tuple(map(str, record["channels"])),
        modality=str(record["modality"]),
        plane=parse_plane(record["plane"], grid, where=where),
        key_slices=tuple(map(int, record["key_slices"])),
        notes=tuple(map(str, record["notes"])),
        headers={str(key): str(value) for key, value in record["headers"].items()},
    )


def load_case(folder: Path) -> CaseRecord:
    """The record of one case folder."""
    path = folder / CASE_RECORD
    return parse_case(read_json(path), where=str(path))


def list_cases(task: TaskFolder) -> Iterator[CaseRecord]:
    """All complete cases of a task, by identifier; folders without case.json are skipped."""
    if not task.cases.is_dir():
        return
    for folder in sorted(task.cases.iterdir()):
        if not folder.name.startswith(".") and (folder / CASE_RECORD).is_file():
            yield load_case(folder)
