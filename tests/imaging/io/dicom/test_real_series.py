"""Every DICOM folder of the real sets is read or refused as its README or manifest says, and what
is read equals what SimpleITK reads, in shape, affine and voxels.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from imaging.io.dicom.read import read_series
from imaging.io.dicom.series import Series, SortedDicom, sort_dicom
from imaging.io.volumes import read_volume
from imaging.volume import to_stored
from tests.real_data import DATA, data_folder

SimpleITK = pytest.importorskip("SimpleITK")
NO_DICOM = (".txt", ".md", ".csv", ".gz", ".json", ".nrrd")
HARD, SYNTHETIC = "dicom_hard_cases", "dicom_hard_cases/synthetic_series"


@dataclass(frozen=True)
class Expected:
    """What a folder must turn out to be."""

    slices: tuple[int, ...] = ()  # of each series that is read, sorted
    refused: dict[str, int] = field(default_factory=dict)  # reason → files
    labels: int = 0
    passed_over: int = 0
    note: str = ""  # words in the notes of every series read


TABLE = {
    # "Gantry tilt and irregular spacing must be detected or corrected, never silently stacked."
    "ct_head_gantry_tilt_dicom": Expected(refused={"uneven-spacing": 17}),
    "multiorgan_ct_mr/example_ct_dicom": Expected((20,)),
    **{
        f"mr_brain_t1_t2_dicom/{patient}/{kind}": Expected((26,))
        for patient in ("patient07", "patient19")
        for kind in ("T1", "T2", "FLAIR")
    },
    "dicom_phi_synthetic/series": Expected((12,), note="another matrix"),
    f"{SYNTHETIC}/complete": Expected((40,)),
    f"{SYNTHETIC}/missing_middle_slices": Expected(refused={"missing-slices": 37}),
    f"{SYNTHETIC}/duplicate_positions": Expected((40,), note="2 images that repeat"),
    f"{SYNTHETIC}/duplicate_sop_uid": Expected((40,), note="1 images that repeat"),
    f"{SYNTHETIC}/shuffled_names_and_instance_numbers": Expected((40,)),
    f"{SYNTHETIC}/two_series_in_one_folder": Expected((20, 20)),
    f"{SYNTHETIC}/truncated_empty_and_text_files": Expected(
        refused={"truncated": 1, "empty": 1, "not-a-volume": 1, "missing-slices": 37}
    ),
    f"{SYNTHETIC}/sagittal_orientation": Expected((40,)),
    f"{SYNTHETIC}/oblique_orientation": Expected((40,)),
    f"{SYNTHETIC}/sheared_gantry_tilt": Expected((40,), note="17.2°"),
    f"{SYNTHETIC}/spacing_missing": Expected(refused={"no-spacing": 40}),
    f"{SYNTHETIC}/mixed_matrix_size": Expected((39,), {"mixed-matrix": 1}, note="part 1 of 2"),
    f"{HARD}/compressed/compressed_j2k": Expected((4,)),
    f"{HARD}/compressed/compressed_jpeg": Expected((4,)),
    f"{HARD}/compressed/compressed_jpegls": Expected((4,)),
    f"{HARD}/compressed/compressed_rle": Expected((4,)),
    f"{HARD}/gantry_tilt": Expected((4,), note="14.0°"),
    f"{HARD}/implicit_vr/hitachi_001": Expected((4,)),
    f"{HARD}/missing_slices/slicecount_001": Expected(refused={"too-few-slices": 2}),
    f"{HARD}/missing_slices/sliceincrement_001": Expected(refused={"missing-slices": 4}),
    f"{HARD}/orientation/sliceorientation_001": Expected(refused={"mixed-orientation": 4}),
    # Four files of ten images that do not say where any of them lies; SimpleITK invents places.
    f"{HARD}/multiframe": Expected((8,), {"no-position": 4}),
    f"{HARD}/plain": Expected(refused={"too-few-slices": 3}, labels=1),
    f"{HARD}/big_endian": Expected(
        refused={"colour": 2, "not-an-image": 2, "too-few-slices": 2, "no-position": 1}, labels=2
    ),
    f"{HARD}/charset": Expected(refused={"not-an-image": 5, "no-position": 12}),
    f"{HARD}/color": Expected(refused={"colour": 16}),
    f"{HARD}/compressed": Expected(
        refused={"colour": 20, "not-an-image": 2, "no-position": 9, "too-few-slices": 4}
    ),
    f"{HARD}/corrupt": Expected(
        refused={
            "not-an-image": 10,
            "not-a-volume": 1,
            "truncated": 1,
            "no-position": 2,
            "too-few-slices": 1,
        }
    ),
    f"{HARD}/rt_sr": Expected(refused={"not-an-image": 6}, labels=1),
    f"{HARD}/dicomdir": Expected(passed_over=4),
    f"{HARD}/dicomdir/77654033/CR1": Expected(refused={"no-position": 1}),
    f"{HARD}/dicomdir/77654033/CR2": Expected(refused={"no-position": 1}),
    f"{HARD}/dicomdir/77654033/CR3": Expected(refused={"no-position": 1}),
    f"{HARD}/dicomdir/77654033/CT2": Expected(refused={"missing-slices": 4}),
    f"{HARD}/dicomdir/98892001/CT2N": Expected(refused={"localizer": 2}),
    f"{HARD}/dicomdir/98892001/CT5N": Expected((5,), note="padding"),
    f"{HARD}/dicomdir/98892003/MR1": Expected(refused={"too-few-slices": 3}),
    f"{HARD}/dicomdir/98892003/MR2": Expected(
        refused={"too-few-slices": 1, "mixed-orientation": 6}
    ),
    f"{HARD}/dicomdir/98892003/MR700": Expected(refused={"mixed-orientation": 7}),
    "dicom_seg_rt_sr/dcmqi_23x38x3/image": Expected((3,)),
    "dicom_seg_rt_sr/dcmqi_23x38x3/multiframe": Expected((3,)),
    "dicom_seg_rt_sr/dcmqi_23x38x3/seg": Expected(labels=1),
    "dicom_seg_rt_sr/dcmqi_ct3/ct": Expected((3,), note="padding"),
    "dicom_seg_rt_sr/dcmqi_ct3/seg": Expected(labels=2),
    "dicom_seg_rt_sr/dcmqi_sr_example": Expected(labels=1, refused={"not-an-image": 2}),
    "dicom_seg_rt_sr/rtutils_phantom_ct_rtstruct": Expected(
        refused={"too-few-slices": 2}, labels=3
    ),
}


def files_in(folder: Path) -> list[Path]:
    return [
        path
        for path in sorted(folder.iterdir())
        if path.is_file() and path.suffix not in NO_DICOM and path.name != "SHA256SUMS"
    ]


def sorted_files(name: str) -> SortedDicom:
    return sort_dicom(files_in(data_folder(name)))


@pytest.mark.parametrize("name", sorted(TABLE))
def test_a_folder_is_read_or_refused_as_its_documents_say(name: str) -> None:
    expected, found = TABLE[name], sorted_files(name)
    refused: dict[str, int] = {}
    for one in found.refused:
        refused[one.reason] = refused.get(one.reason, 0) + len(one.files)
    slices = tuple(sorted(len(one.stack.frames) for one in found.series))
    assert (slices, refused) == (expected.slices, expected.refused)
    assert len(found.labels) == expected.labels
    assert len(found.passed_over) == expected.passed_over
    for series in found.series:
        notes = " ".join(read_series(series).notes)
        assert expected.note in notes if expected.note else not notes


def test_no_folder_of_the_sets_is_left_out() -> None:
    for name in (HARD, "ct_head_gantry_tilt_dicom", "mr_brain_t1_t2_dicom", "dicom_seg_rt_sr"):
        folder = data_folder(name)
        for path in (folder, *folder.rglob("*")):
            if path.is_dir() and files_in(path):
                assert path.relative_to(DATA).as_posix() in TABLE


@pytest.mark.parametrize("name", sorted(name for name, one in TABLE.items() if one.slices))
def test_what_is_read_equals_an_independent_reader(name: str) -> None:
    for series in sorted_files(name).series:
        if series.stack.placing is None:
            compare_with_simpleitk(series)
        else:
            compare_slice_by_slice(series)


def compare_with_simpleitk(series: Series) -> None:
    volume = read_series(series)
    expected = read_with_simpleitk(series)
    stored = to_stored(volume.voxels_CXYZ[0], volume.grid)
    voxels = SimpleITK.GetArrayFromImage(expected).T
    assert stored.shape == voxels.shape
    assert np.allclose(np.array(volume.grid.stored_affine), affine_of(expected), atol=1e-4)
    if stored.dtype == np.float32:
        assert np.array_equal(stored, voxels.astype(np.float32))
    else:
        assert np.array_equal(stored, voxels)


def compare_slice_by_slice(series: Series) -> None:
    """What was brought onto an upright grid holds, at every acquired pixel's place, its value.

    SimpleITK stacks tilted slices without a word, so it reads each file alone, and interpolates.
    """
    volume = read_series(series)
    made = SimpleITK.GetImageFromArray(
        to_stored(volume.voxels_CXYZ[0], volume.grid).T.astype(np.float32)
    )
    affine = np.diag([-1, -1, 1, 1]) @ np.array(volume.grid.stored_affine)
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    made.SetSpacing(spacing.tolist())
    made.SetOrigin(affine[:3, 3].tolist())
    made.SetDirection((affine[:3, :3] / spacing).reshape(-1).tolist())
    for k, path in enumerate(series.files):
        acquired = SimpleITK.Cast(SimpleITK.ReadImage(str(path)), SimpleITK.sitkFloat32)
        wanted = made[:, :, k]  # the grid's slice, sampled from the acquired image
        points = [
            made.TransformIndexToPhysicalPoint((i, j, k))
            for i in range(0, wanted.GetWidth(), 19)
            for j in range(0, wanted.GetHeight(), 13)
        ]
        for point in points:
            index = acquired.TransformPhysicalPointToContinuousIndex(point)
            assert abs(index[2]) < 1e-2  # in the plane of the image: no slice was invented
            inside = all(0 <= index[a] <= acquired.GetSize()[a] - 1.001 for a in range(2))
            if inside:
                flat = (index[0], index[1], 0.0)
                at = acquired.TransformContinuousIndexToPhysicalPoint(flat)
                value = acquired.EvaluateAtPhysicalPoint(at, SimpleITK.sitkLinear)
                assert abs(made[made.TransformPhysicalPointToIndex(point)] - value) <= 0.51


def read_with_simpleitk(series: Series) -> Any:
    if len(series.files) == 1:
        return SimpleITK.ReadImage(str(series.files[0]))
    folder = str(series.files[0].parent)
    names = SimpleITK.ImageSeriesReader.GetGDCMSeriesFileNames(folder, series.uid)
    # Its order where its own sorting can be used: it keeps repetitions, and images of any matrix.
    if len(names) != len(series.files):
        names = [str(path) for path in series.files]
    reader = SimpleITK.ImageSeriesReader()
    reader.SetFileNames(names)
    return reader.Execute()


def affine_of(image: Any) -> Any:
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
    affine[:3, 3] = image.GetOrigin()
    return np.diag([-1, -1, 1, 1]) @ affine


def test_every_transfer_syntax_holds_the_same_pixels() -> None:
    truth = read_volume(data_folder(f"{HARD}/compressed") / "001_ground_truth.nii.gz")
    for syntax in ("j2k", "jpeg", "jpegls", "rle"):
        (series,) = sorted_files(f"{HARD}/compressed/compressed_{syntax}").series
        volume = read_series(series)
        assert volume.grid.is_same(truth.grid, tolerance_mm=1e-2)
        assert np.array_equal(volume.voxels_CXYZ, truth.voxels_CXYZ)


def test_a_tilted_series_keeps_its_voxels_at_their_place_in_the_patient() -> None:
    complete = read_series(sorted_files(f"{SYNTHETIC}/complete").series[0])
    tilted = read_series(sorted_files(f"{SYNTHETIC}/sheared_gantry_tilt").series[0])
    # Both hold the same images; the first lies at one place in either.
    stored = [to_stored(one.voxels_CXYZ[0], one.grid)[:, :, 0] for one in (complete, tilted)]
    assert np.array_equal(stored[0], stored[1][:, : stored[0].shape[1]])
