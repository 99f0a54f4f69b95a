from pathlib import Path

import numpy as np
import pytest

from imaging.errors import VolumeError
from imaging.io.dicom.labels import segment_names
from imaging.io.dicom.outline import inside, outlines
from imaging.io.dicom.read import read_label_object, read_series
from imaging.io.dicom.series import LabelObject, Series, sort_dicom
from imaging.io.volume_checks import VolumeLimits
from imaging.io.volumes import read_labels
from imaging.labels import label_scheme
from tests.real_data import data_folder

SETS = "dicom_seg_rt_sr"


def real(images: str, labels: str) -> tuple[Series, LabelObject]:
    folder = data_folder(SETS)
    files = {*(folder / images).glob("*.dcm"), folder / labels}
    found = sort_dicom(sorted(files), limits=VolumeLimits(min_slices=2))
    wanted = next(one for one in found.labels if one.path.name == Path(labels).name)
    return found.series[0], wanted


@pytest.mark.parametrize(
    ("images", "seg", "mask", "name"),
    [
        ("dcmqi_ct3/ct", "dcmqi_ct3/seg/liver.dcm", "dcmqi_ct3/nrrd/liver_seg.nrrd", "liver"),
        ("dcmqi_23x38x3/image", "dcmqi_23x38x3/seg/label.seg", "dcmqi_23x38x3/nrrd/label.nrrd",
         "LIVER"),
    ],
)  # fmt: skip
def test_a_segmentation_equals_the_mask_it_was_made_from(
    images: str, seg: str, mask: str, name: str
) -> None:
    series, found = real(images, seg)
    assert found.series_uid == series.uid
    grid = read_series(series).grid
    labels_XYZ = read_label_object(found, series, grid, label_scheme([name]))
    expected_XYZ = read_labels(data_folder(SETS) / mask, grid, None)
    assert expected_XYZ.any()
    assert np.array_equal(labels_XYZ > 0, expected_XYZ > 0)


def test_byte_order_does_not_matter_to_segments() -> None:
    folder = data_folder(SETS) / "dcmqi_ct3"
    other = data_folder("dicom_hard_cases/big_endian") / "liver_expb.dcm"
    found = sort_dicom([*(folder / "ct").glob("*.dcm"), folder / "seg" / "liver.dcm", other])
    (series,) = found.series
    grid, scheme = series.stack.grid, label_scheme(["liver"])
    little, big = (read_label_object(one, series, grid, scheme) for one in found.labels)
    assert little.any() and np.array_equal(little, big)


def test_of_overlapping_segments_the_higher_index_wins() -> None:
    series, found = real("dcmqi_ct3/ct", "dcmqi_ct3/seg/partial_overlaps.dcm")
    names = segment_names(found)
    assert names == ("GREEN", "ORANGE", "PURPLE", "LIGHT_BLUE", "DARK_BLUE")
    grid = read_series(series).grid
    masks = [
        read_label_object(found, series, grid, label_scheme([name.lower()])) > 0 for name in names
    ]
    expected_XYZ = np.zeros(grid.shape_XYZ, dtype=np.uint8)
    for index, mask_XYZ in enumerate(masks, start=1):
        expected_XYZ[mask_XYZ] = index
    assert sum(masks).max() > 1
    labels_XYZ = read_label_object(found, series, grid, label_scheme(names))
    assert np.array_equal(labels_XYZ, expected_XYZ)
    backwards_XYZ = read_label_object(found, series, grid, label_scheme(names[::-1]))
    assert not np.array_equal(6 - labels_XYZ[labels_XYZ > 0], backwards_XYZ[labels_XYZ > 0])


def test_overlapping_segments_equal_the_masks_they_were_made_from() -> None:
    series, found = real("dcmqi_ct3/ct", "dcmqi_ct3/seg/partial_overlaps.dcm")
    grid = read_series(series).grid
    folder = data_folder(SETS) / "dcmqi_ct3" / "nrrd"
    masks = [read_labels(folder / f"partial_overlaps-{k}.nrrd", grid, None) for k in (1, 2, 3)]
    everything_XYZ = read_label_object(found, series, grid, label_scheme(segment_names(found)))
    assert np.array_equal(everything_XYZ > 0, np.any(np.array(masks) > 0, axis=0))


def test_contours_mark_the_voxels_whose_centre_is_inside() -> None:
    images = "rtutils_phantom_ct_rtstruct"
    series, found = real(images, f"{images}/rt.dcm")
    grid = read_series(series, VolumeLimits(min_slices=2)).grid
    labels_XYZ = read_label_object(found, series, grid, label_scheme(["roi-1"]))
    assert 0 < labels_XYZ.sum() < labels_XYZ.size / 4
    assert labels_XYZ[:, :, 0].any() and not labels_XYZ[:, :, 1].any()


def test_contours_outside_the_images_are_refused() -> None:
    images = "rtutils_phantom_ct_rtstruct"
    series, found = real(images, f"{images}/invalid_reference_rt.dcm")
    grid = read_series(series).grid
    with pytest.raises(VolumeError) as caught:
        read_label_object(found, series, grid, label_scheme(["ROI-1"]))
    assert caught.value.reason == "other-grid"


def test_structures_that_no_label_is_called_after_are_named() -> None:
    series, found = real("dcmqi_ct3/ct", "dcmqi_ct3/seg/liver.dcm")
    with pytest.raises(VolumeError, match="'Liver'; expected one of kidney") as caught:
        read_label_object(found, series, read_series(series).grid, label_scheme(["kidney"]))
    assert caught.value.reason == "label-values"


def test_outlines_lead_back_to_the_mask() -> None:
    rng = np.random.default_rng(0)
    for density in (0.05, 0.3, 0.5, 0.8, 1.0):
        mask_HW = rng.random((23, 31)) < density
        assert np.array_equal(inside(outlines(mask_HW), (23, 31)), mask_HW)
    ring = np.zeros((9, 9), dtype=bool)
    ring[1:8, 1:8], ring[3:6, 3:6] = True, False
    assert len(outlines(ring)) == 2


def test_a_mask_of_one_pixel_has_a_diamond_around_its_centre() -> None:
    mask_HW = np.zeros((3, 4), dtype=bool)
    mask_HW[1, 2] = True
    (points,) = outlines(mask_HW)
    assert sorted(points.tolist()) == [[0.5, 2.0], [1.0, 1.5], [1.0, 2.5], [1.5, 2.0]]


def test_the_file_of_another_patient_is_refused(tmp_path: Path) -> None:
    series, found = real("dcmqi_ct3/ct", "dcmqi_ct3/seg/liver.dcm")
    stranger = LabelObject(found.path, found.kind, found.series_uid, found.header, "somebody else")
    with pytest.raises(VolumeError) as caught:
        read_label_object(stranger, series, read_series(series).grid, label_scheme(["liver"]))
    assert caught.value.reason == "several-patients"
