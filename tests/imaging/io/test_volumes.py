from pathlib import Path
from typing import Any

import nibabel
import nrrd
import numpy as np
import pytest

from imaging.errors import VolumeError
from imaging.io.volumes import read_labels, read_volume
from imaging.labels import label_scheme
from imaging.volume import Grid, grid_of
from tests.real_data import data_folder

AFFINE = np.array([[-1.0, 0, 0, 30], [0, 0, 2.5, -20], [0, -0.8, 0, 11], [0, 0, 0, 1]])
GRID = grid_of((4, 5, 6), AFFINE)
SCHEME = label_scheme(["Liver", "spleen"])


def values(high: int = 3, dtype: Any = np.uint8) -> Any:
    return (np.arange(120).reshape(4, 5, 6) % high).astype(dtype)


def saved(tmp_path: Path, array: Any, affine: Any = AFFINE) -> Path:
    path = tmp_path / "labels.nii.gz"
    nibabel.save(nibabel.Nifti1Image(array, affine, dtype=array.dtype), path)
    return path


def reason_of(path: Path, grid: Grid = GRID, scheme: Any = SCHEME) -> str:
    with pytest.raises(VolumeError) as caught:
        read_labels(path, grid, scheme)
    return caught.value.reason


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint32", "int64", "float32", "float64"])
def test_labels_of_any_number_type_become_indices(tmp_path: Path, dtype: str) -> None:
    labels_XYZ = read_labels(saved(tmp_path, values(dtype=dtype)), GRID, SCHEME)
    assert labels_XYZ.dtype == np.uint8 and labels_XYZ.flags.c_contiguous
    turned = nibabel.as_closest_canonical(nibabel.Nifti1Image(values(), AFFINE))
    assert np.array_equal(labels_XYZ, np.asanyarray(turned.dataobj))


def test_a_label_map_stored_the_other_way_round_lies_on_the_same_grid(tmp_path: Path) -> None:
    turned = nibabel.as_closest_canonical(nibabel.Nifti1Image(values(), AFFINE))
    path = saved(tmp_path, np.asanyarray(turned.dataobj), turned.affine)
    assert np.array_equal(read_labels(path, GRID, SCHEME), np.asanyarray(turned.dataobj))


def test_labels_elsewhere_than_the_image_are_refused(tmp_path: Path) -> None:
    moved = AFFINE.copy()
    moved[0, 3] += 0.5
    assert reason_of(saved(tmp_path, values(), moved)) == "other-grid"
    assert reason_of(saved(tmp_path, values()[:, :, :5])) == "other-grid"
    moved[0, 3] = AFFINE[0, 3] + 0.02  # what quaternions do to a header
    read_labels(saved(tmp_path, values(), moved), GRID, SCHEME)


@pytest.mark.parametrize("array", [values(4), values() - 0.5, -values(dtype=np.int16)])
def test_values_that_are_no_label_s_are_refused(tmp_path: Path, array: Any) -> None:
    assert reason_of(saved(tmp_path, array)) == "label-values"


def test_a_label_map_with_voxels_that_are_no_numbers_is_refused(tmp_path: Path) -> None:
    array = values(dtype=np.float32)
    array[1, 1, 1] = np.nan
    assert reason_of(saved(tmp_path, array)) == "label-values"


def test_of_one_label_255_stands_for_it(tmp_path: Path) -> None:
    path = saved(tmp_path, values(2) * np.uint8(255))
    assert read_labels(path, GRID, label_scheme(["liver"])).max() == 1
    assert reason_of(path) == "label-values"
    assert read_labels(path, GRID, None).max() == 255


def write_nrrd(tmp_path: Path, array: Any, **header: Any) -> Path:
    lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ AFFINE
    known = {
        "space": "left-posterior-superior",
        "space directions": lps[:3, :3].T,
        "space origin": lps[:3, 3],
    }
    path = tmp_path / "labels.seg.nrrd"
    nrrd.write(str(path), array, {**known, **header})
    return path


@pytest.mark.parametrize("encoding", ["raw", "gzip", "bzip2"])
@pytest.mark.parametrize("dtype", ["uint8", ">i2", "float32"])
def test_nrrd_reads_as_nifti_does(tmp_path: Path, encoding: str, dtype: str) -> None:
    path = write_nrrd(tmp_path, values(dtype=dtype), encoding=encoding)
    volume = read_volume(path)
    expected = read_volume(saved(tmp_path, values(dtype="uint8")))
    assert np.array_equal(volume.voxels_CXYZ, expected.voxels_CXYZ)
    assert volume.grid.is_same(expected.grid)


@pytest.mark.parametrize(
    ("space", "signs"),
    [("RAS", (1, 1, 1)), ("left-anterior-superior", (-1, 1, 1)), ("LPS", (-1, -1, 1))],
)
def test_a_space_says_which_way_axes_run(
    tmp_path: Path, space: str, signs: tuple[int, int, int]
) -> None:
    volume = read_volume(write_nrrd(tmp_path, values(), space=space))
    world = np.diag([-1.0, -1.0, 1.0, 1.0]) @ AFFINE
    assert np.allclose(np.array(volume.grid.stored_affine), np.diag([*signs, 1.0]) @ world)


def test_segments_that_slicer_named_find_their_labels(tmp_path: Path) -> None:
    names = {
        "Segment0_Name": "SPLEEN", "Segment0_LabelValue": "1",
        "Segment1_Name": "liver", "Segment1_LabelValue": "2",
    }  # fmt: skip
    path = write_nrrd(tmp_path, values(), **names)
    found = read_labels(path, GRID, SCHEME)
    plain = read_labels(path, GRID, None)
    assert np.array_equal(found, np.array([0, 2, 1], np.uint8)[plain])
    assert reason_of(path, scheme=label_scheme(["liver", "kidney"])) == "label-values"
    halves = write_nrrd(tmp_path, values(dtype="float32") * np.float32(1.25), **names)
    assert reason_of(halves, scheme=SCHEME) == "label-values"


@pytest.mark.parametrize("name", ["brain1", "breast1", "prostate_phantom_subvolume"])
def test_real_nrrd_files_equal_simpleitk(name: str) -> None:
    SimpleITK = pytest.importorskip("SimpleITK")
    folder = data_folder("tumor_roi_nrrd")
    image = next(path for path in folder.glob(f"{name}*") if "label" not in path.name)
    mask = next(path for path in folder.glob(f"{name}*label*"))
    volume = read_volume(image)
    expected = SimpleITK.DICOMOrient(SimpleITK.ReadImage(str(image)), "LPS")
    voxels = SimpleITK.GetArrayFromImage(expected).T[::-1, ::-1]  # RAS+
    assert np.array_equal(volume.voxels_CXYZ[0], voxels)
    assert np.allclose(volume.grid.spacing_mm, expected.GetSpacing())
    assert read_labels(mask, volume.grid, None).any()
