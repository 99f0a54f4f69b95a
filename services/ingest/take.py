"""One picture in rawdata becomes one case, and what was known about it becomes its label."""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from imaging.dataset.annotations import (
    AnnotationRecord,
    annotation_files,
    land,
    newest_revisions,
)
from imaging.dataset.cases import CaseRecord, CaseSource, load_case
from imaging.errors import GridMismatchError, PictureError, RecordError
from imaging.ids import utc_now
from imaging.io.casesheet import CaseRow, CaseSheet
from imaging.io.mask import PixelArray, labels_from_mask
from imaging.io.picture import (
    Picture,
    PictureLimits,
    decode_mask,
    decode_picture,
    is_turned,
    pixel_digest,
    png_bytes,
    preview_pixels,
    read_file,
)
from imaging.io.sniff import volume_format
from imaging.io.volumes import LIMITS, VolumeLimits
from imaging.labelstudio.results import results_from_classes, results_from_label_map
from imaging.layout import TaskFolder
from imaging.publish import (
    MANIFEST,
    manifest_files,
    publish,
    staging_folder,
    write_bytes,
    write_json,
)
from imaging.task import TaskConfig
from services.ingest.errors import RefusedError
from services.ingest.inside import may_be_there, opened_folder
from services.ingest.names import composed, patient_key, pseudonym
from services.ingest.tree import class_folder

SERIES = "dicom:"  # before the hash that stands for the place of a DICOM series
IMAGE, PREVIEW, RECORD = "image.png", "preview.png", "case.json"


@dataclass(frozen=True, slots=True)
class Intake:
    """What must be known about a task to take its files in."""

    task: TaskFolder
    config: TaskConfig
    sheet: CaseSheet | None
    pseudonym_key: str
    limits: PictureLimits
    # A picture's path → other pictures there that have its bare name.
    namesakes: Callable[[str], Sequence[str]] = lambda _: ()
    # A case → the files that are known to have made it.
    holders: Callable[[str], Sequence[str]] = lambda _: ()
    volume_limits: VolumeLimits = LIMITS
    beat: Callable[[], None] = lambda: None


def take_picture(intake: Intake, path: str) -> CaseRecord:
    """The case of a picture: made, or found when the picture was taken before.

    Args:
        intake: the task.
        path: the file, below rawdata.

    Raises:
        PictureError: the file is no whole picture.
        RefusedError: it is another case's picture, or its class is unknown.
        OSError: it cannot be read, or the case cannot be written; nothing is half-made.
    """
    data = _read(intake, path)
    picture = _decoded(data, intake.limits)
    case_id = f"case-{pixel_digest(picture.pixels)[:16]}"
    if intake.task.case_record(case_id).is_file():
        return _known_case(intake, case_id, path)
    classes_of(intake, path)  # refuses an unknown class before anything is made
    record = _describe(intake, path, case_id, picture, data)
    _publish(intake.task, record, picture.pixels)
    return record


def classes_of(intake: Intake, path: str) -> tuple[str, ...]:
    """The classes that the folder or cases.csv give a picture; empty = to be labelled.

    Raises:
        RefusedError: `unknown-class`, `contradiction` or `name-twice`.
    """
    if intake.config.kind != "classification":
        return ()
    folder = class_folder(path)
    row = row_of(intake, path)
    listed = tuple(dict.fromkeys(composed(name) for name in row.labels)) if row else ()
    known = {composed(name): name for name in intake.config.scheme.names}
    for name in listed if listed else (folder,):
        if name is not None and name not in known:
            raise RefusedError(
                "unknown-class", f"class {name!r}; the task knows {', '.join(known)}"
            )
    if len(listed) > 1 and not intake.config.multi_label:
        raise RefusedError("contradiction", f"{len(listed)} classes in cases.csv, one may hold")
    if listed and folder in known and folder not in listed:
        raise RefusedError(
            "contradiction", f"folder {folder!r}, but cases.csv says {', '.join(listed)}"
        )
    return tuple(known[name] for name in (listed or (folder,)) if name is not None)


def row_of(intake: Intake, path: str) -> CaseRow | None:
    """What cases.csv says about a picture.

    Raises:
        RefusedError: `name-twice`: it says it by a bare name that another picture has, too, and
            the wrong one could get the label or the patient.
    """
    row = intake.sheet.find(path) if intake.sheet else None
    if row is None and intake.sheet is not None and intake.config.is_volume:
        return intake.sheet.find_folder(path)  # of a DICOM series
    if row is None or intake.sheet is None or not intake.sheet.goes_by_name(path):
        return row
    rival = next((one for one in intake.namesakes(path) if intake.sheet.find(one) is row), None)
    if rival is not None:
        raise RefusedError("name-twice", f"{row.file!r} in cases.csv may mean {path} or {rival}")
    return row


def land_classes(intake: Intake, path: str, case: str) -> bool:
    """Land the classes that came with a picture; whether there was a label to land."""
    names = classes_of(intake, path)
    return bool(names) and _land(intake.task, case, results_from_classes(names, None))


def contradicts_import(intake: Intake, path: str, case: str) -> bool:
    """Whether a picture's place names other classes than those that came with its case before."""
    names = classes_of(intake, path)
    if not names:
        return False
    results = tuple(results_from_classes(names, None))
    try:
        records = newest_revisions(intake.task, case)
    except RecordError:  # what it said is not known
        return False
    return all(record.results != results for record in records if record.origin == "import")


def land_mask(intake: Intake, path: str, picture_path: str, case: str) -> bool:
    """Land the mask that came with a picture; whether there was a label to land.

    Args:
        intake: the task.
        path: the mask, below rawdata.
        picture_path: its picture, below rawdata.
        case: the picture's case.

    Raises:
        PictureError: the mask is no whole picture, or its values mean nothing certain.
        GridMismatchError: it has other rows or columns than the picture.
        RefusedError: `mask-rotated`: whether the mask knew of the picture's turn is unknown.
    """
    if _has_answers(intake.task, case):
        return False
    if is_turned(_read(intake, picture_path), intake.limits):
        raise RefusedError("mask-rotated", "a mask of a picture that EXIF turns or flips")
    scheme = intake.config.scheme
    pixels = decode_mask(_read(intake, path), scheme, intake.limits)
    shape_HW = load_case(intake.task.case(case)).shape_HW
    if pixels.shape[:2] != shape_HW:
        raise GridMismatchError(shape_HW, pixels.shape[:2])
    labels_HW = labels_from_mask(pixels, scheme)
    return _land(intake.task, case, results_from_label_map(labels_HW, scheme))


def read_inside(task: TaskFolder, path: str, limits: PictureLimits) -> bytes:
    """The bytes of a file that really lies below rawdata, not behind a link on the way.

    Raises:
        PictureError: it is no plain file, is empty or too large.
        RefusedError: `symlink` or `permission-denied`.
        OSError: it cannot be read for another reason.
    """
    with refused_links(), opened_folder(task.rawdata, path) as (folder, name):
        return read_file(Path(name), limits, folder=folder)


@contextmanager
def refused_links() -> Iterator[None]:
    """Refuse what lies behind a link, and what may not be read.

    Raises:
        RefusedError: `symlink` or `permission-denied`.
    """
    try:
        yield
    except NotADirectoryError as error:
        raise RefusedError("symlink", "a file behind a symbolic link") from error
    except PermissionError as error:
        raise RefusedError("permission-denied", "a file that ingest may not read") from error


def published_cases(task: TaskFolder) -> Iterator[Path]:
    """The case folders there are."""
    if not task.cases.is_dir():
        return
    for folder in task.cases.iterdir():
        if not folder.name.startswith(".") and (folder / RECORD).is_file():
            yield folder


def patient_of(intake: Intake, path: str) -> str:
    """The pseudonym of the patient that a picture belongs to."""
    row = row_of(intake, path)
    return pseudonym(intake.pseudonym_key, (row.patient if row else "") or patient_key(path))


def _read(intake: Intake, path: str) -> bytes:
    return read_inside(intake.task, path, intake.limits)


def _decoded(data: bytes, limits: PictureLimits) -> Picture:
    try:
        return decode_picture(data, limits)
    except PictureError as error:
        found = volume_format(data[:512]) if error.reason == "not-an-image" else None
        if found is None:
            raise
        raise RefusedError(
            "volume-among-pictures", f"a {found} file in a task of pictures"
        ) from error


def _known_case(intake: Intake, case_id: str, path: str) -> CaseRecord:
    """The case that has these pixels, unless they are another file's, still there."""
    record = load_case(intake.task.case(case_id))
    first = record.source.path
    if first != path and may_be_there(intake.task.rawdata, first):
        raise RefusedError("duplicate", f"the same pixels as {case_id}, made from {first}")
    return record  # the same file, or one that was renamed or moved within rawdata


def _describe(intake: Intake, path: str, case_id: str, picture: Picture, data: bytes) -> CaseRecord:
    row = row_of(intake, path)
    pixels = picture.pixels
    is_deep = pixels.dtype.itemsize == 2
    return CaseRecord(
        case=case_id,
        task=intake.task.name,
        patient=patient_of(intake, path),
        image=IMAGE,
        preview=PREVIEW if is_deep else IMAGE,
        shape_HW=(int(pixels.shape[0]), int(pixels.shape[1])),
        channels=1 if pixels.ndim == 2 else int(pixels.shape[2]),
        bits=16 if is_deep else 8,
        source=CaseSource(path, hashlib.sha256(data).hexdigest(), len(data)),
        created_at=utc_now(),
        metadata=dict(row.metadata) if row else {},
    )


def _publish(task: TaskFolder, record: CaseRecord, pixels: PixelArray) -> None:
    final = task.case(record.case)
    with staging_folder(final) as folder:
        write_bytes(folder / IMAGE, png_bytes(pixels))
        if record.preview == PREVIEW:
            write_bytes(folder / PREVIEW, png_bytes(preview_pixels(pixels)))
        write_json(folder / RECORD, record.to_json())
        manifest = {"format": 1, "case": record.case, "files": manifest_files(folder)}
        write_json(folder / MANIFEST, manifest)
        publish(folder, final)


def _has_answers(task: TaskFolder, case: str) -> bool:
    return next(annotation_files(task.case_annotations(case)), None) is not None


def _land(task: TaskFolder, case: str, results: Sequence[Mapping[str, Any]]) -> bool:
    """Land an imported answer, unless the case has one: people correct it in Label Studio."""
    if _has_answers(task, case):
        return False
    canonical = json.dumps([case, results], sort_keys=True, separators=(",", ":"))
    key = f"import-{hashlib.sha256(canonical.encode()).hexdigest()[:12]}"
    now = utc_now()
    record = AnnotationRecord(
        case=case,
        key=key,
        origin="import",
        annotator="import",
        updated_at=now,
        results=tuple(results),
        landed_at=now,
    )
    land(task, record)
    return True
