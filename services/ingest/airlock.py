"""What a DICOM series passes before anybody sees it: text in its pixels is looked for.

Where some is found, the series waits in quarantine until a person has decided (`labloop release`).
Its files stay in rawdata. Of its headers only `safe_headers` go any further.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from imaging.dataset.quarantine import QuarantineEntry, find, quarantine
from imaging.deid.burned_in import BurnedIn
from imaging.deid.redact import boxes_on_grid, redact
from imaging.io.dicom.pixels import PixelSource
from imaging.io.dicom.series import Series
from imaging.layout import TaskFolder
from imaging.volume import Volume, to_stored
from imaging.windows import Window
from services.ingest.errors import RefusedError

Pixels = NDArray[np.uint8]
FindText = Callable[[Sequence[Dataset], Iterable[Pixels], Callable[[], None]], BurnedIn | None]


def passes_airlock(
    task: TaskFolder,
    series: Series,
    volume: Volume,
    entry: QuarantineEntry,
    look: Callable[[], BurnedIn | None],
) -> bool:
    """Whether a series may go on; else it waits in quarantine.

    Args:
        task: the task.
        series: the series.
        volume: its voxels; blanked in place where a person said so.
        entry: its key and files.
        look: finds text in its slices.

    Raises:
        RefusedError: `rejected-by-a-person`.
        OSError: quarantine cannot be written.
    """
    found = find(task, entry.key)
    if found is None:
        burned_in = look()
        if burned_in is None:
            return True
        placing = series.stack.placing
        boxes = burned_in.boxes if placing is None else boxes_on_grid(burned_in.boxes, placing)
        seen = QuarantineEntry(entry.key, entry.files, burned_in.reason, boxes)
        quarantine(task, seen, burned_in.picture)
        return False
    if found.decision == "reject":
        raise RefusedError("rejected-by-a-person", f"{found.entry.reason}; {found.id} was rejected")
    if found.decision == "redact":
        redact(_as_acquired(volume), found.entry.boxes)
    return found.decision is not None


def slices_of(series: Series, volume: Volume, window: Window) -> Iterator[Pixels]:
    """The slices as they were acquired, rows and columns as in the files, windowed to 8 bits.

    Where a series was resampled, its own images are drawn: small text would blur.
    """
    values = _stored(series) if _is_resampled(series) else iter(_as_acquired(volume))
    scale = np.float32(255.0 / max(window.high - window.low, 1e-30))
    for slice_HW in values:
        grey_HW = (slice_HW.astype(np.float32) - np.float32(window.low)) * scale
        yield np.clip(grey_HW, 0, 255).astype(np.uint8)


def _is_resampled(series: Series) -> bool:
    return series.stack.placing is not None


def _stored(series: Series) -> Iterator[NDArray[np.generic]]:
    source = PixelSource(series.stack.frames)
    for frame in series.stack.frames:
        yield source.stored(frame).astype(np.float32) * frame.slope + frame.intercept


def _as_acquired(volume: Volume) -> NDArray[np.generic]:
    """A view with slices first: a series is stored as columns, rows, slices."""
    return to_stored(volume.voxels_CXYZ[0], volume.grid).transpose(2, 1, 0)


def merged(headers: Iterable[Mapping[str, str]]) -> dict[str, str]:
    """The headers that all channels of a case share."""
    first, *others = headers
    return {key: text for key, text in first.items() if all(one.get(key) == text for one in others)}
