"""DICOM-SEG: highdicom reads back what was frozen, and nothing says who the patient is."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import highdicom
import nibabel
import numpy as np
import pydicom
import pytest

from imaging.dataset.cases import CASE_RECORD, load_case
from imaging.dataset.quarantine import series_key
from imaging.deid.headers import safe_headers
from imaging.errors import ExportError
from imaging.export.dicom_seg import fill_dicom_seg
from imaging.export.folder import export_snapshot
from imaging.io.dicom.read import read_label_object, read_series
from imaging.io.dicom.series import sort_dicom
from imaging.io.nifti import read_label_volume, read_nifti, write_label_volume
from imaging.publish import MANIFEST, read_json, sha256_of, write_json
from tests.dicom_phantoms import Scan, ramp, small_scan, write_scan
from tests.imaging.export.lab import SCHEME, Lab, make_lab

SECRET = "key of the tests"
PATIENT = "Rosenberg^Margarethe"


def scan_of(number: int) -> Scan:
    pixels = ramp() + np.uint16(number)
    return small_scan(stored_DHW=pixels, patient=f"{PATIENT}{number}", series=str(number + 1))


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return lab_of(tmp_path)


def lab_of(
    tmp_path: Path, change: Callable[[int, pydicom.Dataset], None] = lambda k, dataset: None
) -> Lab:
    """Four cases that came from four series in rawdata."""
    rawdata = tmp_path / "nas" / "dataset" / "Task002_organs" / "rawdata"
    found = [
        sort_dicom(write_scan(rawdata / f"scan{number}", scan_of(number), change)).series[0]
        for number in range(4)
    ]
    lab = make_lab(tmp_path / "nas", volumes=[read_series(series) for series in found])
    for case, series in zip(lab.snapshot.cases, found, strict=True):
        record = load_case(case.image.parent)
        source = replace(record.source, sha256=series_key(map(sha256_of, series.files)))
        assert record.volume is not None
        volume = replace(record.volume, headers=safe_headers(series.headers, SECRET))
        record = replace(record, source=source, volume=volume)
        write_json(case.image.parent / CASE_RECORD, record.to_json())
    return lab


def export(lab: Lab, target: Path) -> dict[str, str]:
    fill = fill_dicom_seg(lab.task.rawdata, SECRET)
    return export_snapshot(target, lab.snapshot, "dicom-seg", fill)


def test_a_segmentation_reads_back_equal_beside_its_series(lab: Lab, tmp_path: Path) -> None:
    assert export(lab, tmp_path / "out") == {}
    for case in lab.snapshot.cases:
        folder = tmp_path / "out" / case.split / case.case
        found = sort_dicom([path for path in folder.rglob("*") if path.is_file()])
        (series,), (label,) = found.series, found.labels
        assert label.series_uid == series.uid and not found.refused
        volume = read_series(series)
        assert case.labels is not None
        expected_XYZ = read_label_volume(case.labels, volume.grid)
        labels_XYZ = read_label_object(label, series, volume.grid, SCHEME)
        assert np.array_equal(labels_XYZ, expected_XYZ)


def test_highdicom_finds_every_label_in_the_planes_of_the_images(lab: Lab, tmp_path: Path) -> None:
    export(lab, tmp_path / "out")
    case = lab.snapshot.cases[1]
    folder = tmp_path / "out" / case.split / case.case
    seg = highdicom.seg.segread(folder / "seg.dcm")
    images = [pydicom.dcmread(path) for path in sorted((folder / "series").iterdir())]
    assert [one.segment_label for one in seg.SegmentSequence] == list(SCHEME.names)
    named = {one.SOPInstanceUID for one in images}
    referenced = {
        str(item.ReferencedSOPInstanceUID)
        for series in seg.ReferencedSeriesSequence
        for item in series.ReferencedInstanceSequence
    }
    assert referenced == named
    volume = seg.get_volume(combine_segments=True, relabel=False)
    positions = {tuple(np.round(one.ImagePositionPatient, 3)) for one in images}
    origin = tuple(np.round(volume.position, 3))
    assert origin in positions


def test_images_without_identifiers_get_some_that_the_segmentation_refers_to(
    tmp_path: Path,
) -> None:
    """As a set from an anonymiser has it that took everything away."""

    def strip(k: int, dataset: pydicom.Dataset) -> None:
        for keyword in ("SOPClassUID", "SOPInstanceUID", "FrameOfReferenceUID"):
            del dataset[keyword]
        dataset.file_meta.MediaStorageSOPInstanceUID = "1.2.3"

    lab = lab_of(tmp_path, strip)
    assert export(lab, tmp_path / "out") == {}
    case = lab.snapshot.cases[0]
    found = sort_dicom(list((tmp_path / "out" / case.split / case.case).rglob("*.dcm")))
    assert found.labels[0].series_uid == found.series[0].uid
    uids = [header.SOPInstanceUID for header in found.series[0].headers]
    assert len(set(uids)) == 5


def test_nothing_that_is_written_says_who_it_is(lab: Lab, tmp_path: Path) -> None:
    export(lab, tmp_path / "out")
    raw = {pydicom.dcmread(path).SOPInstanceUID for path in lab.task.rawdata.rglob("*.dcm")}
    for path in (tmp_path / "out").rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert b"Rosenberg" not in content and b"20260102" not in content, path.name
            assert not any(uid.encode() in content for uid in raw), path.name


def test_the_manifest_lists_every_image_and_segmentation(lab: Lab, tmp_path: Path) -> None:
    export(lab, tmp_path / "out")
    files = read_json(tmp_path / "out" / MANIFEST)["files"]
    assert sum(name.endswith("seg.dcm") for name in files) == 4
    assert sum("/series/" in name for name in files) == 4 * 5


def _as_nifti(lab: Lab, folder: Path) -> None:
    record = load_case(folder)
    assert record.volume is not None
    volume = replace(record.volume, headers={})
    write_json(folder / CASE_RECORD, replace(record, volume=volume).to_json())


def _without_file(lab: Lab, folder: Path) -> None:
    (lab.task.rawdata / "scan0" / "1-002.dcm").unlink()


def _blanked(lab: Lab, folder: Path) -> None:
    """What is frozen has a black corner; what lies in rawdata has the name in it."""
    image = nibabel.load(folder / "image.nii.gz")
    voxels = np.asarray(image.dataobj).copy()
    voxels[:2, :2] = voxels.min()
    nibabel.save(nibabel.Nifti1Image(voxels, image.affine), folder / "image.nii.gz")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_as_nifti, "did not come from DICOM"),
        (_without_file, "no longer in rawdata"),
        (_blanked, "text was blanked"),
    ],
)
def test_a_case_that_cannot_be_written_is_left_out_with_a_reason(
    lab: Lab, tmp_path: Path, change: Callable[[Lab, Path], None], words: str
) -> None:
    case = lab.snapshot.cases[0]
    change(lab, case.image.parent)
    left_out = export(lab, tmp_path / "out")
    assert list(left_out) == [case.case] and words in left_out[case.case]
    assert not (tmp_path / "out" / case.split / case.case).exists()
    record = read_json(tmp_path / "out" / MANIFEST)
    assert record["left_out"] == left_out
    assert not any(case.case in name for name in record["files"])
    assert case.case not in (tmp_path / "out" / "cases.csv").read_text()


def test_an_empty_label_map_is_left_out(lab: Lab, tmp_path: Path) -> None:
    case = lab.snapshot.cases[0]
    record = load_case(case.image.parent)
    assert case.labels is not None and record.volume is not None
    grid = record.volume.grid
    write_label_volume(case.labels, np.zeros(grid.shape_XYZ, dtype=np.uint8), grid)
    left_out = export(lab, tmp_path / "out")
    assert "is empty" in left_out[case.case]


def test_an_export_without_any_case_is_refused(tmp_path: Path) -> None:
    lab = make_lab(tmp_path / "nas")
    with pytest.raises(ExportError, match="did not come from DICOM"):
        export(lab, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_files_without_a_preamble_are_exported_too(lab: Lab, tmp_path: Path) -> None:
    """As old archives keep them: the bare elements, which ingest takes."""
    for number, case in enumerate(lab.snapshot.cases):
        files = sorted((lab.task.rawdata / f"scan{number}").iterdir())
        for file in files:
            dataset = pydicom.dcmread(file)
            del dataset.file_meta
            dataset.preamble = None
            dataset.save_as(file, implicit_vr=True, little_endian=True)
        record = load_case(case.image.parent)
        source = replace(record.source, sha256=series_key(map(sha256_of, files)))
        write_json(case.image.parent / CASE_RECORD, replace(record, source=source).to_json())
    assert export(lab, tmp_path / "out") == {}
    case = lab.snapshot.cases[0]
    folder = tmp_path / "out" / case.split / case.case / "series"
    (series,) = sort_dicom(list(folder.iterdir())).series
    assert np.array_equal(read_series(series).voxels_CXYZ, read_nifti(case.image).voxels_CXYZ)
    assert all(PATIENT.encode() not in file.read_bytes() for file in folder.iterdir())
