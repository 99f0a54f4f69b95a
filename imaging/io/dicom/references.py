"""Which series a segmentation or a structure set was drawn on."""

from collections.abc import Iterator, Mapping

from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as DicomSequence

from imaging.io.dicom.header import DAMAGE_IN_MEMORY, text_of

MAX_DEPTH = 8
MAX_REFERENCES = 100_000


def referenced_series(header: Dataset, known: Mapping[str, str]) -> str:
    """UID of the series that a label object refers to; empty where it does not say.

    Args:
        header: of the SEG or RTSTRUCT.
        known: SOP instance UID → series UID of the images at hand, which tell where the object
            names images only, or names its series wrongly.
    """
    named = ""
    for count, item in enumerate(_items(header, 0)):
        series = known.get(text_of(item, "ReferencedSOPInstanceUID"))
        if series:
            return series
        named = named or text_of(item, "SeriesInstanceUID")
        if count > MAX_REFERENCES:
            break
    return named


def referenced_instances(header: Dataset) -> frozenset[str]:
    """UIDs of the images that a label object refers to."""
    found: set[str] = set()
    for count, item in enumerate(_items(header, 0)):
        found.add(text_of(item, "ReferencedSOPInstanceUID"))
        if count > MAX_REFERENCES:
            break
    return frozenset(found - {""})


def _items(dataset: Dataset, depth: int) -> Iterator[Dataset]:
    """Every item of every sequence, the outer ones first."""
    if depth > MAX_DEPTH:
        return
    for tag in list(dataset.keys()):
        try:
            element = dataset[tag]
        except DAMAGE_IN_MEMORY:
            continue
        if isinstance(element.value, DicomSequence):
            for item in element.value:
                yield item
                yield from _items(item, depth + 1)
