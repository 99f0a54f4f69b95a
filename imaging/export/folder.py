"""The frame of every export: a folder that appears whole, and says what it was made from.

    cases.csv       every case with patient, split, labels and the columns of the lab's cases.csv
    manifest.json   the snapshot, and the SHA-256 of every file; written last

Images and label maps are hard links where the share has them, read-only, and each is compared with
its hash in the snapshot: what has changed since is refused, not exported.
"""

import contextlib
import csv
import io
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from imaging.dataset.cases import CaseRecord, load_case
from imaging.dataset.manifest import Snapshot, SnapshotCase
from imaging.errors import ExportError
from imaging.ids import utc_now
from imaging.publish import (
    MANIFEST,
    STAGING,
    link_or_copy,
    publish,
    read_json,
    sha256_of,
    staging_folder,
    write_json,
)

TABLE = "cases.csv"
COLUMNS = ("case", "patient", "split", "labels", "interpolated")  # then the lab's own
CHANGED = (
    "Restore the file from a backup, or freeze a new snapshot with `labloop train TASK --now`."
)
Progress = Callable[[int, int], None]  # cases done, of how many


@dataclass(frozen=True, slots=True)
class ExportCase:
    """A case as it was frozen, and what ingest found out about it."""

    frozen: SnapshotCase
    record: CaseRecord

    @property
    def name(self) -> str:
        return self.frozen.case

    @property
    def is_test(self) -> bool:
        return self.frozen.split == "test"

    @property
    def images(self) -> tuple[tuple[Path, str], ...]:
        """The file of each channel with its hash; a picture has one."""
        first = (self.frozen.image, self.frozen.image_sha256)
        return (first, *((one.path, one.sha256) for one in self.frozen.more_images))

    @property
    def channels(self) -> tuple[str, ...]:
        """What the channels are called; those of a colour picture lie in one file."""
        volume = self.record.volume
        if volume is None:
            return ("R", "G", "B") if self.record.channels == 3 else ("grey",)
        return volume.channels or (volume.modality or "image",)

    @property
    def labels(self) -> Path:
        """The label map.

        Raises:
            ExportError: it has none, as in a task of classes.
        """
        if self.frozen.labels is None:
            raise ExportError(f"{self.name} has no label map, expected one")
        return self.frozen.labels


@dataclass(slots=True)
class Export:
    """One export while it is written; names of files are relative to its folder."""

    folder: Path
    snapshot: Snapshot
    files: dict[str, str] = field(default_factory=dict)  # name → SHA-256
    left_out: dict[str, str] = field(default_factory=dict)  # case → why, a sentence

    def link(self, name: str, source: Path, sha256: str | None) -> None:
        """Show a file of the share under another name.

        Raises:
            ExportError: it is not what it was when the snapshot was frozen.
        """
        target = self._place(name)
        try:
            link_or_copy(source, target)
        except OSError as error:
            raise ExportError(f"{source} cannot be read: {error.strerror}", hint=CHANGED) from error
        found = sha256_of(target)
        if sha256 is not None and found != sha256:
            raise ExportError(
                f"{source} has changed since it was frozen: its SHA-256 is {found}, "
                f"expected {sha256}",
                hint=CHANGED,
            )
        with contextlib.suppress(PermissionError):
            target.chmod(0o444)  # a link is the share's own file: nobody may write through it
        self.files[name] = found

    def link_labels(self, name: str, case: ExportCase) -> None:
        self.link(name, case.labels, case.frozen.labels_sha256)

    def write(self, name: str, data: bytes) -> None:
        self._place(name).write_bytes(data)
        self.add(name)

    def write_json(self, name: str, record: Any, *, indent: int | None = 2) -> None:
        separators = None if indent else (",", ":")
        text = json.dumps(record, indent=indent, separators=separators, ensure_ascii=False)
        self.write(name, f"{text}\n".encode())

    def place(self, name: str) -> Path:
        """Where a writer shall put a file itself; `add` it then."""
        return self._place(name)

    def add(self, name: str) -> None:
        """Count a file that lies in the folder already."""
        self.files[name] = sha256_of(self.folder / name)

    def leave_out(self, case: ExportCase, reason: str) -> None:
        """Say that a case is not in the export, and forget what was written of it."""
        self.left_out[case.name] = reason
        place = f"{case.frozen.split}/{case.name}"
        shutil.rmtree(self.folder / place, ignore_errors=True)
        self.files = {k: v for k, v in self.files.items() if not k.startswith(f"{place}/")}

    def _place(self, name: str) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path


Fill = Callable[[Export, Sequence[ExportCase], Progress], None]


def export_snapshot(
    target: Path,
    snapshot: Snapshot,
    what: str,
    fill: Fill,
    progress: Progress = lambda done, of: None,
) -> dict[str, str]:
    """Write a snapshot as `what`, in one step: readers see the whole folder or none.

    Args:
        target: the folder that appears; it must not be there, or be empty.
        snapshot: what is exported.
        what: the format's name, for the manifest.
        fill: writes the files of the format.
        progress: called after each case.

    Returns:
        Case → why it was left out, a sentence; most formats leave none out.

    Raises:
        ExportError: the target holds something, or a case cannot be written so.
    """
    check_target(target)
    try:
        with staging_folder(target) as staging:
            export = Export(staging, snapshot)
            cases = [ExportCase(one, load_case(one.image.parent)) for one in snapshot.cases]
            fill(export, cases, progress)
            export.write(TABLE, _table([one for one in cases if one.name not in export.left_out]))
            record = {
                "format": 1,
                "export": what,
                "task": snapshot.task,
                "snapshot": snapshot.id,
                "snapshot_sha256": sha256_of(snapshot.folder / MANIFEST),
                "created_at": utc_now(),
                "left_out": export.left_out,
                "files": dict(sorted(export.files.items())),
            }
            write_json(staging / MANIFEST, record)
            with contextlib.suppress(FileNotFoundError):
                target.rmdir()
            publish(staging, target)
            return export.left_out
    finally:
        with contextlib.suppress(OSError):  # others may be at work beside us
            (target.parent / STAGING).rmdir()


def check_target(target: Path) -> None:
    """Make sure that nothing would be replaced.

    Raises:
        ExportError: the target is a file, or a folder that holds something.
    """
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ExportError(f"{target} exists and is not empty", hint="Choose another --output.")


def file_hashes(case: ExportCase) -> Mapping[str, Any]:
    """File of the case's folder → SHA-256, as ingest wrote them: previews are not in a snapshot."""
    found = read_json(case.frozen.image.parent / MANIFEST).get("files", {})
    return dict(found)


def metadata(case: ExportCase) -> dict[str, str]:
    """The lab's own columns of a case, those that say something."""
    return {key: value for key, value in case.record.metadata.items() if value}


def _table(cases: Sequence[ExportCase]) -> bytes:
    own = list(dict.fromkeys(name for case in cases for name in case.record.metadata))
    titles = [f"{name}_given" if name in COLUMNS else name for name in own]
    stream = io.StringIO()
    table = csv.writer(stream, lineterminator="\n")
    table.writerow([*COLUMNS, *titles])
    for case in cases:
        frozen = case.frozen
        labels = "|".join(frozen.classes if frozen.classes is not None else frozen.present)
        values = [case.record.metadata.get(name, "") for name in own]
        filled = "|".join(map(str, frozen.interpolated))
        table.writerow([case.name, frozen.patient, frozen.split, labels, filled, *values])
    return stream.getvalue().encode()
