"""Annotations as they landed on the NAS: append-only, one file per revision.

`annotations/<case>/<task>-<annotation>.json` is the first revision of an annotation of Label
Studio, `<task>-<annotation>.r2.json` the second, and so on; a deletion is a revision too.
`import-<hash>.json` is a label that came with the image (class folder, mask, cases.csv); of a
volume, `import-<hash>.nii.gz` beside it holds the label map.
Nothing is ever rewritten, so that every snapshot can be made again.
"""

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, TypeVar

from imaging.errors import RecordError
from imaging.layout import TaskFolder
from imaging.publish import read_json, write_bytes

Value = TypeVar("Value")
Origin = Literal["label_studio", "import"]
FILE_NAME = re.compile(r"(?P<key>\d+-\d+|import-[0-9a-f]{12})(\.r(?P<revision>\d+))?\.json")
LABEL_MAP = re.compile(r"import-[0-9a-f]{12}\.nii\.gz")
UNREADABLE = "unreadable"  # type of the one result that stands for an answer without a result list


@dataclass(frozen=True, slots=True)
class AnnotationRecord:
    """One revision of one person's answer about one case.

    `results` is Label Studio's own result list, unchanged: an empty list says "nothing to see
    here", which is an answer. `annotator` is Label Studio's user number or `import`.
    """

    case: str
    key: str  # "<task>-<annotation>" or "import-<12 hex digits>"
    origin: Origin
    annotator: str
    updated_at: str  # ISO 8601 UTC; orders revisions and annotations
    results: tuple[Mapping[str, Any], ...]
    revision: int = 1
    deleted: bool = False
    skipped: bool = False  # Label Studio's was_cancelled: no answer was given (or was deleted)
    lead_time_s: float | None = None
    model_version: str | None = None  # the prediction the annotator started from
    landed_at: str = ""
    # Volumes: the slice (a RAS+ voxel index along the paged axis) that each picture of the task
    # showed when it was answered, by item_index. None for pictures, and for imported labels of
    # volumes, whose pictures are all slices in order.
    items: tuple[int, ...] | None = None
    # Imported labels of volumes: a file beside the record holds them, and `results` is empty.
    label_map: str | None = None  # import-<12 hex digits>.nii.gz, on the image's grid
    label_map_sha256: str | None = None
    label_names: tuple[str, ...] | None = None  # of the indices in it, from 1; None = the task's
    shown_digest: str | None = None  # `digest` of what Label Studio was given of it: its slices

    @property
    def file_name(self) -> str:
        return f"{self.key}.json" if self.revision == 1 else f"{self.key}.r{self.revision}.json"

    @property
    def counts(self) -> bool:
        """Whether this revision is an answer that can train."""
        return not self.deleted and not self.skipped

    @property
    def readable(self) -> bool:
        """Whether there is a result list to decode; see `as_results`."""
        return all(result.get("type") != UNREADABLE for result in self.results)

    @property
    def digest(self) -> str:
        """SHA-256 of what was answered, whoever answered and whenever."""
        said: list[object] = [list(self.results), self.deleted, self.skipped]
        if self.label_map is not None:
            said.append(self.label_map_sha256)
        return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()

    def to_json(self) -> dict[str, Any]:
        record = {field.name: getattr(self, field.name) for field in fields(self)}
        return {"format": 1} | record | {"results": list(self.results)}


def parse_annotation(record: Mapping[str, Any], *, where: str) -> AnnotationRecord:
    """The record in a landed file.

    Raises:
        RecordError: a key is missing or of the wrong type.
    """
    try:
        lead_time = record["lead_time_s"]
        results = record["results"]
        if not isinstance(results, list) or not all(isinstance(one, dict) for one in results):
            raise RecordError(f"{where}: results is not a list of objects")
        return AnnotationRecord(
            case=str(record["case"]),
            key=str(record["key"]),
            origin="import" if record["origin"] == "import" else "label_studio",
            annotator=str(record["annotator"]),
            updated_at=str(record["updated_at"]),
            results=tuple(results),
            revision=int(record["revision"]),
            deleted=bool(record["deleted"]),
            skipped=bool(record["skipped"]),
            lead_time_s=None if lead_time is None else float(lead_time),
            model_version=record["model_version"],
            landed_at=str(record["landed_at"]),
            items=_several(int, record.get("items")),
            label_map=_label_map(record.get("label_map"), where),
            label_map_sha256=_text_or_none(record.get("label_map_sha256")),
            label_names=_several(str, record.get("label_names")),
            shown_digest=_text_or_none(record.get("shown_digest")),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise RecordError(f"{where}: {error!r} while reading an annotation") from error


def _label_map(found: object, where: str) -> str | None:
    name = _text_or_none(found)
    if name is not None and not LABEL_MAP.fullmatch(name):
        raise RecordError(f"{where}: label_map is {name!r:.60}, expected import-….nii.gz")
    return name


def _several(kind: Callable[[Any], Value], found: Iterable[Any] | None) -> tuple[Value, ...] | None:
    return None if found is None else tuple(map(kind, found))


def _text_or_none(found: object) -> str | None:
    return None if found is None else str(found)


def as_results(payload: object) -> tuple[Mapping[str, Any], ...]:
    """An answer as it came, as results.

    What is no list of objects is kept whole inside one result of type `unreadable`: nothing that
    came from Label Studio is lost, and a snapshot leaves the case out with a reason.
    """
    if isinstance(payload, list) and all(isinstance(one, dict) for one in payload):
        return tuple(payload)
    return ({"type": UNREADABLE, "raw": payload},)


def annotation_files(folder: Path) -> Iterator[Path]:
    """The landed files of one case, oldest revision of each annotation first."""
    if not folder.is_dir():
        return
    matches = [(FILE_NAME.fullmatch(path.name), path) for path in folder.iterdir()]
    known = [(match["key"], int(match["revision"] or 1), path) for match, path in matches if match]
    for _, _, path in sorted(known):
        yield path


def land(task: TaskFolder, record: AnnotationRecord) -> Path:
    """Write one revision; landing the same revision twice leaves the first file as it is."""
    path = task.case_annotations(record.case) / record.file_name
    if not path.exists():
        write_bytes(path, _as_text(record))
    return path


def _as_text(record: AnnotationRecord) -> bytes:
    """A line per key: indented, a mask's run lengths would take a line per number."""
    pairs = [
        f"  {json.dumps(key)}: {json.dumps(value, ensure_ascii=False)}"
        for key, value in record.to_json().items()
    ]
    # Half a surrogate pair is valid JSON, so people can submit it; read_json reads it as written.
    return ("{\n" + ",\n".join(pairs) + "\n}\n").encode("utf-8", "surrogatepass")


def newest_revisions(task: TaskFolder, case: str) -> list[AnnotationRecord]:
    """The newest revision of every annotation of a case, deletions included."""
    newest: dict[str, Path] = {}
    for path in annotation_files(task.case_annotations(case)):
        newest[path.name.split(".")[0]] = path
    records = [parse_annotation(read_json(path), where=str(path)) for path in newest.values()]
    return sorted(records, key=lambda record: (record.updated_at, record.key))


def current_answers(task: TaskFolder, case: str) -> list[AnnotationRecord]:
    """The answers that count for a case now, oldest first, one per annotator.

    See `answers_among` for which ones count.
    """
    return answers_among(newest_revisions(task, case))


def answers_among(newest: Iterable[AnnotationRecord]) -> list[AnnotationRecord]:
    """Of the newest revisions of a case, the answers that count, oldest first.

    What people did in Label Studio, deleting included, supersedes a label that came with the
    image; skipping it is no answer and leaves it as it is. Of several annotations by one person
    the newest counts.
    """
    ordered = sorted(newest, key=lambda record: (record.updated_at, record.key))
    by_people = [one for one in ordered if one.origin == "label_studio" and not one.skipped]
    latest = {record.annotator: record for record in (by_people or ordered) if record.counts}
    return sorted(latest.values(), key=lambda record: (record.updated_at, record.key))
