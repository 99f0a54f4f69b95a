"""Volumes in rawdata become one case: its images, its slices as pictures, and its record."""

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path

from imaging.dataset.cases import CASE_RECORD, CaseRecord, CaseSource, VolumeFacts, load_case
from imaging.deid.pseudonym import pseudonym
from imaging.ids import utc_now
from imaging.io.nifti import SUFFIX, write_nifti
from imaging.io.volume_digest import case_id
from imaging.io.volumes import holds_all, read_volume, same_place
from imaging.labelstudio.key_slices import key_slices
from imaging.labelstudio.plane import Plane, plane_of
from imaging.labelstudio.stack import SLICES
from imaging.preview import window_of, write_slices
from imaging.publish import (
    MANIFEST,
    manifest_files,
    publish,
    sha256_of,
    staging_folder,
    write_json,
)
from imaging.task import TaskConfig
from imaging.volume import Volume
from imaging.windows import Window
from services.ingest.errors import RefusedError
from services.ingest.inside import held_paths, may_be_there
from services.ingest.take import Intake, classes_of, refused_links, row_of

# Slices are drawn, and files brought to disk, without Python's lock most of the time.
THREADS = 2


@dataclass(frozen=True, slots=True)
class Origin:
    """Where the channels of one case come from, and what is known about them beside the voxels."""

    paths: Sequence[str]  # every file, below rawdata
    shown: str  # what case.json says about the place; never a name that a scanner wrote
    patient: str  # before the pseudonym
    about: str  # the path that cases.csv and class folders are asked about
    headers: Mapping[str, str] = field(default_factory=dict)


def take_files(intake: Intake, paths: Sequence[str], patient: str) -> CaseRecord:
    """The case of the NIfTI or NRRD files of its channels, in order.

    Args:
        intake: the task.
        paths: one file for each channel, or one that holds them all, below rawdata.
        patient: who it belongs to, if cases.csv does not say.

    Raises:
        VolumeError: a file is no whole volume.
        RefusedError: `channel-grid`, `duplicate`, `unknown-class` and their like.
        OSError: it cannot be read, or the case cannot be written; nothing is half-made.
    """
    volumes = []
    together = len(intake.config.volume.channels) if len(paths) == 1 else 1
    with refused_links(), held_paths(intake.task.rawdata, paths) as held:
        for file in held:
            volumes.append(read_volume(file, intake.volume_limits, together))
            intake.beat()
        source = source_of(paths[0], held, intake.beat)
    listed = [row.patient for path in paths if (row := row_of(intake, path)) and row.patient]
    if len(set(listed)) > 1:
        raise RefusedError("contradiction", "cases.csv gives the channels of a case two patients")
    origin = Origin(paths, paths[0], listed[0] if listed else patient, paths[0])
    return take_volumes(intake, volumes, origin, source)


def is_whole(intake: Intake, path: str) -> bool:
    """Whether one file holds all channels of a case, as the Decathlon stores them.

    Raises:
        RefusedError: `symlink` or `permission-denied`.
        OSError: it cannot be read.
    """
    with refused_links(), held_paths(intake.task.rawdata, [path]) as [held]:
        return holds_all(held, len(intake.config.volume.channels))


def take_volumes(
    intake: Intake, volumes: Sequence[Volume], origin: Origin, source: CaseSource
) -> CaseRecord:
    """The case of volumes, one for each channel: made, or found when it was taken before.

    Args:
        intake: the task.
        volumes: its channels in the order that task.yaml has them.
        origin: where they come from.
        source: the files as case.json names them.

    Raises:
        As `take_files`.
    """
    check_channels(intake.config, volumes)
    case = case_id(volumes)
    intake.beat()
    if intake.task.case_record(case).is_file():
        return _known_case(intake, case, origin, source)
    classes_of(intake, origin.about)  # refuses an unknown class before anything is made
    modality = next((one.modality for one in volumes if one.modality), intake.config.modality)
    volumes = [replace(one, modality=modality) for one in volumes]
    plane = plane_of(volumes[0].grid, intake.config.volume.axis)
    record = _describe(intake, case, volumes, (plane, origin, source))
    _publish(intake, record, volumes)
    return record


def check_channels(config: TaskConfig, volumes: Sequence[Volume]) -> None:
    """Make sure that volumes are the channels of one case of a task.

    Raises:
        RefusedError: `channel-missing` or `channel-grid`.
    """
    wanted = max(1, len(config.volume.channels))
    found = sum(len(one.voxels_CXYZ) for one in volumes)
    if found != wanted:
        raise RefusedError("channel-missing", f"{found} channels of {wanted}")
    first = volumes[0].grid
    for one in volumes[1:]:
        if not same_place(one.grid, first):
            raise RefusedError(
                "channel-grid",
                f"channels of {_sides(first.shape_XYZ)} and {_sides(one.grid.shape_XYZ)} voxels of "
                f"{_sides(first.spacing_mm)} and {_sides(one.grid.spacing_mm)} mm, or apart",
            )


def check_modality(config: TaskConfig, modality: str) -> None:
    """Make sure that values mean what the task's models think; cases of channels may mix them.

    Raises:
        RefusedError: `other-modality`.
    """
    is_single = len(config.volume.channels) <= 1
    if modality and modality != config.modality and is_single:
        raise RefusedError("other-modality", f"{modality}; the task is one of {config.modality}")


def shown_window(intake: Intake, volume: Volume, headers: Mapping[str, str]) -> Window:
    """The window that annotators will see a volume in."""
    return window_of(
        volume,
        intake.config.volume,
        body_part=headers.get("BodyPartExamined", ""),
        labels=intake.config.scheme.names,
    )


def _known_case(intake: Intake, case: str, origin: Origin, source: CaseSource) -> CaseRecord:
    """The case that has these voxels, unless it was made from other files that are still there."""
    record = load_case(intake.task.case(case))
    first = record.source.path
    there = [path for path in intake.holders(case) if path not in origin.paths]
    is_elsewhere = first != source.path and may_be_there(intake.task.rawdata, first)
    if is_elsewhere or any(may_be_there(intake.task.rawdata, path) for path in there):
        raise RefusedError("duplicate", f"the same voxels as {case}, made from {first}")
    return record


def _describe(
    intake: Intake,
    case: str,
    volumes: Sequence[Volume],
    rest: tuple[Plane, Origin, CaseSource],
) -> CaseRecord:
    plane, origin, source = rest
    count = sum(len(one.voxels_CXYZ) for one in volumes)
    images = [f"image{SUFFIX}"] if count == 1 else [f"image_{k:04d}{SUFFIX}" for k in range(count)]
    channels = intake.config.volume.channels or ("",) * count
    row = row_of(intake, origin.about)
    facts = VolumeFacts(
        grid=volumes[0].grid,
        images=tuple(images),
        channels=tuple(channels) if count > 1 else tuple(one for one in channels if one),
        modality=volumes[0].modality,
        plane=plane,
        key_slices=key_slices(plane.count, intake.config.annotation.max_slices),
        notes=tuple(dict.fromkeys(chain.from_iterable(one.notes for one in volumes))),
        headers=dict(origin.headers),
    )
    return CaseRecord(
        case=case,
        task=intake.task.name,
        patient=pseudonym(intake.pseudonym_key, origin.patient),
        image=images[0],
        preview=SLICES,
        shape_HW=plane.shape_HW,
        channels=count,
        bits=8 * volumes[0].voxels_CXYZ.dtype.itemsize,
        source=source,
        created_at=utc_now(),
        metadata=dict(row.metadata) if row else {},
        volume=facts,
    )


def _publish(intake: Intake, record: CaseRecord, volumes: Sequence[Volume]) -> None:
    facts = record.volume
    if facts is None:
        raise ValueError("a case without facts about its volume")
    first = volumes[0]
    window = shown_window(intake, first, facts.headers)
    final = intake.task.case(record.case)
    with staging_folder(final) as folder, ThreadPoolExecutor(1) as pool:
        images = pool.submit(_write_images, folder, facts, volumes)
        write_slices(
            folder / SLICES,
            first.voxels_CXYZ[0],
            facts.plane,
            window,
            threads=THREADS,
            progress=intake.beat,
        )
        images.result()
        _to_disk(sorted((folder / SLICES).iterdir()), intake.beat)
        write_json(folder / CASE_RECORD, record.to_json())
        manifest = {"format": 1, "case": record.case, "files": manifest_files(folder)}
        write_json(folder / MANIFEST, manifest)
        intake.beat()
        publish(folder, final)


def _write_images(folder: Path, facts: VolumeFacts, volumes: Sequence[Volume]) -> None:
    channels = chain.from_iterable(one.voxels_CXYZ for one in volumes)
    for name, voxels_XYZ in zip(facts.images, channels, strict=True):
        write_nifti(folder / name, voxels_XYZ, facts.grid)


def _to_disk(files: Sequence[Path], beat: Callable[[], None]) -> None:
    """Wait until files have reached the disk: a case must not lose slices to a power cut."""

    def flush(file: Path) -> None:
        with file.open("rb") as stream:
            os.fsync(stream.fileno())

    with ThreadPoolExecutor(4 * THREADS) as pool:
        for _ in pool.map(flush, files):
            beat()


def source_of(shown: str, files: Sequence[Path], beat: Callable[[], None]) -> CaseSource:
    """The files as case.json names them; of several, the digest is one over theirs in order."""
    digests = []
    size_bytes = 0
    for file in files:
        digests.append(sha256_of(file))
        size_bytes += file.stat().st_size
        beat()
    whole = hashlib.sha256("".join(digests).encode()).hexdigest()
    return CaseSource(shown, digests[0] if len(digests) == 1 else whole, size_bytes)


def _sides(numbers: Sequence[float]) -> str:
    return " × ".join(f"{number:g}" for number in numbers)
