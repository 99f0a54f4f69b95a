import gzip
from pathlib import Path

import nibabel
import numpy as np
import pytest
from pydicom.uid import ExplicitVRBigEndian

from imaging.io.sniff import volume_format
from tests.dicom_phantoms import slice_of, small_scan

NIFTI = nibabel.Nifti1Image(np.zeros((4, 5, 6), np.uint8), np.eye(4))
NIFTI_2 = nibabel.Nifti2Image(np.zeros((4, 5, 6), np.uint8), np.eye(4))


def swapped(image: nibabel.Nifti1Image) -> bytes:
    return bytes(image.header.as_byteswapped(">").binaryblock)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (NIFTI.to_bytes(), "NIfTI"),
        (NIFTI_2.to_bytes(), "NIfTI"),
        (swapped(NIFTI), "NIfTI"),
        (gzip.compress(NIFTI.to_bytes(), mtime=0), "NIfTI"),
        (gzip.compress(NIFTI_2.to_bytes(), mtime=0), "NIfTI"),
        (b"NRRD0005\ntype: short\n", "NRRD"),
        (gzip.compress(b"text" * 100, mtime=0), None),
        (b"\x1f\x8b", None),
        (b"", None),
        (b"\x89PNG\r\n\x1a\n", None),
        (b"\x08\x00\x45\x00text and more text", None),
    ],
)
def test_volumes_are_known_by_their_bytes(data: bytes, expected: str | None) -> None:
    assert volume_format(data[:512]) == expected


@pytest.mark.parametrize("order", ["little", "big"])
def test_dicom_is_known_with_and_without_preamble(tmp_path: Path, order: str) -> None:
    dataset = slice_of(small_scan(), 0)
    if order == "big":
        dataset.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
    dataset.save_as(tmp_path / "a.dcm", enforce_file_format=True)
    data = (tmp_path / "a.dcm").read_bytes()
    assert volume_format(data[:512]) == "DICOM"
    assert volume_format(data[132:644]) == "DICOM"
    assert volume_format(data[144 + int.from_bytes(data[140:144], "little") :][:512]) == "DICOM"
