"""The task.yaml of a task of volumes that has none: guessed, for a person to look over.

dataset.json is believed first, then DICOM headers, then the voxels themselves.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from imaging.errors import PictureError, RecordError
from imaging.io.casesheet import CaseSheet
from imaging.io.volumes import read_volume
from imaging.labels import MAX_LABELS, LabelScheme, label_scheme
from imaging.layout import TaskFolder
from imaging.task import TaskConfig, VolumePolicy, is_modality
from imaging.volume import Volume
from services.ingest.description import describe_volumes, read_document
from services.ingest.dicom_head import DicomHead, read_head
from services.ingest.errors import HoldError, RefusedError
from services.ingest.inferred import what_of
from services.ingest.inside import held_paths
from services.ingest.names import CHANNEL, stem_of
from services.ingest.take import refused_links
from services.ingest.tree import Arrangement, arrangement, is_contest_input, place_of

FALLBACK = "MR"
# Every label map is read where that takes seconds; of more, so many bytes, evenly spread.
LABEL_BYTES_READ = 256 << 20
HEADS_READ = 200  # DICOM files that are asked for their modality, evenly spread
LEAST_IN_CLASS = 2  # one volume in each of some folders: the folders are cases
AIR_HU = -900.0  # only CT has values as low; every CT shows some air


@dataclass(frozen=True, slots=True)
class VolumeFiles:
    """The files that a task is guessed from, below rawdata."""

    files: Sequence[str]  # NIfTI, NRRD
    dicom: Sequence[str]
    beat: Callable[[], None] = lambda: None


def infer_volume_task(
    task: TaskFolder, found: VolumeFiles, sheet: CaseSheet | None
) -> tuple[TaskConfig, str]:
    """What a task of volumes seems to be, and a sentence why.

    Args:
        task: the task folder.
        found: the volumes in rawdata, at least one; all have settled.
        sheet: its cases.csv.

    Raises:
        HoldError: there are only label maps, or what is there cannot be used.
    """
    described = describe_volumes(read_document(task))
    files = [path for path in found.files if not is_contest_input(path)]
    labels = [path for path in files if _is_label_map(path, sheet)]
    images = [path for path in files if path not in set(labels)]
    heads = list(_heads(task, found))
    if not images and not any(head.is_image for head in heads):
        raise HoldError("no task.yaml yet: no volume to be labelled has come")
    arranged = _arranged(images, labels, sheet)
    channels = _channels(images, sheet, described.channels)
    modality, because = _modality(task, images, heads, described.modality)
    try:
        names = arranged.classes or described.labels or _structures(heads)
        scheme = label_scheme(names) if names else _scheme_of(task, labels, found.beat)
    except RecordError as error:
        raise HoldError(f"no task.yaml, and none can be guessed: {error}") from error
    config = TaskConfig(
        arranged.kind,
        scheme,
        title=what_of(task).replace("_", " "),
        modality=modality,
        multi_label=arranged.multi_label,
        volume=VolumePolicy(channels=channels),
    )
    return config, f"{arranged.because}; {because}"


def can_be_read(task: TaskFolder, found: VolumeFiles) -> bool:
    """Whether one volume at least is no damaged file."""
    if any(head.is_image or head.is_label for head in _heads(task, found)):
        return True
    return any(_volume(task, path) is not None for path in found.files)


def _is_label_map(path: str, sheet: CaseSheet | None) -> bool:
    row = sheet.find(path) if sheet else None
    return place_of(path).is_mask or (row is not None and row.is_label_map)


def _arranged(images: list[str], labels: list[str], sheet: CaseSheet | None) -> Arrangement:
    if labels and images:
        because = f"{len(labels)} label maps lie beside {len(images)} volumes"
        return Arrangement("segmentation", (), tuple(labels), False, because)
    return arrangement(images, sheet, what="volumes", least=LEAST_IN_CLASS)


def _channels(
    images: Sequence[str], sheet: CaseSheet | None, described: Sequence[str]
) -> tuple[str, ...]:
    """The channels of a case in order; empty for one."""
    if sheet is not None and sheet.channels:
        return sheet.channels if len(sheet.channels) > 1 else ()
    if described:
        return tuple(described) if len(described) > 1 else ()
    numbers: dict[str, set[int]] = defaultdict(set)
    for path in images:
        match = CHANNEL.fullmatch(stem_of(path))
        if match is None:
            return ()
        numbers[match[1]].add(int(match[2]))
    kinds = {frozenset(one) for one in numbers.values()}
    if len(kinds) != 1:
        return ()
    (found,) = kinds
    is_complete = len(found) > 1 and found == set(range(len(found)))
    return tuple(f"channel {number}" for number in sorted(found)) if is_complete else ()


def _modality(
    task: TaskFolder, images: Sequence[str], heads: Sequence[DicomHead], described: str
) -> tuple[str, str]:
    if described:
        return described, f"the modality {described} is that of dataset.json"
    named = Counter(h.modality for h in heads if h.is_image and is_modality(h.modality))
    if named:
        found = named.most_common(1)[0][0]
        return found, f"the modality {found} is that of the DICOM files"
    for path in images:
        volume = _volume(task, path)
        if volume is not None:
            if volume.voxels_CXYZ.dtype.kind != "u" and volume.voxels_CXYZ.min() <= AIR_HU:
                return "CT", "the modality CT was guessed, as values look like HU"
            break
    return FALLBACK, f"the modality {FALLBACK} was guessed: nothing says it"


def _structures(heads: Iterable[DicomHead]) -> tuple[str, ...]:
    """What DICOM-SEG and RTSTRUCT objects call what they outline, in the order of meeting it."""
    found: dict[str, str] = {}
    for head in heads:
        for name in head.structures:
            plain = re.sub(r"\s+", " ", name).strip()
            if plain.isprintable() and plain:
                found.setdefault(plain.casefold(), plain)
    return tuple(found.values())[:MAX_LABELS]


def _scheme_of(task: TaskFolder, labels: Sequence[str], beat: Callable[[], None]) -> LabelScheme:
    """Labels by the largest value in the label maps; one of one structure has the task's name."""
    top = 0
    for volume in _some(task, labels):
        highest = float(volume.voxels_CXYZ.max())
        if highest == np.rint(highest) and highest <= MAX_LABELS:
            top = max(top, int(highest))
        beat()
    what = what_of(task)
    return label_scheme([f"label {number}" for number in range(1, top + 1)] if top > 1 else [what])


def _some(task: TaskFolder, paths: Sequence[str]) -> Iterator[Volume]:
    sizes = [_size_bytes(task, path) for path in paths]
    step = max(1, -(-sum(sizes) // LABEL_BYTES_READ))
    for path in paths[::step]:
        volume = _volume(task, path)
        if volume is not None:  # else it will be met again, and refused, when its turn comes
            yield volume


def _size_bytes(task: TaskFolder, path: str) -> int:
    try:
        return (task.rawdata / path).lstat().st_size
    except OSError:
        return 0


def _volume(task: TaskFolder, path: str) -> Volume | None:
    try:
        with refused_links(), held_paths(task.rawdata, [path]) as (file,):
            return read_volume(file)
    except (PictureError, RefusedError, OSError):
        return None


def _heads(task: TaskFolder, found: VolumeFiles) -> Iterator[DicomHead]:
    paths = [path for path in found.dicom if not is_contest_input(path)]
    for path in paths[:: max(1, len(paths) // HEADS_READ)]:
        head = read_head(task.rawdata, path)
        found.beat()
        if head is not None:
            yield head
