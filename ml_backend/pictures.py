"""From a Label Studio task to the pixels the model sees.

A task's data name the preview that annotators see: `/data/local-files/?d=dataset/<Task>/cases/…`.
The model gets the case's training image, which may hold 16 bits where the preview has 8. What the
task says is not trusted: it must lead to a case of its own task folder, also through links.
"""

import threading
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from imaging.dataset.cases import load_case
from imaging.errors import CodecError
from imaging.ids import checked_name
from imaging.io.picture import read_picture
from imaging.layout import Nas
from ml_backend.errors import BackendError, NoCaseError
from ml_backend.model import PixelArray

ROUTE = "/data/local-files/"
CACHE_BYTES = 128 * 2**20  # 500 pictures of 512×512: an annotator's whole session


class Pictures:
    """Reads the training images of cases; keeps the last ones decoded. Safe for any thread."""

    def __init__(self, nas: Nas, cache_bytes: int = CACHE_BYTES) -> None:
        self._nas = nas
        self._room_bytes = cache_bytes
        self._cache: OrderedDict[Path, PixelArray] = OrderedDict()
        self._lock = threading.Lock()

    def load(self, task: str, data: Mapping[str, Any]) -> PixelArray:
        """The pixels behind a Label Studio task, read-only.

        Args:
            task: the task folder, from the address Label Studio called.
            data: the task's `data`.

        Raises:
            NoCaseError: the data lead to no case of that task folder.
            ImagingError: the case's files are broken.
            OSError: they cannot be read.
        """
        folder = self._case_folder(task, data)
        with self._lock:
            if folder in self._cache:
                self._cache.move_to_end(folder)
                return self._cache[folder]
        # Cases are never edited once published, so a folder stands for its pixels.
        pixels = read_picture(folder / checked_name(load_case(folder).image))
        pixels.flags.writeable = False
        self._keep(folder, pixels)
        return pixels

    def _case_folder(self, task: str, data: Mapping[str, Any]) -> Path:
        named = (self._nas.root / local_path(data.get("image"))).resolve()
        cases = self._nas.task(task).cases.resolve()
        if not named.is_relative_to(cases) or named == cases:
            raise NoCaseError("the picture lies outside the cases of the task folder")
        folder = cases / named.relative_to(cases).parts[0]
        if folder.name.startswith("."):
            raise NoCaseError("the picture lies in a folder that is not published")
        return folder

    def _keep(self, folder: Path, pixels: PixelArray) -> None:
        if pixels.nbytes > self._room_bytes // 4:
            return  # a scanned slide would push everything else out
        with self._lock:
            self._cache[folder] = pixels
            used = sum(array.nbytes for array in self._cache.values())
            while used > self._room_bytes:
                _, oldest = self._cache.popitem(last=False)
                used -= oldest.nbytes


def local_path(address: object) -> str:
    """The path below the shared folder in `/data/local-files/?d=<path>`.

    Raises:
        NoCaseError: the address is of another form, or its path is absolute or steps upwards.
    """
    if not isinstance(address, str):
        raise NoCaseError(f"data.image is {type(address).__name__}, expected text")
    try:
        parts = urlsplit(address)
        paths = parse_qs(parts.query, max_num_fields=8).get("d", [])
    except ValueError as error:
        raise NoCaseError("data.image is no address") from error
    if not parts.path.endswith(ROUTE) or len(paths) != 1:
        raise NoCaseError(f"data.image is no {ROUTE}?d=… address")
    path = paths[0]
    if "\0" in path or path.startswith("/") or ".." in path.split("/"):
        raise NoCaseError("the picture's path is absolute, steps upwards or holds a null byte")
    return path


def reason_of(error: BaseException) -> str:
    """Why a picture got no prediction, without paths: logs never hold names of files."""
    known = isinstance(error, BackendError | CodecError)
    return str(error) if known else type(error).__name__
