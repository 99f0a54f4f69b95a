from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import Dataset

from imaging.io.dicom.read import read_series
from imaging.io.dicom.series import SortedDicom, sort_dicom
from imaging.volume import to_stored
from tests.dicom_phantoms import ramp, set_pixels, small_scan, write_scan

OBLIQUE = (0.6, 0.8, 0.0, 0.0, 0.0, -1.0)


def reasons(found: SortedDicom) -> list[str]:
    return [one.reason for one in found.refused]


def test_slices_are_ordered_by_position_not_by_name(tmp_path: Path) -> None:
    def count_backwards(k: int, dataset: Dataset) -> None:
        dataset.InstanceNumber = 100 - k

    files = write_scan(tmp_path, small_scan(), count_backwards)
    renamed = [path.rename(tmp_path / f"{7 * k % 5}.dcm") for k, path in enumerate(files)]
    (series,) = sort_dicom(renamed).series
    assert series.files == tuple(renamed)
    volume = read_series(series)
    stored = to_stored(volume.voxels_CXYZ[0], volume.grid)
    assert np.array_equal(stored, ramp().transpose(2, 1, 0).astype(np.int16) - 1024)
    assert stored.dtype == np.int16


@pytest.mark.parametrize("directions", [(1.0, 0, 0, 0, 1.0, 0), (0, 1.0, 0, 0, 0, -1.0), OBLIQUE])
def test_the_affine_follows_the_orientation(tmp_path: Path, directions: tuple[float, ...]) -> None:
    scan = small_scan(directions=directions)
    (series,) = sort_dicom(write_scan(tmp_path, scan)).series
    affine = np.array(series.stack.grid.stored_affine)
    expected = np.eye(4)
    expected[:3, 0] = np.array(directions[:3]) * 0.7
    expected[:3, 1] = np.array(directions[3:]) * 0.8
    expected[:3, 2] = scan.normal * 2.5
    expected[:3, 3] = scan.origin
    assert np.allclose(affine, np.diag([-1, -1, 1, 1]) @ expected, atol=1e-5)
    assert series.stack.grid.stored_shape == (7, 6, 5)


def test_a_missing_slice_refuses_the_series_and_says_where(tmp_path: Path) -> None:
    files = write_scan(tmp_path, small_scan())
    found = sort_dicom([*files[:2], *files[3:]])
    assert not found.series and reasons(found) == ["missing-slices"]
    assert "42.50 and 47.50" in found.refused[0].text


def test_two_patients_in_one_series_are_refused(tmp_path: Path) -> None:
    def other(k: int, dataset: Dataset) -> None:
        dataset.PatientID = "A" if k < 3 else "B"

    assert reasons(sort_dicom(write_scan(tmp_path, small_scan(), other))) == ["several-patients"]


def test_two_patients_in_one_folder_are_two_series(tmp_path: Path) -> None:
    files = write_scan(tmp_path, small_scan(patient="A", series="1"))
    files += write_scan(tmp_path, small_scan(patient="B", series="2"))
    found = sort_dicom(files)
    assert [one.patient for one in found.series] == ["A", "B"] and not found.refused


def test_a_tilted_gantry_is_brought_upright_with_a_note(tmp_path: Path) -> None:
    down = (0.0, float(np.cos(0.3)), float(-np.sin(0.3)))
    scan = small_scan(directions=(1.0, 0.0, 0.0, *down), stacking=(0.0, 0.0, 1.0))
    (series,) = sort_dicom(write_scan(tmp_path, scan)).series
    assert "17.2°" in series.notes[0]
    affine = series.stack.grid.affine
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    assert np.allclose(affine[:3, :3].T @ affine[:3, :3], np.diag(spacing**2), atol=1e-6)


def test_an_image_of_finer_matrix_over_the_same_field_of_view_joins(tmp_path: Path) -> None:
    def finer(k: int, dataset: Dataset) -> None:
        if k == 2:
            pixels = np.kron(ramp()[2], np.ones((2, 2), dtype=np.uint16))
            set_pixels(dataset, pixels)
            dataset.PixelSpacing = [0.4, 0.35]

    (series,) = sort_dicom(write_scan(tmp_path, small_scan(), finer)).series
    assert "another matrix" in series.notes[0]
    volume = read_series(series)
    stored = to_stored(volume.voxels_CXYZ[0], volume.grid)
    assert np.array_equal(stored, ramp().transpose(2, 1, 0).astype(np.int16) - 1024)


@pytest.mark.parametrize(
    ("keyword", "values", "word"),
    [
        ("EchoTime", (30, 100), "echo time"),
        ("TemporalPositionIdentifier", (1, 2), "time"),
        ("DiffusionBValue", (0.0, 1000.0), "b value"),
        ("ImageType", (["ORIGINAL", "PRIMARY", "M"], ["ORIGINAL", "PRIMARY", "P"]), "image type"),
    ],
)
def test_several_volumes_in_one_series_are_split_by_what_tells_them_apart(
    tmp_path: Path, keyword: str, values: tuple[object, ...], word: str
) -> None:
    files = []
    for number, value in enumerate(values):

        def tell(k: int, dataset: Dataset, number: int = number, value: object = value) -> None:
            setattr(dataset, keyword, value)
            dataset.SOPInstanceUID += f".{number}"
            dataset.PixelData = bytes(len(dataset.PixelData))  # the same in both

        files += write_scan(tmp_path / str(number), small_scan(modality="MR"), tell)
    found = sort_dicom(files)
    assert [one.part for one in found.series] == [f"{word} 1 of 2", f"{word} 2 of 2"]
    assert found.series[0].files == tuple(files[:5]) and not found.refused


def test_more_time_points_than_anybody_would_label_are_refused(tmp_path: Path) -> None:
    def tell(k: int, dataset: Dataset) -> None:
        dataset.TemporalPositionIdentifier = 1 + k // 3
        dataset.ImagePositionPatient = [0, 0, k % 3]

    files = write_scan(tmp_path, small_scan(stored_DHW=ramp((27, 4, 5))), tell)
    assert reasons(sort_dicom(files)) == ["not-3d"]


def test_localizers_are_set_apart_from_the_slices(tmp_path: Path) -> None:
    def across(k: int, dataset: Dataset) -> None:
        if k == 0:
            dataset.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
            dataset.ImageOrientationPatient = [1, 0, 0, 0, 0, -1]

    found = sort_dicom(write_scan(tmp_path, small_scan(), across))
    assert len(found.series[0].files) == 4 and reasons(found) == ["localizer"]
    assert found.refused[0].files[0].name == "1-000.dcm"


def test_slightly_uneven_slices_are_resampled_and_say_so(tmp_path: Path) -> None:
    places = (0.0, 2.0, 4.6, 7.0, 9.0)

    def shift(k: int, dataset: Dataset) -> None:
        dataset.ImagePositionPatient = [0, 0, places[k]]
        set_pixels(dataset, np.full((6, 7), round(100 * places[k]), dtype=np.uint16))

    (series,) = sort_dicom(write_scan(tmp_path, small_scan(intercept=0.0), shift)).series
    assert "2.000 to 2.600 mm apart" in series.notes[0]
    volume = read_series(series)
    stored = to_stored(volume.voxels_CXYZ[0], volume.grid)
    # The value is the place: linear interpolation gives back where each slice is now.
    assert np.allclose(stored[0, 0], 100 * np.linspace(0, 9, stored.shape[2]), atol=0.51)


def test_slices_a_hair_off_an_even_grid_stay_as_they_are(tmp_path: Path) -> None:
    def shift(k: int, dataset: Dataset) -> None:
        dataset.ImagePositionPatient = [0, 0, 2.5 * k + 0.02 * (k % 2)]

    (series,) = sort_dicom(write_scan(tmp_path, small_scan(), shift)).series
    assert not series.notes and series.stack.placing is None


def test_two_orientations_of_enough_slices_are_two_volumes(tmp_path: Path) -> None:
    def turn(k: int, dataset: Dataset) -> None:
        dataset.ImageOrientationPatient = [1, 0, 0, 0, 0, -1]
        dataset.ImagePositionPatient = [0, 3 * k, 0]
        dataset.SOPInstanceUID += ".9"

    files = write_scan(tmp_path / "a", small_scan())
    files += write_scan(tmp_path / "b", small_scan(), turn)
    found = sort_dicom(files)
    assert [one.part for one in found.series] == ["part 1 of 2", "part 2 of 2"]
    assert not found.refused


def test_an_image_in_two_files_is_taken_once(tmp_path: Path) -> None:
    files = write_scan(tmp_path, small_scan())
    copy = tmp_path / "copy.dcm"
    copy.write_bytes(files[2].read_bytes())
    (series,) = sort_dicom([*files, copy]).series
    assert len(series.files) == 5 and series.repeated == (copy,)
    assert "1 images that repeat" in series.notes[0]


def test_files_without_preamble_and_without_uids_are_read(tmp_path: Path) -> None:
    def strip(k: int, dataset: Dataset) -> None:
        dataset.SeriesInstanceUID = ""

    files = write_scan(tmp_path, small_scan(), strip)
    for path in files:
        data = path.read_bytes()
        path.write_bytes(data[144 + int.from_bytes(data[140:144], "little") :])
    (series,) = sort_dicom(files).series
    assert np.array_equal(read_series(series).voxels_CXYZ.shape, (1, 7, 6, 5))


def test_a_damaged_file_at_the_end_is_named_and_noted(tmp_path: Path) -> None:
    files = write_scan(tmp_path, small_scan())
    files[4].write_bytes(files[4].read_bytes()[:-20])
    found = sort_dicom(files)
    assert reasons(found) == ["truncated"] and found.refused[0].files == (files[4],)
    assert "damaged" in found.series[0].notes[0]


def test_no_message_holds_what_a_header_says_about_a_person(tmp_path: Path) -> None:
    def spoil(k: int, dataset: Dataset) -> None:
        dataset.PatientID = f"Muster^{k // 3}"
        dataset.PatientBirthDate = "Muster"
        dataset.Modality = "CT"

    found = sort_dicom(write_scan(tmp_path, small_scan(patient="Muster"), spoil))
    assert found.refused and not any("Muster" in one.text + one.hint for one in found.refused)


def test_progress_is_told_for_every_file(tmp_path: Path) -> None:
    calls: list[int] = []
    sort_dicom(write_scan(tmp_path, small_scan()), progress=lambda: calls.append(1))
    assert len(calls) == 5
