"""The few words of a DICOM header that say which files belong together; pixels are not touched.

Nothing of it may get into ids, paths or logs: see `imaging/deid/`.
"""

from dataclasses import dataclass
from pathlib import Path

import pydicom
from pydicom.dataset import Dataset

from imaging.io.dicom.header import DAMAGE, quiet, text_of
from services.ingest.inside import opened_file

DIRECTORY = "1.2.840.10008.1.3.10"  # SOP class of a DICOMDIR
LABELS = frozenset({"SEG", "RTSTRUCT"})
LABEL_CLASSES = frozenset({"1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.481.3"})
TAGS = [
    "SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "Modality", "Rows",
    "SegmentSequence", "StructureSetROISequence", "DirectoryRecordSequence",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class DicomHead:
    """What one file says of itself."""

    series_uid: str  # raw
    instance_uid: str  # raw
    modality: str
    is_image: bool
    is_label: bool  # DICOM-SEG or RTSTRUCT
    is_directory: bool  # DICOMDIR: it only lists other files
    structures: tuple[str, ...] = ()  # names of what a label object outlines


def read_head(root: Path, path: str) -> DicomHead | None:
    """The head of a file below `root`, or None when it cannot be read as DICOM."""
    try:
        with opened_file(root, path) as stream, quiet():
            header = pydicom.dcmread(
                stream, stop_before_pixels=True, force=True, specific_tags=TAGS
            )
    except (OSError, *DAMAGE):
        return None
    sop_class = text_of(header, "SOPClassUID")
    modality = text_of(header, "Modality")
    is_label = sop_class in LABEL_CLASSES or modality in LABELS
    is_directory = sop_class == DIRECTORY or "DirectoryRecordSequence" in header
    return DicomHead(
        series_uid=text_of(header, "SeriesInstanceUID"),
        instance_uid=text_of(header, "SOPInstanceUID"),
        modality=modality,
        is_image="Rows" in header and not is_label,
        is_label=is_label,
        is_directory=is_directory or _is_directory(header),
        structures=_structures(header) if is_label else (),
    )


def _is_directory(header: Dataset) -> bool:
    meta = getattr(header, "file_meta", None)
    return meta is not None and text_of(meta, "MediaStorageSOPClassUID") == DIRECTORY


def _structures(header: Dataset) -> tuple[str, ...]:
    found = []
    try:
        for item in header.get("SegmentSequence") or ():
            found.append(text_of(item, "SegmentLabel"))
        for item in header.get("StructureSetROISequence") or ():
            found.append(text_of(item, "ROIName"))
    except DAMAGE:
        return ()
    return tuple(name for name in found if name)
