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
