"""De-identification of DICOM headers by the basic profile of PS3.15 Annex E.

The standard's table decides (`table.py`). Dates are moved back by a number of days that belongs to
the patient (the profile's option for modified dates), UIDs are replaced by keyed hashes. What the
table does not name stays only if its type cannot hold a sentence: an element that this edition
does not know, free text, names and byte strings go. Pixels stay the same to the last bit, without
what else their data carry (`pixels.py`); text burned into them is `burned_in.py`'s business.
"""

import re
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from pydicom import DataElement, Dataset, Sequence
from pydicom.config import disable_value_validation
from pydicom.datadict import dictionary_has_tag, dictionary_VR
from pydicom.dataset import FileMetaDataset
from pydicom.multival import MultiValue
from pydicom.sr.codedict import codes
from pydicom.tag import BaseTag, Tag
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian

from imaging.deid.dates import earlier_date, earlier_date_time, plain_time
from imaging.deid.identity import PADDING, days_earlier, patient_of, remapped_uid
from imaging.deid.pixels import blanked_pixels
from imaging.deid.pseudonym import pseudonym
from imaging.deid.table import EDITION, Action, action_for
from imaging.errors import DeidentificationError

METHOD = f"Labloop, DICOM PS3.15 Annex E {EDITION}"
DUMMY = "REMOVED"  # valid for every kind of text, as the standard's letter D wants
NUMBERS = frozenset({"DS", "IS", "FD", "FL", "SS", "US", "SL", "UL", "SV", "UV", "AT"})
BYTES = frozenset({"OB", "OD", "OF", "OL", "OV", "OW"})
CODES = frozenset({"CS", "LO", "SH"})  # short texts: kept where the table is silent
# How dates and times are moved; those of the day are kept.
MOVED: dict[str, Callable[[str, int], str]] = {
    "DA": earlier_date,
    "DT": earlier_date_time,
    "TM": lambda text, days: plain_time(text),
}
PATIENT = 0x0010  # the group about the person: its dates are no dates of the study
KEPT_BYTES = frozenset(
    map(
        Tag,
        (
            "PixelData", "FloatPixelData", "DoubleFloatPixelData", "LUTData",
            "RedPaletteColorLookupTableData", "GreenPaletteColorLookupTableData",
            "BluePaletteColorLookupTableData", "SegmentedRedPaletteColorLookupTableData",
            "SegmentedGreenPaletteColorLookupTableData",
            "SegmentedBluePaletteColorLookupTableData",
        ),
    )
)  # fmt: skip
# What pydicom raises on values that are not what their type says. None of them is let through.
UNREADABLE = (ValueError, TypeError, KeyError, AttributeError, NotImplementedError, OverflowError)
CHARACTER_SET = Tag("SpecificCharacterSet")  # texts are written anew, as UTF-8
DEEPEST = 16  # sequences inside each other; enhanced objects have 4
UID_IN_TEXT = re.compile(r"\d+(?:\.\d+){4,}", re.ASCII)
DATE_IN_TEXT = re.compile(r"(?:19|20)\d{2}[-./]?[01]\d[-./]?[0-3]\d", re.ASCII)
WORD = re.compile(r"\w+")
LONG_WORD, SHORT_WORD = 5, 3  # from 5 letters a name is looked for inside words, too
# Whoever is named here may be named again where the table does not look.
TELLING = frozenset(
    map(
        Tag,
        (
            "AccessionNumber", "StudyID", "InstitutionName", "InstitutionAddress", "StationName",
            "DeviceSerialNumber", "InstitutionalDepartmentName",
        ),
    )
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Person:
    """What is needed to treat one patient's headers."""

    secret: str
    days: int
    words: frozenset[str]  # of names and numbers, casefolded


def deidentify(dataset: Dataset, secret: str) -> Dataset:
    """A copy of a DICOM header, or of a whole object, that no longer says who it is about.

    Args:
        dataset: as pydicom has read it; it is not changed.
        secret: the lab's pseudonym key. The same key gives the same UIDs, dates and pseudonym.

    Returns:
        A new dataset with new file meta information. PatientID and PatientName are the pseudonym;
        age and sex are gone, as the basic profile has it.

    Raises:
        DeidentificationError: there are pixel data that cannot be told from what else they carry.
    """
    with disable_value_validation(), warnings.catch_warnings():
        # pydicom would quote what it finds odd, a name in a wrong place, in warnings and logs.
        warnings.simplefilter("ignore")
        patient = patient_of(dataset)
        person = _Person(secret, days_earlier(secret, patient), telling_words(dataset))
        made = _cleaned(dataset, person, depth=0)
        made.PatientID = made.PatientName = pseudonym(secret, patient)
        made.PatientIdentityRemoved = "YES"
        made.LongitudinalTemporalInformationModified = "MODIFIED"
        made.DeidentificationMethod = METHOD
        made.DeidentificationMethodCodeSequence = Sequence(_method_codes())
        made.SpecificCharacterSet = "ISO_IR 192"
        made.file_meta = _file_meta(dataset, made)
        if "PixelData" in made:
            _clean_pixels(made, dataset)
        made.preamble = b"\0" * 128  # may hold another file, a TIFF's header for one
    return made


def telling_words(dataset: Dataset) -> frozenset[str]:
    """Words that name the patient, the people or the place, wherever in the header they stand.

    Names word by word, numbers and addresses as a whole; casefolded, of 3 characters or more.
    """
    found: set[str] = set()
    for element in _elements(dataset, depth=0):
        texts = [str(value).casefold() for value in values_of(element)]
        if element.VR == "PN":
            found |= {word for text in texts for word in WORD.findall(text)}
        elif element.tag in TELLING or (element.tag.group == PATIENT and element.VR in CODES):
            found |= {text.strip(PADDING) for text in texts}
    return frozenset(word for word in found if len(word) >= SHORT_WORD)


def is_harmless(text: str, words: frozenset[str]) -> bool:
    """Whether a short text holds no name, number or place of `telling_words`, no UID, no date."""
    low = text.casefold()
    own = set(WORD.findall(low))
    if UID_IN_TEXT.search(low) or DATE_IN_TEXT.search(low) or not low.isprintable():
        return False
    return not any(word in (low if len(word) >= LONG_WORD else own) for word in words)


def values_of(element: DataElement) -> list[Any]:
    """The values of an element, whether it has none, one or many."""
    if element.value is None or element.VR == "SQ":
        return []
    is_many = isinstance(element.value, MultiValue | list | tuple)
    return list(element.value) if is_many else [element.value]


def _elements(dataset: Dataset, depth: int) -> Iterator[DataElement]:
    """All elements that can be read, those in sequences too, but for pixels."""
    for tag in list(dataset.keys()):
        element = None if tag in KEPT_BYTES else _read(dataset, tag)
        if element is None:
            continue
        yield element
        if element.VR == "SQ" and depth < DEEPEST:
            for item in element.value:
                yield from _elements(item, depth + 1)


def _read(dataset: Dataset, tag: BaseTag) -> DataElement | None:
    try:
        return dataset[tag]
    except UNREADABLE:
        return None


def _cleaned(dataset: Dataset, person: _Person, depth: int) -> Dataset:
    made = Dataset()
    for tag in sorted(dataset.keys()):
        if tag.element == 0 or tag.group <= 2 or tag == CHARACTER_SET:
            continue  # lengths of groups; commands and file meta information in a wrong place
        if action_for(tag) is Action.REMOVE:
            continue
        element = _read(dataset, tag)
        kept = None if element is None else _kept(element, person, depth)
        if kept is not None:
            made.add(kept)
    return made


def _kept(element: DataElement, person: _Person, depth: int) -> DataElement | None:
    """What stays of an element that the table does not remove, if anything does."""
    tag, vr, action = element.tag, element.VR, action_for(element.tag)
    if vr == "SQ":
        return _kept_sequence(element, person, depth)
    if vr in MOVED and tag.group != PATIENT:
        moved = [MOVED[vr](str(value), person.days) for value in values_of(element)]
        return DataElement(tag, vr, moved)
    if vr == "UI" and action is not Action.EMPTY:
        uids = [remapped_uid(person.secret, str(value)) for value in values_of(element)]
        return DataElement(tag, vr, uids)
    if action is not None:
        return _replaced(tag, vr, must_have_value=action is Action.REPLACE)
    if not _is_of_its_type(tag, vr):
        return None
    if vr in CODES or vr == "IS":  # a patient's number may be a series' number, too
        texts = [str(value) for value in values_of(element)]
        return element if all(is_harmless(text, person.words) for text in texts) else None
    is_number = NUMBERS.issuperset(vr.split(" or "))  # "US or SS" is left open until it is written
    return element if is_number or tag in KEPT_BYTES else None


def _kept_sequence(element: DataElement, person: _Person, depth: int) -> DataElement | None:
    """A sequence with its items cleaned, or without any where the table wants it replaced."""
    if action_for(element.tag) in (Action.EMPTY, Action.REPLACE):
        return DataElement(element.tag, "SQ", Sequence())
    if depth >= DEEPEST or not _is_of_its_type(element.tag, "SQ"):
        return None
    items = [_cleaned(item, person, depth + 1) for item in element.value]
    return DataElement(element.tag, "SQ", Sequence(items))


def _replaced(tag: BaseTag, vr: str, *, must_have_value: bool) -> DataElement | None:
    """An element without what it said: empty, or with a value that means nothing."""
    if vr in BYTES or vr == "UN":
        return None
    if not must_have_value:
        return DataElement(tag, vr, None)
    if vr in NUMBERS:
        return DataElement(tag, vr, 0)
    return DataElement(tag, vr, "000Y" if vr == "AS" else "" if vr in MOVED else DUMMY)


def _is_of_its_type(tag: BaseTag, vr: str) -> bool:
    """Whether an element that the table does not name is one the standard knows, as it is."""
    if not dictionary_has_tag(tag):
        return False
    expected = set(dictionary_VR(tag).split(" or "))
    both_numbers = vr in NUMBERS and bool(expected & NUMBERS)
    return both_numbers or vr in expected or vr == dictionary_VR(tag)


def _method_codes() -> list[Dataset]:
    """The profile and its option, in the standard's code (CID 7050)."""
    made = []
    for code in (
        codes.DCM.BasicApplicationConfidentialityProfile,
        codes.DCM.RetainLongitudinalTemporalInformationModifiedDatesOption,
    ):
        item = Dataset()
        item.CodeValue, item.CodingSchemeDesignator = code.value, code.scheme_designator
        item.CodeMeaning = code.meaning
        made.append(item)
    return made


def _clean_pixels(made: Dataset, dataset: Dataset) -> None:
    syntax = made.file_meta.get("TransferSyntaxUID")
    if syntax is None:  # read without file meta information: as pydicom has found it out
        is_little = dataset.original_encoding[1] is not False
        syntax = ExplicitVRLittleEndian if is_little else ExplicitVRBigEndian
    element = made["PixelData"]
    try:
        pixels = blanked_pixels(made, syntax)
    except UNREADABLE as error:  # no rows, no bits: pixels of unknown size
        raise DeidentificationError(f"pixels without a description: {error}", hint="") from error
    cleaned = DataElement(element.tag, element.VR, pixels)
    cleaned.is_undefined_length = element.is_undefined_length
    made["PixelData"] = cleaned


def _file_meta(dataset: Dataset, made: Dataset) -> FileMetaDataset:
    """New file meta information: senders, receivers and what a vendor added are not carried on."""
    meta = FileMetaDataset()
    if "SOPClassUID" in made:
        meta.MediaStorageSOPClassUID = made.SOPClassUID
    if "SOPInstanceUID" in made:
        meta.MediaStorageSOPInstanceUID = made.SOPInstanceUID
    syntax = getattr(getattr(dataset, "file_meta", None), "TransferSyntaxUID", None)
    if syntax:
        meta.TransferSyntaxUID = syntax
    return meta
