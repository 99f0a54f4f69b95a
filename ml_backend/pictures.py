"""From a Label Studio task to the pixels the model sees.

A task's data name the preview that annotators see: `/data/local-files/?d=dataset/<Task>/cases/…`.
The model gets the case's training image, which may hold 16 bits where the preview has 8; of a
volume, whose task lists previews of its slices, it gets all channels. What the task says is not
trusted: it must lead to one case of its own task folder, also through links.
"""

import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np

from imaging.dataset.cases import VolumeFacts, load_case
from imaging.errors import CodecError, GridMismatchError
from imaging.ids import checked_name
from imaging.io.nifti import read_nifti
from imaging.io.picture import read_picture
from imaging.labelstudio.plane import Plane
from imaging.labelstudio.stack import SLICES, items_of
from imaging.layout import Nas
from imaging.volume import Volume
from ml_backend.errors import BackendError, NoCaseError
from ml_backend.model import Image

ROUTE = "/data/local-files/"
CACHE_BYTES = 128 * 2**20  # 500 pictures of 512×512: an annotator's whole session


@dataclass(frozen=True, slots=True)
class Stack:
    """How the slices of a volume lie in its task."""

    plane: Plane
    items: tuple[int, ...]  # the slice that each picture of the task shows


@dataclass(frozen=True, slots=True, eq=False)
class Loaded:
    """What a model answers about."""

    image: Image
    stack: Stack | None = None  # None: one picture


class Pictures:
    """Reads the training images of cases; keeps the last ones decoded. Safe for any thread."""

    def __init__(self, nas: Nas, cache_bytes: int = CACHE_BYTES) -> None:
        self._nas = nas
        self._room_bytes = cache_bytes
        self._cache: OrderedDict[Path, tuple[Image, Plane | None]] = OrderedDict()
        self._lock = threading.Lock()

    def load(self, task: str, data: Mapping[str, Any]) -> Loaded:
        """The pixels or voxels behind a Label Studio task, read-only.

        Args:
            task: the task folder, from the address Label Studio called.
            data: the task's `data`.

        Raises:
            NoCaseError: the data lead to no case of that task folder.
            ImagingError: the case's files are broken, or the slices in the data are.
            OSError: they cannot be read.
        """
        folder = self._case_folder(task, data)
        image, plane = self._image(folder)
        if plane is None:
            if "image" not in data:
                raise NoCaseError("the task shows slices, and its case is a picture")
            return Loaded(image)
        items = items_of(data)
        if max(items) >= plane.count:
            raise NoCaseError(f"the task shows slice {max(items)}, expected 0 to {plane.count - 1}")
        return Loaded(image, Stack(plane, items))

    def _image(self, folder: Path) -> tuple[Image, Plane | None]:
        with self._lock:
            if folder in self._cache:
                self._cache.move_to_end(folder)
                return self._cache[folder]
        # Cases are never edited once published, so a folder stands for its pixels.
        case = load_case(folder)
        if case.volume is not None:
            volume = read_channels(folder, case.volume)
            volume.voxels_CXYZ.flags.writeable = False
            self._keep(folder, volume, case.volume.plane, volume.voxels_CXYZ.nbytes)
            return volume, case.volume.plane
        pixels = read_picture(folder / checked_name(case.image))
        pixels.flags.writeable = False
        self._keep(folder, pixels, None, pixels.nbytes)
        return pixels, None

    def _case_folder(self, task: str, data: Mapping[str, Any]) -> Path:
        named = (self._nas.root / shown_path(data)).resolve()
        cases = self._nas.task(task).cases.resolve()
        if not named.is_relative_to(cases) or named == cases:
            raise NoCaseError("the picture lies outside the cases of the task folder")
        folder = cases / named.relative_to(cases).parts[0]
        if folder.name.startswith("."):
            raise NoCaseError("the picture lies in a folder that is not published")
        return folder

    def _keep(self, folder: Path, image: Image, plane: Plane | None, size_bytes: int) -> None:
        if size_bytes > self._room_bytes // 4:
            return  # a scanned slide, or a large CT, would push everything else out
        with self._lock:
            self._cache[folder] = image, plane
            used = sum(_size_bytes(kept) for kept, _ in self._cache.values())
            while used > self._room_bytes:
                _, (oldest, _) = self._cache.popitem(last=False)
                used -= _size_bytes(oldest)


def _size_bytes(image: Image) -> int:
    return image.voxels_CXYZ.nbytes if isinstance(image, Volume) else image.nbytes


def read_channels(folder: Path, facts: VolumeFacts) -> Volume:
    """All channels of a case that is a volume, on its grid.

    Raises:
        VolumeError: a file is damaged.
        GridMismatchError: a channel lies on another grid than the case's.
        OSError: a file cannot be read.
    """
    channels = [read_nifti(folder / checked_name(name)) for name in facts.images]
    for one in channels:
        if not one.grid.is_same(facts.grid):
            raise GridMismatchError(facts.grid.shape_XYZ, one.grid.shape_XYZ)
    voxels = [one.voxels_CXYZ for one in channels]
    together = voxels[0] if len(voxels) == 1 else np.concatenate(voxels)
    return Volume(together, facts.grid, facts.modality, facts.channels)


def shown_path(data: Mapping[str, Any]) -> str:
    """The path below the shared folder of what a task shows: its picture, or its first slice.

    Raises:
        NoCaseError: it shows neither, or slices of more than one folder.
    """
    if "image" in data or SLICES not in data:
        return local_path(data.get("image"))
    urls = data[SLICES]
    if not isinstance(urls, list) or not urls:
        raise NoCaseError(f"data.{SLICES} is no list of addresses")
    paths = [local_path(url) for url in urls]
    if len({PurePosixPath(path).parent for path in paths}) > 1:
        raise NoCaseError("the slices lie in several folders, expected those of one case")
    return paths[0]


def local_path(address: object) -> str:
    """The path below the shared folder in `/data/local-files/?d=<path>`.

    Raises:
        NoCaseError: the address is of another form, or its path is absolute or steps upwards.
    """
    if not isinstance(address, str):
        raise NoCaseError(f"the picture is {type(address).__name__}, expected its address")
    try:
        parts = urlsplit(address)
        paths = parse_qs(parts.query, max_num_fields=8).get("d", [])
    except ValueError as error:
        raise NoCaseError("the picture has no address") from error
    if not parts.path.endswith(ROUTE) or len(paths) != 1:
        raise NoCaseError(f"the picture has no {ROUTE}?d=… address")
    path = paths[0]
    if "\0" in path or path.startswith("/") or ".." in path.split("/"):
        raise NoCaseError("the picture's path is absolute, steps upwards or holds a null byte")
    return path


def reason_of(error: BaseException) -> str:
    """Why a picture got no prediction, without paths: logs never hold names of files."""
    known = isinstance(error, BackendError | CodecError)
    return str(error) if known else type(error).__name__
