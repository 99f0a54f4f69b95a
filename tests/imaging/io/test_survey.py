import tracemalloc
from pathlib import Path

import nibabel
import numpy as np
import pytest
from pydicom.dataset import Dataset

from imaging.io.dicom.series import sort_dicom
from imaging.io.dicom.write import write_seg
from imaging.io.survey import survey
from imaging.labels import label_scheme
from tests.dicom_phantoms import ramp, small_scan, write_scan


def test_voxels_of_label_maps_are_not_kept(tmp_path: Path) -> None:
    labels = np.zeros((64, 64, 64), dtype=np.uint8)
    (tmp_path / "labelsTr").mkdir()
    for number in range(10):
        path = tmp_path / "labelsTr" / f"a{number}.nii.gz"
        nibabel.save(nibabel.Nifti1Image(labels, np.eye(4)), path)
    tracemalloc.start()
    try:
        found = survey(tmp_path)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(found.labels) == 10
    assert most < 8 * labels.nbytes


@pytest.mark.parametrize("drawn_on", [0, 1])
def test_a_label_object_is_told_with_the_time_that_it_was_drawn_on(
    tmp_path: Path, drawn_on: int
) -> None:
    files = []
    for time in (0, 1):

        def mark(k: int, dataset: Dataset, time: int = time) -> None:
            dataset.TemporalPositionIdentifier = time + 1
            dataset.SOPInstanceUID = f"1.2.3.{time}.{k}"

        scan = small_scan(stored_DHW=ramp() + np.uint16(500 * time))
        files += write_scan(tmp_path / f"time{time}", scan, mark)
    series = sort_dicom(files).series[drawn_on]
    labels_XYZ = np.ones(series.stack.grid.shape_XYZ, dtype=np.uint8)
    seg = tmp_path / "labels.dcm"
    write_seg(seg, labels_XYZ, label_scheme(["liver"]), series.stack.grid, series.headers)
    (found,) = survey(tmp_path).labels
    assert found.case == drawn_on


def test_a_header_that_tells_of_burned_in_text_is_told(tmp_path: Path) -> None:
    def flag(k: int, dataset: Dataset) -> None:
        dataset.BurnedInAnnotation = "YES" if k == 1 else "NO"

    write_scan(tmp_path / "a", small_scan(), flag)
    (case,) = survey(tmp_path).cases
    assert "labloop release" in " ".join(case.notes)
