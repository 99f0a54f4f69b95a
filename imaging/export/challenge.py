"""A challenge's test set: the volumes in rawdata/imagesTs, and what their answers must be called.

Challenges number their volumes with four digits (`amos_0008.nii.gz`), and nnU-Net numbers channels
so (`amos_0008_0000.nii.gz`). A last number is a channel's only if every file has one that fits.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import nibabel
import numpy as np

from imaging.errors import GridMismatchError, ImagingError, SubmissionError
from imaging.io.volumes import holds_all, read_volume, same_place
from imaging.publish import LITTER, read_json
from imaging.volume import Grid, Volume, grid_of

IMAGES = "imagesTs"  # beside imagesTr and labelsTr, below rawdata/
ENDINGS = (".nii.gz", ".nii", ".nrrd")
TEXTS = (".json", ".csv", ".tsv", ".txt", ".md", ".xlsx", ".pdf")  # may lie about
ANSWER = ".nii.gz"
CHANNEL = re.compile(r"(.+)_(\d{4})")


@dataclass(frozen=True, slots=True)
class ChallengeVolume:
    """One volume to be answered."""

    name: str  # without channel and ending
    files: tuple[Path, ...]  # one for each channel, or one that holds them all
    in_one: int = 1  # channels in each file

    @property
    def answer(self) -> str:
        """The file that the challenge expects."""
        return f"{self.name}{ANSWER}"


def find_test_volumes(rawdata: Path, channels: int) -> tuple[ChallengeVolume, ...]:
    """The volumes of a challenge, by name.

    Args:
        rawdata: the task's; the volumes lie in its imagesTs.
        channels: how many the model takes.

    Raises:
        SubmissionError: there are none, a file is no volume, channels are missing, or others are
            there than dataset.json names.
    """
    folder = rawdata / IMAGES
    if not folder.is_dir():
        raise SubmissionError(
            str(folder), ["no such folder"], hint=f"Put the challenge's volumes in {IMAGES}/."
        )
    stems, problems = _volumes(folder)
    found, more = _grouped(stems, channels)
    problems += more
    if not stems and not problems:
        problems.append("no volumes")
    problems += _unlike_dataset(rawdata / "dataset.json", [path.name for path in stems.values()])
    if problems:
        raise SubmissionError(str(folder), problems)
    return found


def read_channels(test: ChallengeVolume) -> tuple[Volume, ...]:
    """Each channel as a volume.

    Raises:
        SubmissionError: a file cannot be read, or the channels do not share one grid.
    """
    found: list[Volume] = []
    for path in test.files:
        try:
            found.append(read_volume(path, channels=test.in_one))
            if not same_place(found[-1].grid, found[0].grid):
                raise GridMismatchError(found[0].grid.shape_XYZ, found[-1].grid.shape_XYZ)
        except (ImagingError, OSError) as error:
            raise SubmissionError(path.name, [str(error)]) from error
    return tuple(found)


def one_volume(channels: Sequence[Volume]) -> Volume:
    """Channels on one grid as the volume that a model takes."""
    if len(channels) == 1:
        return channels[0]
    stacked_CXYZ = np.concatenate([one.voxels_CXYZ for one in channels])
    return replace(channels[0], voxels_CXYZ=stacked_CXYZ)


def grid_of_file(path: Path) -> Grid:
    """Where a test volume's voxels lie; of NIfTI only the header is read.

    Raises:
        SubmissionError: it cannot be read.
    """
    try:
        if path.name.endswith((".nii", ".nii.gz")):
            image: Any = nibabel.load(path)
            if len(image.shape) in (3, 4):  # four: several channels
                return grid_of(image.shape[:3], image.affine)
        return read_volume(path).grid
    except (ImagingError, OSError, ValueError, nibabel.filebasedimages.ImageFileError) as error:
        raise SubmissionError(path.name, [str(error)]) from error


def _volumes(folder: Path) -> tuple[dict[str, Path], list[str]]:
    """Name without ending → file; and what else lies there."""
    stems: dict[str, Path] = {}
    problems: list[str] = []
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or path.name.casefold() in LITTER:
            continue
        ending = next((one for one in ENDINGS if path.name.endswith(one)), None)
        if ending is None or not path.is_file():
            if path.is_dir() or path.suffix.casefold() not in TEXTS:
                problems.append(f"{path.name}: expected volumes {', '.join(ENDINGS)}")
            continue
        stem = path.name.removesuffix(ending)
        if stem in stems:
            problems.append(f"{path.name} and {stems[stem].name} would have one answer")
        stems[stem] = path
    return stems, problems


def _grouped(
    stems: dict[str, Path], channels: int
) -> tuple[tuple[ChallengeVolume, ...], list[str]]:
    """Files by volume; a channel's number is told from a volume's by all files together."""
    split = {stem: match for stem in stems if (match := CHANNEL.fullmatch(stem))}
    numbers = range(channels)
    are_channels = len(split) == len(stems) and all(
        int(match[2]) in numbers for match in split.values()
    )
    if channels == 1 and not are_channels:
        return tuple(ChallengeVolume(stem, (path,)) for stem, path in stems.items()), []
    groups: dict[str, dict[int, Path]] = {}
    problems = []
    together: list[ChallengeVolume] = []
    for stem, path in stems.items():
        found = split.get(stem)
        if found is None and holds_all(path, channels):
            together.append(ChallengeVolume(stem, (path,), channels))
            continue
        if found is None or int(found[2]) not in numbers:
            problems.append(
                f"{path.name}: expected a channel's number, _0000 to _{channels - 1:04d}, before "
                "the ending: the model takes "
                f"{channels}"
            )
            continue
        groups.setdefault(found[1], {})[int(found[2])] = path
    for name, files in groups.items():
        missing = [f"{name}_{number:04d}" for number in numbers if number not in files]
        if missing:
            problems.append(f"{', '.join(missing)} is missing")
    whole = [
        ChallengeVolume(name, tuple(files[number] for number in numbers))
        for name, files in groups.items()
        if len(files) == channels
    ]
    return (*together, *whole), problems


def _unlike_dataset(path: Path, names: Sequence[str]) -> list[str]:
    """How the files differ from what the challenge's dataset.json lists; nothing without a list."""
    if not path.is_file():
        return []
    try:
        listed = read_json(path).get("test")
    except ImagingError:
        return []
    entries = listed if isinstance(listed, list) else []
    wanted = {Path(str(one.get("image") if isinstance(one, dict) else one)).name for one in entries}
    found = {CHANNEL.sub(r"\1", name.removesuffix(ANSWER)) for name in names} | set(names)
    plain = {name.removesuffix(ANSWER) for name in found}
    missing = sorted(name for name in wanted if name.removesuffix(ANSWER) not in plain)
    return [f"{name} is in dataset.json, and not here" for name in missing]
