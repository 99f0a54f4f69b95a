"""dataset.json: what the authors of a data set say about its labels, channels and modality.

The Medical Segmentation Decathlon, AMOS and nnU-Net's first version write `"modality": {"0": "CT"}`
and `"labels": {"0": "background", "1": "liver"}`; nnU-Net's second `"channel_names"` and
`"labels": {"background": 0, "liver": 1}`.
"""

import json
import re
from dataclasses import dataclass
from typing import Any

from imaging.errors import PictureError
from imaging.io.picture import PictureLimits, read_file
from imaging.layout import TaskFolder
from services.ingest.errors import HoldError

DESCRIPTION = "dataset.json"
MAX_BYTES = 16 << 20
MODALITIES = (
    (re.compile(r"^ct$|^ct[\s_-]|tomograph"), "CT"),
    (re.compile(r"^mri?$|^mri?[\s_-]|^t[12]|flair|^adc$|^dwi$|^swi$|^pd$|^pdw$|magnet"), "MR"),
    (re.compile(r"^pt$|^pet"), "PT"),
    (re.compile(r"^us$|ultraso"), "US"),
)


@dataclass(frozen=True, slots=True)
class Description:
    """What a dataset.json says, as far as Labloop can use it."""

    labels: tuple[str, ...] = ()  # by index from 1; empty = not said
    channels: tuple[str, ...] = ()  # empty = not said
    modality: str = ""  # DICOM's word; empty = not said, or a word that is not known


def read_document(task: TaskFolder) -> object:
    """The JSON in a task's dataset.json, beside task.yaml or in rawdata; None when there is none.

    Raises:
        HoldError: it cannot be read.
    """
    for folder in (task.root, task.rawdata):
        try:
            return json.loads(read_file(folder / DESCRIPTION, PictureLimits(max_bytes=MAX_BYTES)))
        except FileNotFoundError:
            continue
        except (PictureError, OSError, ValueError, RecursionError) as error:
            raise HoldError(f"{DESCRIPTION} cannot be read: {type(error).__name__}") from error
    return None


def named_labels(document: object) -> tuple[str, ...]:
    """The label names, by index from 1; empty when there are none that fit.

    nnU-Net's regions (lists of indices) and gaps in the numbering do not fit.
    """
    labels: Any = document.get("labels") if isinstance(document, dict) else None
    names: dict[int, str] = {}
    for key, value in labels.items() if isinstance(labels, dict) else ():
        index, name = (key, value) if str(key).isdigit() else (value, key)
        if not str(index).isdigit():
            return ()
        names[int(index)] = str(name)
    names.pop(0, None)
    if sorted(names) != list(range(1, len(names) + 1)):
        return ()
    return tuple(names[index] for index in sorted(names))


def describe_volumes(document: object) -> Description:
    """What a dataset.json says about volumes.

    Raises:
        HoldError: it names regions or an `ignore` label, for which Labloop has no meaning.
    """
    if not isinstance(document, dict):
        return Description()
    labels = document.get("labels")
    if isinstance(labels, dict):
        _refuse_regions(labels)
    names = document.get("channel_names", document.get("modality"))
    channels = _in_order(names)
    known = [found for name in channels if (found := modality_of(name))]
    modality = known[0] if known else ""
    return Description(named_labels(document), channels, modality)


def modality_of(name: str) -> str:
    """DICOM's word for how people call a modality or a channel; empty for what is not known."""
    low = name.strip().lower()
    return next((word for pattern, word in MODALITIES if pattern.search(low)), "")


def _in_order(names: object) -> tuple[str, ...]:
    """Channel names in the order of their numbers."""
    if not isinstance(names, dict) or not all(str(key).isdigit() for key in names):
        return ()
    return tuple(str(names[key]) for key in sorted(names, key=lambda key: int(str(key))))


def _refuse_regions(labels: dict[Any, Any]) -> None:
    if any(isinstance(value, list) for value in labels.values()):
        raise HoldError(
            f"{DESCRIPTION} names regions (labels of several numbers), which are not supported: "
            "write task.yaml with one label for each number"
        )
    if str(labels.get("ignore", "")).isdigit():
        raise HoldError(
            f"{DESCRIPTION} has an ignore label, which is not supported: remove those voxels from "
            "the label maps and write task.yaml"
        )
