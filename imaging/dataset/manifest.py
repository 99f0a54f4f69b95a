"""A snapshot's manifest.json as records: what was frozen, and what was left out and why."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, cast

from imaging.dataset.folds import SPLITS, Split
from imaging.errors import SnapshotError
from imaging.io.nifti import SUFFIX
from imaging.labels import Label, LabelScheme
from imaging.task import Fill, Kind


@dataclass(frozen=True, slots=True)
class AnswerFile:
    """A landed annotation that a label map or class was made from."""

    file: str  # relative to the task folder
    sha256: str


@dataclass(frozen=True, slots=True)
class ImageFile:
    """A further image file of a case: one channel of a volume."""

    path: Path
    sha256: str


@dataclass(frozen=True, slots=True)
class SnapshotCase:
    """One case as it was frozen: an image, its truth, and which side it is on."""

    case: str
    patient: str
    split: Split
    image: Path  # a PNG, or the first channel of a volume
    image_sha256: str
    labels: Path | None  # segmentation: label map, uint8; PNG, of volumes .nii.gz
    classes: tuple[str, ...] | None  # classification: in the scheme's order
    labels_sha256: str | None = None
    present: tuple[str, ...] = ()  # labels that the case shows, whichever kind the task is
    answers: tuple[AnswerFile, ...] = ()
    more_images: tuple[ImageFile, ...] = ()  # volumes: the channels after the first
    interpolated: tuple[int, ...] = ()  # volumes: slices nobody drew, filled from their neighbours

    @property
    def is_volume(self) -> bool:
        return self.image.name.endswith(SUFFIX)

    @property
    def images(self) -> tuple[ImageFile, ...]:
        """All image files of the case, the first channel first."""
        return (ImageFile(self.image, self.image_sha256), *self.more_images)


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A case with an answer that could not be used."""

    case: str
    reason: str  # a sentence for people
    answers: tuple[AnswerFile, ...] = ()


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A frozen, hashed set of cases and their truth."""

    id: str
    task: str
    kind: Kind
    multi_label: bool
    scheme: LabelScheme
    cases: tuple[SnapshotCase, ...]
    folder: Path
    created_at: str
    left_out: tuple[LeftOut, ...] = ()
    fill: Fill = "unseen"  # volumes: which slices without regions were interpolated

    def of(self, split: Split) -> tuple[SnapshotCase, ...]:
        """The cases of one split."""
        return tuple(case for case in self.cases if case.split == split)


def manifest_record(
    snapshot: Snapshot, task_root: Path, files: Mapping[str, str]
) -> dict[str, Any]:
    """The manifest of a snapshot whose files, with their hashes, lie in `snapshot.folder`."""
    has_volumes = any(case.is_volume for case in snapshot.cases)
    return {
        "format": 1,
        "snapshot": snapshot.id,
        "task": snapshot.task,
        "kind": snapshot.kind,
        "multi_label": snapshot.multi_label,
        **({"fill": snapshot.fill} if has_volumes else {}),
        "created_at": snapshot.created_at,
        "labels": [
            {"name": label.name, "index": label.index, "color": label.color}
            for label in snapshot.scheme.labels
        ],
        "cases": [_case_record(case, snapshot.folder, task_root) for case in snapshot.cases],
        "left_out": [
            {"case": one.case, "reason": one.reason, "annotations": _answer_records(one.answers)}
            for one in snapshot.left_out
        ],
        "files": dict(files),
    }


def parse_manifest(record: Mapping[str, Any], folder: Path) -> Snapshot:
    """The snapshot that a manifest describes; `folder` is where it lies.

    Raises:
        SnapshotError: a key is missing or of the wrong type, or a path leaves the task's folder.
    """
    try:
        labels = tuple(
            Label(str(one["name"]), int(one["index"]), str(one["color"]))
            for one in record["labels"]
        )
        if record["kind"] not in ("classification", "segmentation"):
            raise SnapshotError(f"{folder}: kind is {record['kind']!r}")
        return Snapshot(
            id=str(record["snapshot"]),
            task=str(record["task"]),
            kind=cast(Kind, record["kind"]),
            multi_label=bool(record["multi_label"]),
            scheme=LabelScheme(labels),
            cases=tuple(_parse_case(one, folder, record["files"]) for one in record["cases"]),
            folder=folder,
            created_at=str(record["created_at"]),
            left_out=tuple(_parse_left_out(one) for one in record.get("left_out", ())),
            fill="between" if record.get("fill") == "between" else "unseen",
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise SnapshotError(f"{folder}: {error!r} while reading the manifest") from error


def _case_record(case: SnapshotCase, folder: Path, task_root: Path) -> dict[str, Any]:
    record: dict[str, Any] = {
        "case": case.case,
        "patient": case.patient,
        "split": case.split,
        "image": case.image.relative_to(task_root).as_posix(),
        "image_sha256": case.image_sha256,
        "labels": case.labels.relative_to(folder).as_posix() if case.labels else None,
        "classes": None if case.classes is None else list(case.classes),
        "present": list(case.present),
        "annotations": _answer_records(case.answers),
    }
    if not case.is_volume:
        return record
    channels = [
        {"image": one.path.relative_to(task_root).as_posix(), "sha256": one.sha256}
        for one in case.more_images
    ]
    return record | {"more_images": channels, "interpolated": list(case.interpolated)}


def _answer_records(answers: tuple[AnswerFile, ...]) -> list[dict[str, str]]:
    return [{"file": answer.file, "sha256": answer.sha256} for answer in answers]


def _parse_case(record: Mapping[str, Any], folder: Path, files: Mapping[str, str]) -> SnapshotCase:
    split, labels, classes = record["split"], record["labels"], record["classes"]
    if split not in SPLITS:
        raise SnapshotError(f"{folder}: split is {split!r}, expected one of {', '.join(SPLITS)}")
    return SnapshotCase(
        case=str(record["case"]),
        patient=str(record["patient"]),
        split=cast(Split, split),
        image=_inside(folder.parent.parent, record["image"]),
        image_sha256=str(record["image_sha256"]),
        labels=None if labels is None else _inside(folder, labels),
        classes=None if classes is None else tuple(str(name) for name in classes),
        labels_sha256=None if labels is None else str(files[labels]),
        present=tuple(str(name) for name in record.get("present", ())),
        answers=_parse_answers(record["annotations"]),
        more_images=tuple(
            ImageFile(_inside(folder.parent.parent, one["image"]), str(one["sha256"]))
            for one in record.get("more_images", ())
        ),
        interpolated=tuple(map(int, record.get("interpolated", ()))),
    )


def _parse_left_out(record: Mapping[str, Any]) -> LeftOut:
    answers = _parse_answers(record["annotations"])
    return LeftOut(str(record["case"]), str(record["reason"]), answers)


def _parse_answers(records: list[Mapping[str, Any]]) -> tuple[AnswerFile, ...]:
    return tuple(AnswerFile(str(one["file"]), str(one["sha256"])) for one in records)


def _inside(root: Path, name: str) -> Path:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts:
        raise SnapshotError(f"path is {name!r}, expected one inside {root}")
    return root / path
