"""data/: the newest snapshot in plain folders, for people's own scripts.

    data/train/<class>/<case>.png          classification; so is validation/
    data/test/<case>.png                   the held-out cases are not sorted by class …
    data/train/images/<case>.png           segmentation; so are validation/ and test/
    data/train/masks/<case>.png            label map: one index per pixel
    data/labels.csv                        … this says it, with patients, images and masks
    data/snapshot.json                     which snapshot this is

Volumes lie at the same places as `<case>.nii.gz`; one of several channels as
`<case>_0000.nii.gz`, `<case>_0001.nii.gz` …, as nnU-Net wants it, and its mask as `<case>.nii.gz`.
What people noted about the cases in cases.csv follows in further columns of labels.csv.

Files are hard links where the share has them, so that the view costs no space. The folder is
replaced as a whole; one that Labloop did not write is left alone. Where several classes may hold
at once there are no class folders.
"""

import contextlib
import csv
import re
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

from imaging.dataset.cases import load_case
from imaging.dataset.manifest import Snapshot, SnapshotCase
from imaging.errors import ImagingError, SnapshotError
from imaging.io.nifti import SUFFIX
from imaging.labels import LabelScheme
from imaging.layout import TaskFolder
from imaging.publish import STAGING, link_or_copy, read_json, staging_folder, write_json

NAME_FILE = "snapshot.json"
TABLE = "labels.csv"
COLUMNS = ("case", "patient", "split", "classes", "image", "mask")
README = """Labloop wrote this folder from the newest snapshot, and replaces it as a whole with the
next one. Read from it as you like; keep nothing of your own in it. labels.csv lists every case.
"""


def shown_snapshot(task: TaskFolder) -> str | None:
    """The snapshot that data/ shows now; None when there is no such folder.

    Raises:
        SnapshotError: somebody else's folder has that name.
    """
    if not task.data.exists():
        return None
    path = task.data / NAME_FILE
    if not path.is_file():
        if task.data.is_dir() and not any(task.data.iterdir()):
            return None
        raise SnapshotError(
            f"{task.data} was not written by Labloop",
            hint="Rename it; Labloop writes the newest snapshot there.",
        )
    return str(read_json(path).get("snapshot"))


def show_snapshot(task: TaskFolder, snapshot: Snapshot) -> None:
    """Replace data/ by this snapshot; readers see the old folder, for an instant none, the new.

    A process that dies in that instant leaves no data/ behind; showing it again mends that.

    Raises:
        SnapshotError: somebody else's folder has that name.
    """
    shown_snapshot(task)
    old = task.root / STAGING / "old-data"
    with staging_folder(task.data) as staging:
        _fill(staging, snapshot)
        shutil.rmtree(old, ignore_errors=True)
        # Symbolic links do not work on SMB, and folders cannot be exchanged there.
        if task.data.exists():
            task.data.rename(old)
        staging.rename(task.data)
        shutil.rmtree(old, ignore_errors=True)


def folder_names(scheme: LabelScheme) -> dict[str, str]:
    """Label → folder name: as it is where that is safe, made safe and unique where not."""
    names: dict[str, str] = {}
    for label in scheme.labels:
        name = re.sub(r"[^\w+=@ -]", "_", label.name).strip()
        taken = {used.casefold() for used in names.values()}
        names[label.name] = f"{name}_{label.index}" if name.casefold() in taken else name
    return names


def _fill(staging: Path, snapshot: Snapshot) -> None:
    folders = folder_names(snapshot.scheme)
    noted = {case.case: _metadata(case) for case in snapshot.cases}
    columns = metadata_columns(noted.values())
    with (staging / TABLE).open("w", newline="", encoding="utf-8") as stream:
        table = csv.writer(stream)
        table.writerow([*COLUMNS, *columns.values()])
        for case in snapshot.cases:
            images, mask = _places(case, snapshot, folders)
            for image, place in zip(case.images, images, strict=True):
                _show(image.path, staging / place)
            if case.labels is not None:
                _show(case.labels, staging / mask)
            classes = "|".join(case.classes if case.classes is not None else case.present)
            row = [case.case, case.patient, case.split, classes, "|".join(images), mask]
            table.writerow([*row, *(noted[case.case].get(name, "") for name in columns)])
    (staging / "README.txt").write_text(README, encoding="utf-8")
    write_json(staging / NAME_FILE, {"format": 1, "snapshot": snapshot.id})


def _metadata(case: SnapshotCase) -> Mapping[str, str]:
    """What people noted about a case; nothing where that cannot be read: the labels still can."""
    try:
        return load_case(case.image.parent).metadata
    except ImagingError:
        return {}


def metadata_columns(noted: Iterable[Mapping[str, str]]) -> dict[str, str]:
    """Name in cases.csv → column of labels.csv, sorted; none hides a column of our own."""
    names = sorted({name for one in noted for name in one})
    ours = {column.casefold() for column in COLUMNS}
    return {name: f"{name} (cases.csv)" if name.casefold() in ours else name for name in names}


def _places(
    case: SnapshotCase, snapshot: Snapshot, folders: dict[str, str]
) -> tuple[list[str], str]:
    """Where a case's images and mask go, relative to data/; an empty text for no mask."""
    suffix = SUFFIX if case.is_volume else case.image.suffix
    numbers = [f"_{number:04d}" for number in range(len(case.images))] if case.more_images else [""]
    names = [f"{case.case}{number}{suffix}" for number in numbers]
    if case.labels is not None:
        mask = f"{case.split}/masks/{case.case}{SUFFIX if case.is_volume else '.png'}"
        return [f"{case.split}/images/{name}" for name in names], mask
    if case.split == "test" or snapshot.multi_label or not case.classes:
        return [f"{case.split}/{name}" for name in names], ""
    return [f"{case.split}/{folders[case.classes[0]]}/{name}" for name in names], ""


def _show(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    link_or_copy(source, target)
    with contextlib.suppress(PermissionError):
        target.chmod(0o444)  # a link is the case's own image: nobody may write through it
