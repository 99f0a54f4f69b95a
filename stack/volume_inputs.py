"""The volumes in files and folders that a person names: what `predict` answers about.

A NIfTI or NRRD file is a volume, or one channel of it where the model takes several: then they are
called `x_0000.nii.gz`, `x_0001.nii.gz` …, as nnU-Net has it. A folder holds DICOM series, each a
volume. Labels are written under the name of the file or folder.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from imaging.errors import ImagingError, VolumeError
from imaging.io.dicom.read import read_series
from imaging.io.dicom.series import sort_dicom
from imaging.io.nifti import SUFFIX
from imaging.io.sniff import DICOM, volume_format
from imaging.io.volumes import holds_all, read_volume, same_place

if TYPE_CHECKING:
    from imaging.volume import Volume

ENDS = (SUFFIX, ".nii", ".nrrd")
CHANNEL = re.compile(r"(?P<name>.+)_(?P<channel>\d{4})")
HEAD_BYTES = 512
EXPECTED = "Expected NIfTI or NRRD files, or folders of DICOM files."

NAMES = "Name the channels of a volume x_0000.nii.gz, x_0001.nii.gz … in the model's order."


@dataclass(frozen=True, slots=True)
class VolumeInput:
    """One volume that can be read."""

    name: str  # of the label map, without its ending
    files: tuple[Path, ...]  # what it is made from
    shown: str  # how people are told of it
    read: Callable[[], Volume]


@dataclass(frozen=True, slots=True)
class NoInput:
    """What a person named and cannot be answered about."""

    shown: str
    reason: str
    hint: str = EXPECTED


def volume_inputs(paths: Sequence[Path], channels: int) -> tuple[list[VolumeInput], list[NoInput]]:
    """What the files and folders hold, in their order; headers of DICOM files are read.

    Args:
        paths: files and folders.
        channels: how many the model takes.
    """
    folders = [path for path in paths if path.is_dir() or _is_dicom(path)]
    files = [path for path in paths if path not in folders]
    named = [*_in_files(files, channels)]
    named += [one for path in folders for one in _series_in(path, channels)]
    found = [one for one in named if isinstance(one, VolumeInput)]
    return found, [one for one in named if isinstance(one, NoInput)]


def label_name(path: str) -> str:
    """The label map's file for a volume's file or folder, by its name."""
    return f"{_bare(Path(path).name)}{SUFFIX}"


def _in_files(files: Sequence[Path], channels: int) -> Iterator[VolumeInput | NoInput]:
    """One volume for each file, or for each group of channels."""
    groups: dict[str, dict[int, Path]] = {}
    for path in files:
        match = CHANNEL.fullmatch(_bare(path.name))
        if match and int(match["channel"]) < channels:
            groups.setdefault(match["name"], {})[int(match["channel"])] = path
        elif channels == 1 or holds_all(path, channels):
            read = partial(read_volume, path, channels=channels)
            yield VolumeInput(_bare(path.name), (path,), str(path), read)
        else:
            yield NoInput(str(path), f"one file, and the model takes {channels} channels", NAMES)
    for name, group in groups.items():
        ordered = [group[number] for number in sorted(group)]
        if len(group) == channels:
            yield VolumeInput(name, tuple(ordered), str(ordered[0]), partial(_joined, ordered))
        else:
            found = f"{len(group)} of the {channels} channels that the model takes"
            yield NoInput(str(ordered[0]), found, NAMES)


def _series_in(path: Path, channels: int) -> Iterator[VolumeInput | NoInput]:
    files = sorted(one for one in path.rglob("*") if one.is_file()) if path.is_dir() else [path]
    try:
        found = sort_dicom([one for one in files if _is_dicom(one)])
    except (ImagingError, OSError) as error:
        yield NoInput(str(path), str(error))
        return
    for one in found.refused:
        yield NoInput(str(path), f"{len(one.files)} DICOM files: {one.text}", one.hint)
    if not found.series and not found.refused:
        yield NoInput(str(path), "no DICOM series with images in it")
    if channels != 1 and found.series:
        yield NoInput(str(path), f"DICOM series, and the model takes {channels} channels", NAMES)
        return
    places = _places(path, [one.files for one in found.series])
    for (name, shown), series in zip(places, found.series, strict=True):
        yield VolumeInput(name, tuple(files), shown, partial(read_series, series))


def _places(path: Path, series: Sequence[Sequence[Path]]) -> list[tuple[str, str]]:
    """For each series in a folder its name, and how people are told of it.

    By their own folders where each has one, such as `brain_T1` and `brain_T2`, else by number.
    """
    name = _bare(path.resolve().name)
    if len(series) == 1:
        return [(name, str(path))]
    homes = [Path(os.path.commonpath([file.parent for file in files])) for files in series]
    if len(set(homes)) == len(homes) and path not in homes:
        parts = [home.relative_to(path).parts for home in homes]
        return [("_".join((name, *one)), str(path.joinpath(*one))) for one in parts]
    return [
        (f"{name}_{number}", f"{path} (series {number} of {len(series)}: {files[0].name} …)")
        for number, files in enumerate(series, start=1)
    ]


def _joined(files: Sequence[Path]) -> Volume:
    """One volume from its channels.

    Raises:
        VolumeError: a file cannot be read, or lies on another grid than the first.
    """
    volumes = [read_volume(path) for path in files]
    first = volumes[0]
    for path, other in zip(files, volumes, strict=True):
        if not same_place(other.grid, first.grid):
            raise VolumeError(f"{path.name} lies on another grid than {files[0].name}")
    together = np.concatenate([one.voxels_CXYZ for one in volumes])
    return replace(first, voxels_CXYZ=together)


def _is_dicom(path: Path) -> bool:
    try:
        with path.open("rb") as stream:
            return volume_format(stream.read(HEAD_BYTES)) == DICOM
    except OSError:
        return False


def _bare(name: str) -> str:
    """A file's name without the ending of its format."""
    end = next((end for end in ENDS if name.lower().endswith(end)), "")
    return name[: len(name) - len(end)] if end else name
