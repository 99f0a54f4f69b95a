"""DICOM files sorted into series: which files make which volume, and which make none.

Geometry decides; file names and instance numbers do not. Headers are read here, once; pixels only
where two images claim one place.
"""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydicom.dataset import Dataset

from imaging.errors import VolumeError
from imaging.io.dicom.frames import Frame, check_picture, frames_of
from imaging.io.dicom.geometry import (
    MAX_PARTS,
    Stack,
    by_place,
    by_plane,
    by_time,
    described,
    stack_of,
)
from imaging.io.dicom.header import DicomFile, quiet, read_header, text_of
from imaging.io.dicom.pixels import PixelSource
from imaging.io.dicom.references import referenced_series
from imaging.io.volume_checks import LIMITS, VolumeLimits

DIRECTORY = "1.2.840.10008.1.3.10"  # SOP class of a DICOMDIR
SEGMENTATION = "1.2.840.10008.5.1.4.1.1.66.4"
STRUCTURE_SET = "1.2.840.10008.5.1.4.1.1.481.3"
SHOWN = 5


@dataclass(frozen=True, slots=True, eq=False)
class Series:
    """Files that make one volume. `imaging/io/dicom/read.py` reads its voxels."""

    files: tuple[Path, ...]  # in slice order; one for an enhanced multi-frame object
    headers: tuple[Dataset, ...]  # of the files, without pixels, in the same order
    uid: str  # raw: it must not get into ids, paths or logs
    study_uid: str
    patient: str  # PatientID, else PatientName, else ""
    modality: str
    notes: tuple[str, ...]
    stack: Stack
    part: str = ""  # which part of a series that was split, such as "echo 2 of 3"
    repeated: tuple[Path, ...] = ()  # files that show what another one shows, left out


@dataclass(frozen=True, slots=True, eq=False)
class LabelObject:
    """A file that holds labels for a series."""

    path: Path
    kind: Literal["seg", "rtstruct"]
    series_uid: str  # of the images that it refers to; "" where it does not say
    header: Dataset
    patient: str = ""


@dataclass(frozen=True, slots=True)
class RefusedFiles:
    """Files that make no volume, and why; the text names no patient."""

    files: tuple[Path, ...]
    reason: str
    text: str
    hint: str = ""


@dataclass(frozen=True, slots=True)
class SortedDicom:
    """What a set of files turned out to be."""

    series: tuple[Series, ...]
    labels: tuple[LabelObject, ...]
    refused: tuple[RefusedFiles, ...]
    passed_over: tuple[Path, ...] = ()  # DICOMDIR: it only lists other files


def sort_dicom(
    files: Sequence[Path],
    progress: Callable[[], None] = lambda: None,
    limits: VolumeLimits = LIMITS,
) -> SortedDicom:
    """Sort files into series, label objects and refusals. Every file ends up in one of them.

    Args:
        files: any files, of one folder or many.
        progress: called once for every file.
        limits: how much they may claim.

    Raises:
        OSError: a file cannot be read.
    """
    sorting = _Sorting(limits)
    with quiet():
        for path in sorted(files):
            try:
                sorting.add(read_header(path, limits))
            except VolumeError as error:
                sorting.refuse([path], error)
            progress()
        return sorting.finish()


class _Sorting:
    """Files seen so far, by series."""

    def __init__(self, limits: VolumeLimits) -> None:
        self.limits = limits
        self.groups: dict[tuple[str, str], list[DicomFile]] = {}
        self.labels: list[DicomFile] = []
        self.series: list[Series] = []
        self.refused: list[RefusedFiles] = []
        self.passed_over: list[Path] = []

    def refuse(self, files: Iterable[Path], error: VolumeError) -> None:
        found = tuple(dict.fromkeys(files))
        self.refused.append(RefusedFiles(found, error.reason, str(error), error.hint))

    def add(self, file: DicomFile) -> None:
        sop_class = text_of(file.header, "SOPClassUID")
        meta_class = text_of(file.header.file_meta, "MediaStorageSOPClassUID")
        modality = text_of(file.header, "Modality")
        if DIRECTORY in (sop_class, meta_class) or "DirectoryRecordSequence" in file.header:
            self.passed_over.append(file.path)
        elif sop_class in (SEGMENTATION, STRUCTURE_SET) or modality in ("SEG", "RTSTRUCT"):
            self.labels.append(file)
        else:
            try:
                check_picture(file)
            except VolumeError as error:
                self.refuse([file.path], error)
                return
            # Anonymisers sometimes leave no UID: then a folder is a series.
            uid = text_of(file.header, "SeriesInstanceUID") or f"folder {file.path.parent}"
            study_uid = text_of(file.header, "StudyInstanceUID")
            self.groups.setdefault((study_uid, uid), []).append(file)

    def finish(self) -> SortedDicom:
        for files in self.groups.values():
            self._take_group(files)
        labels = tuple(_label_object(file, self.series) for file in self.labels)
        return SortedDicom(tuple(self.series), labels, tuple(self.refused), tuple(self.passed_over))

    def _take_group(self, files: list[DicomFile]) -> None:
        try:
            _check_one_patient(files)
        except VolumeError as error:
            self.refuse([file.path for file in files], error)
            return
        frames: list[Frame] = []
        unplaced: dict[tuple[str, str], tuple[list[Path], VolumeError]] = {}
        for file in files:
            try:
                frames += frames_of(file, self.limits)
            except VolumeError as error:
                paths, _ = unplaced.setdefault((error.reason, str(error)), ([], error))
                paths.append(file.path)
        for paths, why in unplaced.values():
            self.refuse(paths, why)
        try:
            parts = by_plane(frames)
        except VolumeError as error:
            self.refuse(_paths(frames), error)
            return
        for number, part in enumerate(parts):
            name = f"part {number + 1} of {len(parts)}" if len(parts) > 1 else ""
            try:
                self._take_part(part, name)
            except VolumeError as error:
                self.refuse(_paths(part), _because_of_mix(error, part, parts))

    def _take_part(self, part: list[Frame], name: str) -> None:
        """One plane's images: one volume, or one for each time point.

        Raises:
            VolumeError: they make none.
        """
        notes = _damaged_notes(part, self.refused)
        if name:
            notes += (f"{name} of a series whose images have several planes or matrices",)
        if all(len(place) == 1 for place in by_place(part)):
            stack = stack_of([place[0] for place in by_place(part)], self.limits)
            self.series.append(_series(stack, name, notes, ()))
            return
        times = by_time(part)
        if times is None:
            kept, repeated = _without_repetitions(part)
            if repeated:
                notes += (f"{len(repeated)} images that repeat another one were left out",)
            stack = stack_of(kept, self.limits)
            self.series.append(_series(stack, name, notes, repeated))
            return
        if len(times) > MAX_PARTS:
            raise VolumeError(
                f"{len(times)} volumes over time in one series, expected at most {MAX_PARTS}",
                reason="not-3d",
                hint="Export the time points that are to be labelled as series of their own.",
            )
        made = [(stack_of([p[0] for p in by_place(frames)], self.limits), word)
                for word, frames in times]  # fmt: skip
        for stack, word in made:
            more = (f"{word}: a series of several volumes was split",)
            self.series.append(_series(stack, f"{name} {word}".strip(), notes + more, ()))


def _check_one_patient(files: Sequence[DicomFile]) -> None:
    found = {_patient(file.header) for file in files}
    if len(found) > 1:
        raise VolumeError(
            f"{len(found)} different patients in one series of {len(files)} images",
            reason="several-patients",
            hint="Export each patient's series again; check who is who before labelling.",
        )


def _without_repetitions(part: Sequence[Frame]) -> tuple[list[Frame], tuple[Path, ...]]:
    """One image for each place, and the files left out because they show just the same.

    Raises:
        VolumeError: reason `duplicate-slices`: images at one place that differ.
    """
    kept, repeated, differing = [], [], []
    places = by_place(part)
    source = PixelSource([frame for place in places if len(place) > 1 for frame in place])
    for place in places:
        kept.append(place[0])
        if len(place) == 1:
            continue
        if len({_pixel_digest(source, frame) for frame in place}) > 1:
            differing.append(float(place[0].position @ place[0].normal))
        repeated += [frame.file.path for frame in place[1:]]
    if differing:
        where = ", ".join(f"{at:.2f}" for at in differing[:SHOWN])
        more = f" and {len(differing) - SHOWN} more places" if len(differing) > SHOWN else ""
        raise VolumeError(
            f"several images that differ at one place: at {where} mm along the normal{more}",
            reason="duplicate-slices",
            hint="Export the series alone; time points and echoes need a header that tells them.",
        )
    return kept, tuple(dict.fromkeys(repeated))


def _pixel_digest(source: PixelSource, frame: Frame) -> str:
    pixels_HW = source.stored(frame)
    scale = f"{frame.shape_HW} {frame.slope} {frame.intercept}"
    return hashlib.sha256(pixels_HW.astype("<i4").tobytes() + scale.encode()).hexdigest()


def _because_of_mix(
    error: VolumeError, part: Sequence[Frame], parts: Sequence[Sequence[Frame]]
) -> VolumeError:
    """A part too small to be a volume is refused for what set it apart from the others."""
    if len(parts) == 1 or error.reason != "too-few-slices":
        return error
    largest = parts[0] if parts[0] is not part else parts[1]
    if any(frame.is_localizer for frame in part):
        return VolumeError(f"{len(part)} localizer images: no volume", reason="localizer")
    cosines = (part[0].directions * largest[0].directions).sum(axis=1)
    if (cosines < 1 - 1e-4).any():
        return VolumeError(
            f"{len(part)} of {sum(map(len, parts))} images of a series lie in another plane than "
            "the rest; too few to be a volume of their own",
            reason="mixed-orientation",
        )
    return VolumeError(
        f"{len(part)} of {sum(map(len, parts))} images of a series have "
        f"{', '.join(described(part))}, the others {', '.join(described(largest))}",
        reason="mixed-matrix",
    )


def _damaged_notes(part: Sequence[Frame], refused: Sequence[RefusedFiles]) -> tuple[str, ...]:
    folders = {frame.file.path.parent for frame in part}
    bad = [path for one in refused if one.reason in ("truncated", "broken", "empty")
           for path in one.files if path.parent in folders]  # fmt: skip
    if not bad:
        return ()
    return (f"{len(bad)} damaged files lie beside this series; slices at its ends may be missing",)


def _series(
    stack: Stack, part: str, notes: tuple[str, ...], repeated: tuple[Path, ...]
) -> Series:  # fmt: skip
    files = list(dict.fromkeys(frame.file for frame in stack.frames))
    header = files[0].header
    return Series(
        files=tuple(file.path for file in files),
        headers=tuple(file.header for file in files),
        uid=text_of(header, "SeriesInstanceUID"),
        study_uid=text_of(header, "StudyInstanceUID"),
        patient=_patient(header),
        modality=text_of(header, "Modality"),
        notes=(*notes, *stack.notes),
        stack=stack,
        part=part,
        repeated=repeated,
    )


def _label_object(file: DicomFile, series: Sequence[Series]) -> LabelObject:
    kind: Literal["seg", "rtstruct"] = "rtstruct"
    if text_of(file.header, "SOPClassUID") == SEGMENTATION or file.has_pixels:
        kind = "seg"
    known = {text_of(header, "SOPInstanceUID"): one.uid for one in series for header in one.headers}
    uid = referenced_series(file.header, known)
    return LabelObject(file.path, kind, uid, file.header, _patient(file.header))


def _patient(header: Dataset) -> str:
    return text_of(header, "PatientID") or text_of(header, "PatientName")


def _paths(frames: Iterable[Frame]) -> list[Path]:
    return list(dict.fromkeys(frame.file.path for frame in frames))
