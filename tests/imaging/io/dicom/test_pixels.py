"""Stored values come right whatever the transfer syntax, bit depth, sign and byte order."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)

from imaging.io.dicom.read import read_series
from imaging.io.dicom.series import Series, sort_dicom
from imaging.volume import Volume, to_stored
from tests.dicom_phantoms import Scan, ramp, set_pixels, small_scan, write_scan


def read(tmp_path: Path, scan: Scan, change: Any = lambda k, dataset: None) -> Any:
    """Slices, rows, columns as the series has them."""
    return stored_DHW(read_series(series_of(tmp_path, scan, change)))


def series_of(tmp_path: Path, scan: Scan, change: Any) -> Series:
    found = sort_dicom(write_scan(tmp_path, scan, change))
    assert not found.refused
    return found.series[0]


def stored_DHW(volume: Volume) -> Any:
    return to_stored(volume.voxels_CXYZ[0], volume.grid).T


@pytest.mark.parametrize("syntax", [RLELossless, JPEGLSLossless, JPEG2000Lossless])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16"])
def test_compressed_pixels_are_the_pixels(tmp_path: Path, syntax: Any, dtype: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 200, (3, 40, 50)) - 90 * (dtype == "int16")
    scan = small_scan(stored_DHW=pixels.astype(dtype), intercept=0.0, bits=16)

    def compress(k: int, dataset: Dataset) -> None:
        dataset.compress(syntax, generate_instance_uid=False)

    assert np.array_equal(read(tmp_path, scan, compress), pixels)


@pytest.mark.parametrize("syntax", [DeflatedExplicitVRLittleEndian, ImplicitVRLittleEndian])
def test_deflated_and_implicit_files_are_read(tmp_path: Path, syntax: Any) -> None:
    def deflate(k: int, dataset: Dataset) -> None:
        dataset.file_meta.TransferSyntaxUID = syntax

    assert np.array_equal(read(tmp_path, small_scan(), deflate), ramp().astype(int) - 1024)


@pytest.mark.parametrize("columns", [7, 8])
@pytest.mark.parametrize(("dtype", "vr"), [("uint16", "OW"), ("uint8", "OW"), ("uint8", "OB")])
def test_big_endian_pixels_are_turned(tmp_path: Path, columns: int, dtype: str, vr: str) -> None:
    pixels = np.arange(3 * 5 * columns).reshape(3, 5, columns).astype(dtype)

    def turn(k: int, dataset: Dataset) -> None:
        dataset.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
        data = pixels[k].astype(f">u{pixels.itemsize}").tobytes()
        data += b"\0" * (len(data) % 2)
        if (dtype, vr) == ("uint8", "OW"):  # words of two pixels, the high byte first
            data = np.frombuffer(data, "<u2").astype(">u2").tobytes()
        dataset.PixelData, dataset["PixelData"].VR = data, vr

    found = read(tmp_path, small_scan(stored_DHW=pixels, intercept=0.0), turn)
    assert np.array_equal(found, pixels)


def test_overlay_bits_above_the_stored_ones_are_taken_off(tmp_path: Path) -> None:
    scan = small_scan(stored_DHW=ramp() | np.uint16(0x5000), bits=12, intercept=0.0)
    assert np.array_equal(read(tmp_path, scan), ramp())


def test_bits_below_the_stored_ones_are_shifted_away(tmp_path: Path) -> None:
    def shift(k: int, dataset: Dataset) -> None:
        set_pixels(dataset, (ramp()[k] << 4) | np.uint16(5))
        dataset.BitsStored, dataset.HighBit = 12, 15

    assert np.array_equal(read(tmp_path, small_scan(intercept=0.0), shift), ramp())


def test_the_sign_lies_in_the_highest_stored_bit(tmp_path: Path) -> None:
    values = ramp().astype(np.int16) - 100
    scan = small_scan(stored_DHW=values & np.int16(0x0FFF), bits=12, intercept=0.0)
    assert np.array_equal(read(tmp_path, scan), values)


def test_each_slice_has_its_own_scale(tmp_path: Path) -> None:
    def scale(k: int, dataset: Dataset) -> None:
        dataset.RescaleSlope, dataset.RescaleIntercept = 0.5 + k, 0

    found = read(tmp_path, small_scan(modality="PT"), scale)
    expected = ramp() * (0.5 + np.arange(5))[:, None, None]
    assert found.dtype == np.float32 and np.array_equal(found, expected)


@pytest.mark.parametrize(
    ("stored", "intercept", "dtype"),
    [
        (ramp() + np.uint16(60000), -65000.0, np.int16),
        (ramp() + np.uint16(60000), 0.0, np.float32),
        (ramp().astype(np.uint8) % 200, 0.0, np.int16),
    ],
)
def test_values_come_in_16_bits_where_they_fit(
    tmp_path: Path, stored: Any, intercept: float, dtype: Any
) -> None:
    found = read(tmp_path, small_scan(stored_DHW=stored, intercept=intercept, bits=16))
    assert found.dtype == dtype and np.array_equal(found, stored + intercept)


def test_how_it_is_shown_leaves_values_alone_and_a_note(tmp_path: Path) -> None:
    def show(k: int, dataset: Dataset) -> None:
        dataset.PhotometricInterpretation, dataset.LossyImageCompression = "MONOCHROME1", "01"
        dataset.PixelPaddingValue = 0

    volume = read_series(series_of(tmp_path, small_scan(), show))
    assert np.array_equal(stored_DHW(volume), ramp().astype(int) - 1024)
    words = " ".join(volume.notes)
    assert "MONOCHROME1" in words and "padding" in words and "lossy" in words


@pytest.mark.parametrize("syntax", [None, RLELossless])
def test_an_enhanced_object_is_read_frame_by_frame(tmp_path: Path, syntax: Any) -> None:
    dataset = enhanced(small_scan())
    if syntax is not None:
        dataset.compress(syntax, generate_instance_uid=False)
    dataset.save_as(tmp_path / "a.dcm", enforce_file_format=True)
    (series,) = sort_dicom([tmp_path / "a.dcm"]).series
    volume = read_series(series)
    assert np.array_equal(stored_DHW(volume), ramp().astype(int) - 1000)
    assert np.allclose(volume.grid.spacing_mm, (0.7, 0.8, 2.5))
    assert len(series.files) == 1


def enhanced(scan: Scan) -> Dataset:
    """One multi-frame object, its frames last to first, geometry in its functional groups."""
    from tests.dicom_phantoms import slice_of

    slices = [slice_of(scan, k) for k in range(len(scan.stored_DHW))][::-1]
    made = slices[0]
    set_pixels(made, scan.stored_DHW[::-1].reshape(-1, scan.stored_DHW.shape[2]))
    made.Rows, made.NumberOfFrames = scan.stored_DHW.shape[1], len(slices)
    measures, orientation, values = Dataset(), Dataset(), Dataset()
    measures.PixelSpacing = made.PixelSpacing
    orientation.ImageOrientationPatient = made.ImageOrientationPatient
    values.RescaleSlope, values.RescaleIntercept = 1, -1000
    shared = Dataset()
    shared.PixelMeasuresSequence = [measures]
    shared.PlaneOrientationSequence = [orientation]
    shared.PixelValueTransformationSequence = [values]
    made.SharedFunctionalGroupsSequence = [shared]
    groups = []
    for one in slices:
        position, group = Dataset(), Dataset()
        position.ImagePositionPatient = one.ImagePositionPatient
        group.PlanePositionSequence = [position]
        groups.append(group)
    made.PerFrameFunctionalGroupsSequence = groups
    for keyword in ("PixelSpacing", "ImagePositionPatient", "ImageOrientationPatient"):
        del made[keyword]
    return made
