"""A submission: a flat zip of label maps, one for each volume of a test set, and nothing else.

Every file is checked as it lies in the zip, by another way than it was written: its name, that none
is missing or too many, shape and affine as the image's own file has them, whole numbers that are
labels of the scheme. Challenges compare arrays as they are stored, so the order of the axes counts.
"""

import contextlib
import os
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import nibabel
import numpy as np
from numpy.typing import NDArray

from imaging.errors import SubmissionError
from imaging.export.challenge import ChallengeVolume, one_volume, read_channels
from imaging.io.nifti import write_label_volume
from imaging.labels import LabelScheme
from imaging.publish import STAGING, staging_folder
from imaging.volume import Grid, Volume, grid_of

Progress = Callable[[str, int, int], None]  # which volume, how many are done, of how many
HEADER_BYTES = 1 << 20
BYTES_PER_VOXEL = 16  # no label map takes more, however badly it was compressed
SHOWN = 5


class Answer(Protocol):
    """What a model says about a volume."""

    @property
    def labels_XYZ(self) -> NDArray[np.uint8]: ...


class VolumeModel(Protocol):
    """A model that draws label maps on volumes."""

    @property
    def scheme(self) -> LabelScheme: ...

    def predict(self, images: Sequence[Volume]) -> Sequence[Answer]: ...


def write_submission(
    target: Path,
    tests: Sequence[ChallengeVolume],
    model: VolumeModel,
    progress: Progress = lambda name, done, of: None,
) -> None:
    """Answer every volume, one at a time, and show the checked zip in one step.

    Args:
        target: the zip; it must not be there.
        tests: the volumes.
        model: asked about one volume after the other.
        progress: called before each volume and once at the end.

    Raises:
        SubmissionError: the zip is there, a volume cannot be read, or an answer fails a check.
    """
    check_target(target)
    try:
        with staging_folder(target) as staging:
            made = _write(staging, target.name, tests, model, progress)
            check_target(target)
            made.rename(target)
    finally:
        with contextlib.suppress(OSError):  # others may be at work beside us
            (target.parent / STAGING).rmdir()
    progress("", len(tests), len(tests))


def _write(
    staging: Path,
    name: str,
    tests: Sequence[ChallengeVolume],
    model: VolumeModel,
    progress: Progress,
) -> Path:
    grids: dict[str, Grid] = {}
    for done, test in enumerate(tests):
        progress(test.name, done, len(tests))
        volume = one_volume(read_channels(test))
        labels_XYZ = model.predict([volume])[0].labels_XYZ
        if labels_XYZ.shape != volume.grid.shape_XYZ or labels_XYZ.dtype != np.uint8:
            raise SubmissionError(
                test.answer, [f"the model answered {labels_XYZ.dtype} {labels_XYZ.shape}"]
            )
        write_label_volume(staging / test.answer, labels_XYZ, volume.grid)
        grids[test.answer] = volume.grid
    made = staging / name
    with zipfile.ZipFile(made, "w", zipfile.ZIP_STORED) as archive:  # compressed already
        for test in tests:
            archive.write(staging / test.answer, test.answer)
    check_submission(made, grids, model.scheme)
    return made


def check_target(target: Path) -> None:
    """Make sure that no zip is replaced: it may be the one that was handed in.

    Raises:
        SubmissionError: there is something.
    """
    if os.path.lexists(target):
        raise SubmissionError(str(target), ["it exists"], hint="Choose another --output.")


def check_submission(
    path: Path,
    grids: Mapping[str, Grid],
    scheme: LabelScheme,
    progress: Progress = lambda name, done, of: None,
) -> None:
    """Make sure that a zip is what a challenge takes.

    Args:
        path: the zip.
        grids: file name that is expected → the grid of its image.
        scheme: the labels; their indices are the only values beside 0.
        progress: called before each file.

    Raises:
        SubmissionError: it is not; every problem is listed.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            problems = _names(archive, grids)
            names = [name for name in archive.namelist() if name in grids]
            for done, name in enumerate(names):
                progress(name, done, len(names))
                problems += [f"{name}: {one}" for one in _label_map(archive, name, grids, scheme)]
    except (zipfile.BadZipFile, OSError, NotImplementedError, RuntimeError) as error:
        raise SubmissionError(str(path), [f"no zip that can be read: {error}"]) from error
    if problems:
        raise SubmissionError(str(path), problems)


def _names(archive: zipfile.ZipFile, grids: Mapping[str, Grid]) -> list[str]:
    names = archive.namelist()
    problems = []
    if folders := [name for name in names if "/" in name or "\\" in name]:
        problems.append(f"folders, expected a flat zip: {_some(folders)}")
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        problems.append(f"twice: {_some(repeated)}")
    strangers = [name for name in names if name not in grids and name not in folders]
    if strangers:
        problems.append(f"not asked for: {_some(strangers)}")
    if missing := sorted(grids.keys() - set(names)):
        problems.append(f"missing: {_some(missing)}")
    if len(names) != len(grids):
        problems.append(f"{len(names)} files, expected {len(grids)}")
    return problems


def _label_map(
    archive: zipfile.ZipFile, name: str, grids: Mapping[str, Grid], scheme: LabelScheme
) -> list[str]:
    """What is wrong with one file; its voxels are read only if its header is right."""
    info, grid = archive.getinfo(name), grids[name]
    if info.file_size > HEADER_BYTES + BYTES_PER_VOXEL * int(np.prod(grid.stored_shape)):
        return [f"{info.file_size} bytes are too many for {_sides(grid.stored_shape)} voxels"]
    with _unpacked(archive, name) as path:
        try:
            image: Any = nibabel.load(path)
            problems = _header(image, grid)
            return problems or _values(image, scheme)
        except (OSError, EOFError, ValueError, nibabel.filebasedimages.ImageFileError) as error:
            return [f"no NIfTI file that can be read: {error}"]


@contextlib.contextmanager
def _unpacked(archive: zipfile.ZipFile, name: str) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "labels.nii.gz"
        path.write_bytes(archive.read(name))
        yield path


def _header(image: Any, grid: Grid) -> list[str]:
    shape = tuple(int(side) for side in image.shape)
    if shape != grid.stored_shape:
        return [f"shape {_sides(shape)}, its image has {_sides(grid.stored_shape)}"]
    problems = []
    if not np.isfinite(image.affine).all() or not _same_place(grid_of(shape, image.affine), grid):
        problems.append(
            f"affine {np.round(image.affine[:3], 3).tolist()}, its image has "
            f"{np.round(np.array(grid.stored_affine)[:3], 3).tolist()}"
        )
    dtype = image.get_data_dtype()
    if dtype.kind not in "ui":
        problems.append(f"voxels of type {dtype}, expected whole numbers such as uint8")
    return problems


def _same_place(found: Grid, expected: Grid) -> bool:
    """Whether voxels coincide and are stored in the same order."""
    same_order = np.array_equal(found.orientation, expected.orientation)
    return same_order and found.is_same(expected)


def _values(image: Any, scheme: LabelScheme) -> list[str]:
    voxels = np.asanyarray(image.dataobj)
    if voxels.dtype.kind not in "ui":
        return ["values with a scale, expected whole numbers as they are"]
    known = {0, *(label.index for label in scheme.labels)}
    strange = sorted(set(np.unique(voxels).tolist()) - known)
    if strange:
        return [f"values {_some(strange)}, expected 0 to {len(scheme.labels)}"]
    return []


def _sides(shape: Sequence[int]) -> str:
    return " × ".join(map(str, shape))


def _some(things: Sequence[object]) -> str:
    shown = ", ".join(f"{thing!s:.80}" for thing in things[:SHOWN])
    return shown if len(things) <= SHOWN else f"{shown}, … ({len(things)} in all)"
