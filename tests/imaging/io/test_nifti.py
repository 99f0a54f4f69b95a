import gzip
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from nibabel.orientations import axcodes2ornt, ornt_transform

from imaging.errors import GridMismatchError, VolumeError
from imaging.io.nifti import read_label_volume, read_nifti, write_label_volume, write_nifti
from imaging.io.volume_checks import VolumeLimits
from imaging.volume import grid_of, to_stored
from tests.real_data import data_folder

AFFINE = np.array([[-0.7, 0, 0, 30], [0, 0, 2.5, -20], [0, -0.8, 0, 11], [0, 0, 0, 1]])


def ramp(dtype: Any = np.int16, shape: tuple[int, ...] = (4, 5, 6)) -> Any:
    return np.arange(np.prod(shape)).reshape(shape).astype(dtype)


def saved(tmp_path: Path, image: Any, name: str = "image.nii.gz") -> Path:
    nibabel.save(image, tmp_path / name)
    return tmp_path / name


def as_nibabel_reads(path: Path) -> tuple[Any, Any]:
    """Voxels and affine in RAS+ order."""
    image = nibabel.as_closest_canonical(nibabel.load(path))
    return np.asanyarray(image.dataobj), image.affine


@pytest.mark.parametrize("kind", [nibabel.Nifti1Image, nibabel.Nifti2Image])
@pytest.mark.parametrize("name", ["image.nii", "image.nii.gz"])
@pytest.mark.parametrize("order", ["<", ">"])
def test_both_versions_and_byte_orders_read_as_nibabel_reads_them(
    tmp_path: Path, kind: Any, name: str, order: str
) -> None:
    header = kind.header_class(endianness=order)
    header.set_data_dtype(np.int16)
    path = saved(tmp_path, kind(ramp(), AFFINE, header), name)
    volume = read_nifti(path)
    voxels, affine = as_nibabel_reads(path)
    assert np.array_equal(volume.voxels_CXYZ[0], voxels)
    assert volume.voxels_CXYZ.dtype == np.int16
    assert np.allclose(volume.grid.affine, affine, atol=1e-6)


@pytest.mark.parametrize("codes", ["RAS", "LPS", "PIR", "SLA", "AIL"])
def test_axes_come_in_ras_order_whatever_the_file_has(tmp_path: Path, codes: str) -> None:
    turn = ornt_transform(axcodes2ornt("RAS"), axcodes2ornt(tuple(codes)))
    image = nibabel.Nifti1Image(ramp(), np.diag([0.7, 0.8, 2.5, 1.0]))
    path = saved(tmp_path, image.as_reoriented(turn))
    volume = read_nifti(path)
    assert np.array_equal(volume.voxels_CXYZ[0], ramp())
    assert volume.grid.codes == codes


@pytest.mark.parametrize(
    ("slope", "inter", "dtype", "expected"),
    [
        (1.0, 0.0, np.int16, np.int16),
        (1.0, -1024.0, np.uint16, np.int16),
        (2.0, 40000.0, np.int16, np.int32),
        (0.5, 0.0, np.int16, np.float32),
        (np.nan, 0.0, np.int16, np.int16),
    ],
)
def test_a_scale_is_applied_and_whole_numbers_stay_whole(
    tmp_path: Path, slope: float, inter: float, dtype: Any, expected: Any
) -> None:
    image = nibabel.Nifti1Image(ramp(dtype), AFFINE)
    path = saved(tmp_path, image, "image.nii")
    data = bytearray(path.read_bytes())
    data[112:120] = np.array([slope, inter], "<f4").tobytes()
    path.write_bytes(data)
    volume = read_nifti(path)
    assert volume.voxels_CXYZ.dtype == expected
    assert np.array_equal(volume.voxels_CXYZ[0], as_nibabel_reads(path)[0].astype(np.float32))


def test_a_last_axis_of_one_is_no_axis(tmp_path: Path) -> None:
    path = saved(tmp_path, nibabel.Nifti1Image(ramp(shape=(4, 5, 6, 1)), AFFINE))
    assert read_nifti(path).voxels_CXYZ.shape == (1, 4, 6, 5)


def test_a_few_voxels_that_are_no_numbers_are_replaced_and_told(tmp_path: Path) -> None:
    voxels = ramp(np.float32) - 5
    voxels[0, 0, 0], voxels[1, 2, 3] = np.nan, np.inf
    volume = read_nifti(saved(tmp_path, nibabel.Nifti1Image(voxels, np.eye(4))))
    assert volume.voxels_CXYZ[0, 0, 0, 0] == volume.voxels_CXYZ[0, 1, 2, 3] == -4
    assert "2 voxels" in volume.notes[0]


def test_a_file_that_does_not_say_how_it_lies_is_noted(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(ramp(), None)
    image.header.set_zooms((1.0, 2.0, 3.0))
    volume = read_nifti(saved(tmp_path, image))
    assert "assumed" in volume.notes[0]
    assert np.allclose(volume.grid.spacing_mm, (1.0, 2.0, 3.0))


def test_a_wrong_checksum_is_noticed(tmp_path: Path) -> None:
    path = saved(tmp_path, nibabel.Nifti1Image(ramp(), AFFINE))
    data = bytearray(path.read_bytes())
    data[-8] ^= 1
    path.write_bytes(data)
    with pytest.raises(VolumeError) as caught:
        read_nifti(path)
    assert caught.value.reason == "truncated"


def test_limits_hold_before_anything_is_inflated(tmp_path: Path) -> None:
    path = saved(tmp_path, nibabel.Nifti1Image(ramp(), AFFINE))
    for limits, reason in [
        (VolumeLimits(max_voxels=100), "too-many-voxels"),
        (VolumeLimits(max_bytes=10), "too-large"),
        (VolumeLimits(min_side=5), "too-small"),
        (VolumeLimits(max_spacing_mm=2.0), "spacing"),
    ]:
        with pytest.raises(VolumeError) as caught:
            read_nifti(path, limits)
        assert caught.value.reason == reason


def test_what_is_written_lies_on_the_file_s_own_grid(tmp_path: Path) -> None:
    grid = read_nifti(saved(tmp_path, nibabel.Nifti1Image(ramp(), AFFINE))).grid
    labels_XYZ = (np.arange(120).reshape(grid.shape_XYZ) % 3).astype(np.uint8)
    path = tmp_path / "labels.nii.gz"
    write_label_volume(path, labels_XYZ, grid)
    again = nibabel.load(path)
    assert again.shape == (4, 5, 6)
    assert np.allclose(again.affine, AFFINE, atol=1e-6)
    assert np.array_equal(np.asanyarray(again.dataobj), to_stored(labels_XYZ, grid))
    assert np.array_equal(read_label_volume(path, grid), labels_XYZ)


def test_labels_on_another_grid_or_of_another_type_are_refused(tmp_path: Path) -> None:
    grid = grid_of((4, 5, 6), AFFINE)
    with pytest.raises(GridMismatchError):
        write_nifti(tmp_path / "a.nii.gz", ramp(np.uint8, (6, 5, 4)), grid)
    write_nifti(tmp_path / "a.nii.gz", ramp(np.int16, grid.shape_XYZ), grid)
    with pytest.raises(VolumeError):
        read_label_volume(tmp_path / "a.nii.gz", grid)
    moved = grid_of((4, 5, 6), AFFINE + np.eye(4)[:, [1, 2, 3, 0]] * 0.1)
    with pytest.raises(GridMismatchError):
        read_label_volume(tmp_path / "a.nii.gz", moved)


def test_members_of_gzip_follow_each_other(tmp_path: Path) -> None:
    plain = saved(tmp_path, nibabel.Nifti1Image(ramp(), AFFINE), "image.nii").read_bytes()
    path = tmp_path / "image.nii.gz"
    path.write_bytes(gzip.compress(plain[:400]) + gzip.compress(plain[400:]))
    assert np.array_equal(to_stored(read_nifti(path).voxels_CXYZ[0], read_nifti(path).grid), ramp())


@pytest.mark.parametrize("name", ["multiorgan_ct_mr", "small_nifti_mixed", "mni152_template"])
def test_real_files_read_as_nibabel_reads_them(name: str) -> None:
    for path in sorted(data_folder(name).rglob("*.nii.gz")):
        volume = read_nifti(path)
        voxels, affine = as_nibabel_reads(path)
        assert np.array_equal(volume.voxels_CXYZ[0], voxels.astype(np.float32)), path
        assert np.allclose(volume.grid.affine, affine, atol=1e-4), path
