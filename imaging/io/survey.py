"""What the files in a folder are: volumes, pictures, label maps, and what nobody can use.

Everything is read whole, as taking it in would, and nothing is kept. What DICOM headers say about
people stays out of what is told: cases are known by their files.
"""

import os
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from nibabel.affines import obliquity

from imaging.deid.burned_in import says_burned_in
from imaging.errors import ImagingError, PictureError
from imaging.io.dicom.header import text_of
from imaging.io.dicom.labels import segment_names
from imaging.io.dicom.read import read_series
from imaging.io.dicom.references import referenced_instances
from imaging.io.dicom.series import LabelObject, Series, SortedDicom, sort_dicom
from imaging.io.picture import read_picture
from imaging.io.sniff import DICOM, picture_format, volume_format
from imaging.io.volumes import read_volume, same_place
from imaging.publish import LITTER
from imaging.volume import Grid, Volume

HEAD_BYTES = 512
LABEL_FOLDERS = frozenset({"labelstr", "labelsts", "labels", "masks"})  # as ingest knows them
PAPERS = re.compile(
    r"cases\.csv|dataset\.json|sha256sums|(readme|licen[sc]e).*?(\.md|\.txt)?", re.IGNORECASE
)
CHANNEL = re.compile(r"(?P<name>.+)_(?P<channel>\d{4})")
ENDS = (".nii.gz", ".nii", ".nrrd")
MOST_CHANNELS, MOST_OF_ONE = 16, 4  # that a number may mean; where a folder holds one name alone
OBLIQUE_DEG = 0.1
BURNED_IN = "its header says that text is burned in: it would wait for `labloop release`"


@dataclass(frozen=True, slots=True)
class FoundCase:
    """One volume or picture, and the files that it is made of."""

    kind: str  # DICOM, NIfTI, NRRD, PNG …
    files: tuple[Path, ...]
    modality: str
    shape: tuple[int, ...]  # XYZ of a volume, HW of a picture
    channels: int
    type: str  # of its values
    low: float
    high: float
    grid: Grid | None = None  # of a volume
    notes: tuple[str, ...] = ()

    @property
    def oblique_deg(self) -> float:
        """The largest angle between an axis and the patient's."""
        if self.grid is None:
            return 0.0
        return float(np.degrees(obliquity(self.grid.affine)).max())


@dataclass(frozen=True, slots=True)
class FoundLabels:
    """Labels that came with the images."""

    kind: str  # NIfTI, NRRD, SEG, RTSTRUCT
    file: Path
    names: tuple[str, ...]  # what its structures are called, where it says so
    values: tuple[int, ...]  # that occur in a label map
    case: int | None  # place of the case on whose grid or series it lies; None = none of them


@dataclass(frozen=True, slots=True)
class NotFound:
    """Files that make no case, and why."""

    files: tuple[Path, ...]
    reason: str
    text: str
    hint: str


@dataclass(frozen=True, slots=True)
class Survey:
    """Everything that was found."""

    cases: tuple[FoundCase, ...]
    labels: tuple[FoundLabels, ...]
    refused: tuple[NotFound, ...]
    passed_over: tuple[Path, ...]  # DICOMDIR, README, cases.csv …: they make no case


def survey(path: Path, progress: Callable[[int], None] = lambda count: None) -> Survey:
    """What a file, or everything in a folder and the folders in it, would become.

    Args:
        path: a file or folder.
        progress: called with the number of files done so far.

    Raises:
        OSError: the path itself cannot be read.
    """
    files = list(_files(path))
    looking = _Looking(path.parent, _channel_files(files), progress)
    dicom: list[Path] = []
    for file in files:
        if path.is_dir() and PAPERS.fullmatch(file.name):
            looking.passed_over.append(file)
            continue
        try:
            head = _head(file)
        except OSError as error:
            looking.refuse([file], _unreadable(error))
            continue
        if volume_format(head) == DICOM:
            dicom.append(file)
        else:
            looking.take_file(file, head)
    if dicom:
        looking.take_dicom(dicom)
    return looking.finish()


class _Looking:
    def __init__(
        self, root: Path, channel_files: frozenset[Path], progress: Callable[[int], None]
    ) -> None:
        self.root, self.channel_files = root, channel_files
        self.cases: list[FoundCase] = []
        self.refused: list[NotFound] = []
        self.label_maps: list[tuple[Path, str, Grid, tuple[int, ...]]] = []  # without voxels
        self.channels: dict[str, int] = {}  # file without its channel → place in cases
        self.sorted = SortedDicom((), (), ())
        self.passed_over: list[Path] = []
        self.series: dict[str, list[tuple[int, Series]]] = defaultdict(list)  # by raw UID
        self.progress, self.done = progress, 0

    def tick(self) -> None:
        self.done += 1
        self.progress(self.done)

    def refuse(self, files: Sequence[Path], error: PictureError) -> None:
        self.refused.append(NotFound(tuple(files), error.reason, str(error), error.hint))

    def take_file(self, file: Path, head: bytes) -> None:
        found, picture = volume_format(head), picture_format(head)
        try:
            if picture:
                pixels = read_picture(file)
                self.cases.append(FoundCase(
                    picture, (file,), "", pixels.shape[:2], 1 if pixels.ndim == 2 else 3,
                    str(pixels.dtype), float(pixels.min()), float(pixels.max())))  # fmt: skip
            elif found and self._is_label_map(file):
                volume = read_volume(file)
                self.label_maps.append((file, found, volume.grid, _indices(volume)))
            else:  # what is no volume at all says so when it is read
                self._take_volume(file, found or "", read_volume(file))
        except PictureError as error:
            self.refuse([file], error)
        except OSError as error:
            self.refuse([file], _unreadable(error))
        self.tick()

    def _is_label_map(self, file: Path) -> bool:
        folders = file.relative_to(self.root).parts[:-1]
        return bool(LABEL_FOLDERS & {part.lower() for part in folders})

    def _take_volume(self, file: Path, kind: str, volume: Volume) -> None:
        match = CHANNEL.fullmatch(_stem(file)) if file in self.channel_files else None
        name = f"{file.parent}/{match['name']}" if match else str(file)
        place = self.channels.setdefault(name, len(self.cases))
        if place == len(self.cases):
            self.cases.append(_case_of(kind, (file,), volume))
            return
        first = self.cases[place]
        if first.grid is None or not same_place(volume.grid, first.grid):
            raise PictureError(
                f"a channel on another grid than {first.files[0].name}", reason="channel-grid"
            )
        more = _case_of(kind, (*first.files, file), volume)
        self.cases[place] = FoundCase(
            kind, more.files, first.modality, first.shape, first.channels + 1, first.type,
            min(first.low, more.low), max(first.high, more.high), first.grid,
            (*first.notes, *more.notes))  # fmt: skip

    def take_dicom(self, files: Sequence[Path]) -> None:
        self.sorted = sort_dicom(files, self.tick)
        for series in self.sorted.series:
            try:
                volume = read_series(series)
            except PictureError as error:
                self.refuse(series.files, error)
                continue
            except OSError as error:
                self.refuse(series.files, _unreadable(error))
                continue
            self.series[series.uid].append((len(self.cases), series))
            notes = volume.notes + (BURNED_IN,) * any(map(says_burned_in, series.headers))
            case = _case_of(DICOM, (*series.files, *series.repeated), volume, notes)
            self.cases.append(case)
        self.refused += [
            NotFound(one.files, one.reason, one.text, one.hint) for one in self.sorted.refused
        ]

    def finish(self) -> Survey:
        labels = tuple(self._labels())
        passed_over = (*self.passed_over, *self.sorted.passed_over)
        return Survey(tuple(self.cases), labels, tuple(self.refused), passed_over)

    def _labels(self) -> Iterator[FoundLabels]:
        for file, kind, grid, values in self.label_maps:
            yield FoundLabels(kind, file, (), values, self._case_beneath(file, grid))
        for one in self.sorted.labels:
            try:
                names = segment_names(one)
            except ImagingError as error:
                self.refuse([one.path], PictureError(str(error), hint=error.hint))
                continue
            yield FoundLabels(one.kind.upper(), one.path, names, (), self._case_of_series(one))

    def _case_of_series(self, labels: LabelObject) -> int | None:
        """The case of the series that an object names; of several parts that with its images."""
        named = referenced_instances(labels.header)
        places = [
            (sum(text_of(header, "SOPInstanceUID") in named for header in series.headers), -place)
            for place, series in self.series.get(labels.series_uid, [])
        ]
        return -max(places)[1] if places else None

    def _case_beneath(self, file: Path, grid: Grid) -> int | None:
        """The case of the same name on the same grid: `labelsTr/x` is of `imagesTr/x_0000`."""
        for place, case in enumerate(self.cases):
            stem = _stem(case.files[0])
            match = CHANNEL.fullmatch(stem)
            is_named = _stem(file) in (stem, match["name"] if match else stem)
            if is_named and case.grid is not None and same_place(grid, case.grid):
                return place
        return None


def _indices(volume: Volume) -> tuple[int, ...]:
    """The values of a label map, without background.

    Raises:
        PictureError: reason `label-values`: they are no indices.
    """
    values = np.unique(volume.voxels_CXYZ)
    if not (values == np.rint(values)).all() or len(values) > 256:
        raise PictureError("a label map whose values are no indices", reason="label-values")
    return tuple(int(value) for value in values if value)


def _case_of(
    kind: str, files: tuple[Path, ...], volume: Volume, notes: tuple[str, ...] | None = None
) -> FoundCase:
    voxels = volume.voxels_CXYZ
    return FoundCase(
        kind, files, volume.modality, volume.grid.shape_XYZ, len(voxels), str(voxels.dtype),
        float(voxels.min()), float(voxels.max()), volume.grid,
        volume.notes if notes is None else notes)  # fmt: skip


def _files(path: Path) -> Iterator[Path]:
    """The path, or every file below it that is not the system's."""
    if not path.is_dir():
        yield path
        return
    for folder, folders, names in os.walk(path):
        folders[:] = sorted(name for name in folders if not _is_litter(name))
        yield from (Path(folder, name) for name in sorted(names) if not _is_litter(name))


def _is_litter(name: str) -> bool:
    return name.startswith(".") or name.casefold() in LITTER


def _channel_files(files: Iterable[Path]) -> frozenset[Path]:
    """The files whose last number is a channel's, as far as names can tell: task.yaml says it.

    Challenges number their volumes with four digits, too. A number is a channel's only where every
    numbered name of a folder begins with 0000, and has no more than a volume has channels.
    """
    folders: dict[Path, dict[str, list[tuple[int, Path]]]] = defaultdict(lambda: defaultdict(list))
    for file in files:
        match = CHANNEL.fullmatch(_stem(file)) if file.name.lower().endswith(ENDS) else None
        if match:
            folders[file.parent][match["name"]].append((int(match["channel"]), file))
    found: set[Path] = set()
    for names in folders.values():
        ends = [(min(group)[0], max(group)[0]) for group in names.values()]
        most = MOST_CHANNELS if len(names) > 1 else MOST_OF_ONE
        if all(first == 0 and last < most for first, last in ends):
            found |= {file for group in names.values() for _, file in group}
    return frozenset(found)


def _head(file: Path) -> bytes:
    if not file.is_file():
        return b""  # a pipe would keep us waiting; it is refused when it is read
    with file.open("rb") as stream:
        return stream.read(HEAD_BYTES)


def _unreadable(error: OSError) -> PictureError:
    return PictureError(
        f"cannot be read ({error.strerror or error})", reason="permission-denied", hint=""
    )


def _stem(file: Path) -> str:
    end = next((end for end in ENDS if file.name.lower().endswith(end)), "")
    return file.name[: len(file.name) - len(end)]
