"""Only what is on the list reaches case.json, and only if it is what it should be."""

import json

import pydicom
import pytest
from pydicom import Dataset, Sequence

from imaging.deid.headers import safe_headers
from imaging.deid.profile import deidentify
from tests.phi import DATA, SERIES, planted_in, require

SECRET = "a lab's key"


def header(**elements: object) -> Dataset:
    made = Dataset()
    made.StudyInstanceUID, made.SeriesInstanceUID = "1.2.3.4.5.1", "1.2.3.4.5.2"
    made.PatientName, made.PatientID, made.StudyDate = "Muster^Anna", "MRN-77", "20230607"
    for keyword, value in elements.items():
        setattr(made, keyword, value)
    return made


def test_headers_of_the_planted_series_tell_geometry_and_nobody() -> None:
    require(SERIES)
    headers = [pydicom.dcmread(path) for path in sorted(SERIES.glob("*.dcm"))]
    said = safe_headers(headers, SECRET)
    assert said["Modality"] == "MR" and said["EchoTime"] == "110" and said["SliceThickness"] == "4"
    assert planted_in(json.dumps(said).encode()) == set()


def test_uids_and_dates_are_those_of_the_de_identified_series() -> None:
    said, made = safe_headers([header()], SECRET), deidentify(header(), SECRET)
    assert said["StudyInstanceUID"] == made.StudyInstanceUID
    assert said["SeriesInstanceUID"] == made.SeriesInstanceUID
    assert said["StudyDate"] == made.StudyDate != "20230607"


def test_a_real_scanners_header_keeps_what_a_researcher_asks_for() -> None:
    folder = DATA / "multiorgan_ct_mr" / "example_ct_dicom"
    require(folder)
    files = sorted(folder.iterdir())
    said = safe_headers([pydicom.dcmread(path, stop_before_pixels=True) for path in files], SECRET)
    wanted = {
        "Manufacturer": "Siemens",
        "KVP": "120",
        "ContrastBolus": "yes",
        "SliceThickness": "3",
    }
    assert said | wanted == said and "Biograph" in said["ManufacturerModelName"]


@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("ManufacturerModelName", "Anna Muster"),
        ("ManufacturerModelName", "unit of MRN-77"),
        ("ManufacturerModelName", "since 20230607"),
        ("ManufacturerModelName", "Großgerät"),
        ("ConvolutionKernel", "MUSTER"),
        ("ConvolutionKernel", "kernel; soft"),
        ("BodyPartExamined", "MUSTER"),
        ("ImageType", ["ORIGINAL", "ANNA"]),
        ("Manufacturer", "Hospital of Musterstadt"),
        ("ScanningSequence", "ANNA"),
        ("ContrastBolusRoute", "Muster"),
        ("StudyDescription", "Muster"),
    ],
)
def test_what_is_not_of_its_kind_is_not_told(keyword: str, value: object) -> None:
    assert set(safe_headers([header(**{keyword: value})], SECRET)) == {
        "StudyDate",
        "StudyInstanceUID",
        "SeriesInstanceUID",
    }


def test_what_differs_from_slice_to_slice_is_not_told() -> None:
    first, second = header(SliceThickness=4, KVP=120), header(SliceThickness=7, KVP=120)
    said = safe_headers([first, second], SECRET)
    assert said["KVP"] == "120" and "SliceThickness" not in said


def test_enhanced_objects_keep_their_numbers_in_shared_groups() -> None:
    timing, shared = Dataset(), Dataset()
    timing.RepetitionTime = 2000
    shared.MRTimingAndRelatedParametersSequence = Sequence([timing])
    said = safe_headers([header(SharedFunctionalGroupsSequence=Sequence([shared]))], SECRET)
    assert said["RepetitionTime"] == "2000"


@pytest.mark.parametrize(
    ("agent", "told"), [("Omnipaque 350", "yes"), ("NONE", "no"), ("Anna Muster", "yes")]
)
def test_of_contrast_only_yes_or_no_is_told(agent: str, told: str) -> None:
    assert safe_headers([header(ContrastBolusAgent=agent)], SECRET)["ContrastBolus"] == told


def test_no_headers_tell_nothing() -> None:
    assert safe_headers([], SECRET) == {}
