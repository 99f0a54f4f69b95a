from collections.abc import Callable
from pathlib import Path
from typing import Any

import highdicom
import numpy as np
import pydicom
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from imaging.errors import GridMismatchError, VolumeError
from imaging.io.dicom.read import read_label_object, read_series
from imaging.io.dicom.series import Series, sort_dicom
from imaging.io.dicom.write import write_rtstruct, write_seg
from imaging.labels import label_scheme
from imaging.volume import Grid, to_stored
from tests.dicom_phantoms import small_scan, write_scan
from tests.real_data import data_folder

SCHEME = label_scheme(["left ventricle", "Tumör"], ["#102030", None])
TILTED = (1.0, 0.0, 0.0, 0.0, 0.97, -0.2431)
OBLIQUE = (0.6, 0.8, 0.0, 0.0, 0.0, -1.0)
WRITERS = pytest.mark.parametrize("write", [write_seg, write_rtstruct])


def scanned(tmp_path: Path, **changes: Any) -> tuple[Series, Grid]:
    (series,) = sort_dicom(write_scan(tmp_path / "images", small_scan(**changes))).series
    return series, read_series(series).grid


def some_labels(grid: Grid) -> Any:
    labels_XYZ = np.zeros(grid.shape_XYZ, dtype=np.uint8)
    labels_XYZ[1:5, 1:4, 1:4] = 1
    labels_XYZ[3, 2, 2:] = 2
    labels_XYZ[2, 2, 2] = 0  # a hole
    return labels_XYZ


def read_back(path: Path, series: Series, grid: Grid) -> Any:
    (found,) = sort_dicom([path, *series.files]).labels
    assert found.series_uid == series.uid
    return read_label_object(found, series, grid, SCHEME)


@WRITERS
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"directions": OBLIQUE},
        {"directions": (0, 1.0, 0, 0, 0, -1.0)},
        {"directions": TILTED, "stacking": (0.0, 0.0, 1.0)},
    ],
)
def test_what_is_written_reads_back_voxel_by_voxel(
    tmp_path: Path, write: Callable[..., None], changes: dict[str, Any]
) -> None:
    series, grid = scanned(tmp_path, **changes)
    labels_XYZ = some_labels(grid)
    path = tmp_path / "labels.dcm"
    write(path, labels_XYZ, SCHEME, grid, series.headers)
    assert np.array_equal(read_back(path, series, grid), labels_XYZ)


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(stored=arrays(np.uint8, (7, 6, 5), elements=st.integers(0, 2)))
def test_outlines_of_any_label_map_lead_back_to_it(tmp_path: Path, stored: Any) -> None:
    if not (tmp_path / "images").exists():
        scanned(tmp_path)
    (series,) = sort_dicom(sorted((tmp_path / "images").iterdir())).series
    grid = series.stack.grid
    labels_XYZ = np.ascontiguousarray(stored[::-1, ::-1])  # LPS to RAS
    path = tmp_path / "labels.dcm"
    write_rtstruct(path, labels_XYZ, SCHEME, grid, series.headers)
    assert np.array_equal(read_back(path, series, grid), labels_XYZ)


def test_highdicom_reads_the_segmentation_on_the_grid_of_the_images(tmp_path: Path) -> None:
    series, grid = scanned(tmp_path, directions=OBLIQUE)
    labels_XYZ = some_labels(grid)
    path = tmp_path / "labels.dcm"
    write_seg(path, labels_XYZ, SCHEME, grid, series.headers)
    found = highdicom.seg.segread(path)
    assert found.get_segment_description(2).segment_label == "Tumör"
    volume = found.get_volume(combine_segments=True, allow_missing_positions=True)
    affine = np.diag([-1, -1, 1, 1]) @ volume.affine
    # highdicom may stack the slices the other way and leaves out empty ones: compare by place.
    places = (
        affine @ np.vstack([np.argwhere(volume.array).T, np.ones((1, (volume.array > 0).sum()))])
    )[:3]
    stored = to_stored(labels_XYZ, grid)
    expected = np.argwhere(stored).T
    expected = (np.array(grid.stored_affine) @ np.vstack([expected, np.ones(expected.shape[1])]))[
        :3
    ]
    order = [np.lexsort(np.round(one, 3)) for one in (places, expected)]
    assert np.allclose(places[:, order[0]], expected[:, order[1]], atol=1e-3)


@WRITERS
def test_the_object_refers_to_images_patient_and_colours(
    tmp_path: Path, write: Callable[..., None]
) -> None:
    series, grid = scanned(tmp_path, patient="pseudonym-7")
    path = tmp_path / "labels.dcm"
    write(path, some_labels(grid), SCHEME, grid, series.headers)
    dataset = pydicom.dcmread(path)
    assert dataset.PatientID == "pseudonym-7"
    assert dataset.StudyInstanceUID == series.study_uid
    assert dataset.SeriesInstanceUID != series.uid
    assert dataset.FrameOfReferenceUID == series.headers[0].FrameOfReferenceUID
    text = str(dataset)
    assert series.headers[2].SOPInstanceUID in text and "left ventricle" in text
    if dataset.Modality == "RTSTRUCT":
        assert list(dataset.ROIContourSequence[0].ROIDisplayColor) == [0x10, 0x20, 0x30]


@WRITERS
def test_headers_without_identity_will_do(tmp_path: Path, write: Callable[..., None]) -> None:
    series, grid = scanned(tmp_path)
    for header in series.headers:
        for keyword in ("PatientID", "PatientName", "SOPClassUID", "FrameOfReferenceUID"):
            del header[keyword]
    path = tmp_path / "labels.dcm"
    write(path, some_labels(grid), SCHEME, grid, series.headers)
    assert pydicom.dcmread(path).PatientID == ""


def test_a_label_map_without_labels_is_a_structure_set_without_contours(tmp_path: Path) -> None:
    series, grid = scanned(tmp_path)
    empty_XYZ = np.zeros(grid.shape_XYZ, dtype=np.uint8)
    write_rtstruct(tmp_path / "labels.dcm", empty_XYZ, SCHEME, grid, series.headers)
    assert not read_back(tmp_path / "labels.dcm", series, grid).any()
    with pytest.raises(VolumeError) as caught:
        write_seg(tmp_path / "seg.dcm", empty_XYZ, SCHEME, grid, series.headers)
    assert caught.value.reason == "label-values"


@WRITERS
def test_a_label_map_of_another_shape_is_refused(
    tmp_path: Path, write: Callable[..., None]
) -> None:
    series, grid = scanned(tmp_path)
    with pytest.raises(GridMismatchError):
        write(tmp_path / "a.dcm", np.ones((2, 2, 2), np.uint8), SCHEME, grid, series.headers)


@WRITERS
@pytest.mark.parametrize(
    "name",
    ["mr_brain_t1_t2_dicom/patient07/T1", "dicom_hard_cases/multiframe",
     "dicom_hard_cases/implicit_vr/hitachi_001", "dicom_seg_rt_sr/dcmqi_23x38x3/image"],
)  # fmt: skip
def test_labels_of_real_series_go_out_and_come_back(
    tmp_path: Path, write: Callable[..., None], name: str
) -> None:
    folder = data_folder(name)
    (series,) = sort_dicom([path for path in folder.iterdir() if path.suffix != ".txt"]).series
    volume = read_series(series)
    values_XYZ = volume.voxels_CXYZ[0]
    middle, sides = np.array(values_XYZ.shape) / 2, np.array(values_XYZ.shape) / 3
    apart = (np.argwhere(np.ones_like(values_XYZ)) - middle) / sides
    labels_XYZ = (np.abs(apart).sum(axis=1) < 1).reshape(values_XYZ.shape).astype(np.uint8)
    labels_XYZ[: labels_XYZ.shape[0] // 2] *= 2
    path = tmp_path / "labels.dcm"
    write(path, labels_XYZ, SCHEME, volume.grid, series.headers)
    (found,) = sort_dicom([path]).labels
    assert np.array_equal(read_label_object(found, series, volume.grid, SCHEME), labels_XYZ)
