"""The planted strings and UIDs are gone, geometry stays, one key gives one result."""

import io
from collections.abc import Iterator
from pathlib import Path

import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import DataElement, Dataset, Sequence
from pydicom.datadict import DicomDictionary
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from imaging.deid.dates import earlier_date, earlier_date_time, plain_time
from imaging.deid.identity import days_earlier, remapped_uid
from imaging.deid.profile import deidentify
from imaging.deid.pseudonym import pseudonym
from imaging.errors import DeidentificationError
from tests.phi import SERIES, planted_in, planted_record, require

SECRET = "a lab's key"
TEXT_VRS = {"AE", "CS", "DA", "DT", "LO", "LT", "PN", "SH", "ST", "TM", "UC", "UI", "UR", "UT"}
TEXT_TAGS = {tag: entry[0] for tag, entry in DicomDictionary.items() if entry[0] in TEXT_VRS}


def planted_files() -> list[Path]:
    require(SERIES)
    return sorted(SERIES.glob("*.dcm"))


def written(dataset: Dataset) -> bytes:
    with io.BytesIO() as stream:
        dataset.save_as(stream, enforce_file_format=True)
        return stream.getvalue()


def walked(dataset: Dataset) -> Iterator[DataElement]:
    for element in dataset:
        yield element
        if element.VR == "SQ":
            for item in element.value:
                yield from walked(item)


def header(**elements: object) -> Dataset:
    """A small CT header of an invented person."""
    made = Dataset()
    made.SOPClassUID, made.SOPInstanceUID = CTImageStorage, "1.2.3.4.5.6.7"
    made.StudyInstanceUID, made.SeriesInstanceUID = "1.2.3.4.5.1", "1.2.3.4.5.2"
    made.PatientName, made.PatientID, made.Modality = "Muster^Anna", "MRN-77", "CT"
    for keyword, value in elements.items():
        setattr(made, keyword, value)
    made.file_meta = pydicom.dataset.FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return made


def test_no_planted_string_is_left_anywhere_in_the_bytes() -> None:
    for path in planted_files():
        original = path.read_bytes()
        assert len(planted_in(original)) >= 20
        made = deidentify(pydicom.dcmread(path), SECRET)
        assert planted_in(written(made)) == set(), path.name


def test_no_element_holds_a_planted_string_and_none_is_private() -> None:
    made = deidentify(pydicom.dcmread(planted_files()[0]), SECRET)
    texts = [str(element.value) for element in walked(made)]
    assert not [text for text in texts if planted_in(text.encode())]
    assert not [element for element in walked(made) if element.tag.is_private]
    assert not [element for element in walked(made.file_meta) if planted_in(str(element).encode())]


def test_geometry_and_acquisition_stay() -> None:
    files = planted_files()
    keep = planted_record()["keep"]
    assert isinstance(keep, list)
    for path in files:
        before = pydicom.dcmread(path)
        after = deidentify(before, SECRET)
        assert {key: after[key].value for key in keep} == {key: before[key].value for key in keep}
        assert (after.pixel_array == before.pixel_array).all()


def test_one_study_stays_one_study_and_another_key_makes_another() -> None:
    first, second = (deidentify(pydicom.dcmread(path), SECRET) for path in planted_files()[:2])
    assert first.StudyInstanceUID == second.StudyInstanceUID
    assert first.SeriesInstanceUID == second.SeriesInstanceUID
    assert first.SOPInstanceUID != second.SOPInstanceUID
    assert first.file_meta.MediaStorageSOPInstanceUID == first.SOPInstanceUID
    other = deidentify(pydicom.dcmread(planted_files()[0]), "another key")
    assert other.StudyInstanceUID != first.StudyInstanceUID
    assert other.PatientID != first.PatientID and other.StudyDate != first.StudyDate
    again = deidentify(pydicom.dcmread(planted_files()[0]), SECRET)
    assert written(again) == written(first)


def test_what_was_done_is_said_in_the_standards_words() -> None:
    made = deidentify(header(), SECRET)
    assert made.PatientIdentityRemoved == "YES"
    found = [item.CodeValue for item in made.DeidentificationMethodCodeSequence]
    assert found == ["113100", "113107"] and "2026c" in made.DeidentificationMethod
    assert made.PatientName == made.PatientID == pseudonym(SECRET, "MRN-77")
    assert made.SOPClassUID == CTImageStorage and made.SOPInstanceUID.startswith("2.25.")


def test_the_original_is_not_changed() -> None:
    before = header(StudyDate="20230607")
    deidentify(before, SECRET)
    assert before.PatientID == "MRN-77" and before.StudyDate == "20230607"


def test_two_studies_of_one_patient_keep_the_days_between_them() -> None:
    first = deidentify(header(StudyDate="20230607"), SECRET)
    second = deidentify(header(StudyDate="20230617", StudyInstanceUID="1.2.3.4.5.9"), SECRET)
    days = days_earlier(SECRET, "MRN-77")
    assert first.StudyDate == earlier_date("20230607", days)
    assert earlier_date(second.StudyDate, 10) == first.StudyDate


def test_sequences_in_sequences_are_treated_like_the_rest() -> None:
    inner = header(ReferencedSOPInstanceUID="1.2.3.4.5.6.8", AcquisitionDateTime="20230607101112")
    inner.private_block(0x0029, "VENDOR", create=True).add_new(1, "LO", "Muster^Anna")
    middle = Dataset()
    middle.ReferencedSeriesSequence = Sequence([inner])
    made = deidentify(header(ReferencedStudySequence=[], SourceImageSequence=[middle]), SECRET)
    found = made.SourceImageSequence[0].ReferencedSeriesSequence[0]
    assert found.ReferencedSOPInstanceUID == remapped_uid(SECRET, "1.2.3.4.5.6.8")
    assert "20230607" not in found.AcquisitionDateTime
    assert found.AcquisitionDateTime.endswith("101112")
    assert b"Muster" not in written(made) and b"MRN-77" not in written(made)


@pytest.mark.parametrize(
    ("tag", "vr", "value"),
    [
        (0x60000022, "LO", "Muster^Anna"),  # overlay description: the table names data, comments
        (0x60003000, "OB", b"Muster^Anna "),
        (0x50102600, "SH", "Muster^Anna"),  # a curve
        (0x00080108, "LT", "Muster^Anna"),  # free text that the table does not name
        (0x00400280, "ST", "Muster^Anna"),
        (0x00142006, "PN", "Muster^Anna"),  # a name that the table does not know
        (0x00282000, "OB", b"Muster^Anna "),  # bytes that are no pixels
        (0x00180015, "CS", "ANNA MUSTER"),  # a kept code that names the patient
        (0x00081090, "LO", "Scanner of Muster"),
        (0x00081090, "LO", "from MRN-77"),
        (0x00181020, "LO", "seen 2023-06-07"),
        (0x00181020, "LO", "for 1.2.3.4.5.6.7"),
        (0x00280010, "LO", "Muster^Anna"),  # a number that is none
        (0x00091001, "LO", "Muster^Anna"),
        (0x00070010, "LO", "Muster^Anna"),
        (0x00FE0010, "LO", "Muster^Anna"),  # the standard knows no such element
        (0xFFFCFFFC, "OB", b"Muster^Anna "),  # padding at the end
        (0x00081150, "UI", "1.2.3.4.5.6.7"),
        (0x0040A124, "UI", "1.2.3.4.5.6.7"),
        (0x00189074, "DT", "Muster^Anna"),
        (0x00080031, "TM", "Muster"),
        (0x00080022, "DA", "Anna"),
    ],
)
def test_nothing_passes_where_the_table_is_silent(tag: int, vr: str, value: object) -> None:
    before = header()
    before.add(DataElement(tag, vr, value, validation_mode=0))
    data = written(deidentify(before, SECRET)).lower()
    for text in (b"muster", b"anna", b"mrn-77", b"2023-06-07", b"1.2.3.4.5.6.7"):
        assert text not in data, text


@given(tag=st.sampled_from(sorted(TEXT_TAGS)), is_nested=st.booleans())
def test_no_element_of_the_standard_carries_a_name_through(tag: int, is_nested: bool) -> None:
    """Every element of the dictionary that can hold text, at the top or in a sequence."""
    item = Dataset()
    item.add(DataElement(tag, TEXT_TAGS[tag], "of Anna Muster", validation_mode=0))
    before = header(**({"SourceImageSequence": [item]} if is_nested else {}))
    if not is_nested:
        before.update(item)
    found = [str(element.value).lower() for element in walked(deidentify(before, SECRET))]
    assert not [text for text in found if "muster" in text]


def test_a_patients_number_is_no_number_of_a_series() -> None:
    made = deidentify(header(PatientID="4711471", SeriesNumber=4711471, InstanceNumber=3), SECRET)
    assert "SeriesNumber" not in made and made.InstanceNumber == 3


def test_pixels_that_nothing_describes_are_refused() -> None:
    before = header()
    before.add_new("PixelData", "OW", b"Muster^Anna ")
    with pytest.raises(DeidentificationError, match="without a description"):
        deidentify(before, SECRET)


def test_curves_overlays_and_the_preamble_go() -> None:
    before = header()
    before.add_new(0x60000010, "US", 4)
    before.preamble = b"Muster^Anna".ljust(128, b"\0")
    made = deidentify(before, SECRET)
    assert not [element for element in made if element.tag.group >= 0x5000]
    assert b"Muster" not in written(made)


def test_file_meta_of_senders_goes() -> None:
    before = header()
    before.file_meta.SourceApplicationEntityTitle = "MUSTERWARD"
    before.file_meta.PrivateInformationCreatorUID = "1.2.3.4.5.77"
    before.file_meta.PrivateInformation = b"Muster^Anna "
    data = written(deidentify(before, SECRET))
    assert b"MUSTERWARD" not in data and b"1.2.3.4.5.77" not in data and b"Muster" not in data


def test_uids_in_lists_are_replaced_one_by_one() -> None:
    made = deidentify(header(IrradiationEventUID=["1.2.3.4.5.8", "1.2.3.4.5.9"]), SECRET)
    assert [str(uid) for uid in made.IrradiationEventUID] == [
        remapped_uid(SECRET, "1.2.3.4.5.8"),
        remapped_uid(SECRET, "1.2.3.4.5.9"),
    ]


def test_a_patient_without_id_is_told_by_name_or_study() -> None:
    nameless = header(PatientID="", PatientName="")
    other = header(PatientID="", PatientName="", StudyInstanceUID="1.2.3.4.5.9")
    made = [deidentify(one, SECRET).PatientID for one in (nameless, other, nameless)]
    assert made[0] == made[2] != made[1]


def test_a_pseudonym_stays_what_it_was() -> None:
    """Datasets in labs are named by it."""
    assert pseudonym("key", "patient") == "p-38fef5f2644c"


@given(day=st.dates(), days=st.integers(730, 3652))
def test_a_date_moves_by_exactly_so_many_days_or_is_gone(day: object, days: int) -> None:
    text = str(day).replace("-", "")
    moved = earlier_date(text, days)
    assert moved != text
    assert moved == "" or (len(moved) == 8 and earlier_date(text, 0) == text)
    assert earlier_date(str(day).replace("-", "."), days) == moved
    assert earlier_date_time(text, days) == moved
    assert earlier_date_time(f"{text}235959.123456+0200", days) == (
        moved and f"{moved}235959.123456"
    )


@given(text=st.text(max_size=24), days=st.integers(730, 3652))
def test_text_that_is_no_date_never_survives(text: str, days: int) -> None:
    for moved in (earlier_date(text, days), earlier_date_time(text, days), plain_time(text)):
        assert moved == "" or set(moved) <= set("0123456789.-:")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("20230607", "20230528"),
        ("2023.06.07 ", "20230528"),
        ("20230607-20230617", "20230528-20230607"),
        ("20230607-", "20230528-"),
        ("202306", ""),
        ("2023-06-07", ""),
        ("20230230", ""),
        ("00010101", ""),
        ("٢٠٢٣٠٦٠٧", ""),
        ("", ""),
    ],
)
def test_forms_of_dates(text: str, expected: str) -> None:
    assert earlier_date(text, 10) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2023", "2022"),
        ("202306", "202305"),
        ("20230607", "20230528"),
        ("2023060712", "2023052812"),
        ("20230607120000.5&0200", ""),
        ("20230607120000.5-0300", "20230528120000.5"),
        ("2023-06-07T12:00", ""),
        ("20230607-20230617", ""),
        ("20230607.5", ""),
        ("20230607256161", ""),
    ],
)
def test_forms_of_date_times(text: str, expected: str) -> None:
    assert earlier_date_time(text, 10) == expected
