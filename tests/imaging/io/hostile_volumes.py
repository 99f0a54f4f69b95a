"""Volumes that must not pass: damaged, lying or impossible, each with the reason it is refused for.

A name without a suffix is a folder that holds one DICOM series.
"""

import gzip
import io
import struct
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from isal import igzip, isal_zlib
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import DeflatedExplicitVRLittleEndian, JPEG2000Lossless, RLELossless

from tests.dicom_phantoms import ramp, set_pixels, slice_of, small_scan, write_scan

_ONE_COMPONENT = b"\0" * 16 + b"\0\1" + b"\0" * 40
Change = Callable[[int, Dataset], None]
SHAPE = (4, 5, 6)


def hostile_volumes(folder: Path) -> list[tuple[str, str]]:
    """Make all of them in a folder; the name and the expected reason of each."""
    found = []
    for name, reason, content in (*_nifti_files(), *_nrrd_files()):
        (folder / name).write_bytes(content)
        found.append((name, reason))
    for name, reason, change in _dicom_series():
        write_scan(folder / name, small_scan(series=str(len(found))), change)
        found.append((name, reason))
    (folder / "link.nii").symlink_to(folder / "four-axes.nii")
    _write_dicom_bombs(folder)
    return [
        *found,
        ("link.nii", "symlink"),
        ("missing-slice", "missing-slices"),
        ("deflated-bomb", "too-large"),
        ("deep-sequences", "broken"),
        ("noise-after-dicom-magic", "not-an-image"),
    ]


def _nifti(array: Any = None, **fields: Any) -> bytes:
    """An uncompressed NIfTI-1 file, fields of whose header were overwritten."""
    image = nibabel.Nifti1Image(
        np.arange(120, dtype=np.int16).reshape(SHAPE) if array is None else array,
        np.diag([1.0, 2.0, 3.0, 1.0]),
    )
    data = bytearray(image.to_bytes())
    header = nibabel.Nifti1Header(bytes(data[:348]), check=False)
    for key, value in fields.items():
        header[key] = value
    data[:348] = header.binaryblock
    return bytes(data)


def _nifti_files() -> Iterator[tuple[str, str, bytes]]:
    good = _nifti()
    zipped = gzip.compress(_nifti(np.random.default_rng(0).random((20, 20, 20))))
    yield "cut-gzip.nii.gz", "truncated", zipped[: len(zipped) // 2]
    yield "wrong-checksum.nii.gz", "truncated", zipped[:-8] + b"\0" * 8
    yield "cut.nii", "truncated", good[:-10]
    yield "cut-header.nii", "truncated", good[:348]
    yield "bomb.nii.gz", "broken", igzip.compress(good + b"\0" * (1 << 27))
    yield "million-a-side.nii", "too-many-voxels", _nifti2_claim(10**6)
    yield "thirty-thousand-a-side.nii.gz", "too-many-voxels", gzip.compress(_dims(30_000))
    yield "gigabyte-claim.nii.gz", "truncated", gzip.compress(_dims(800))
    yield "nan-affine.nii", "affine", _nifti(srow_x=[np.nan, 0, 0, 0])
    yield "flat-affine.nii", "affine", _nifti(srow_x=[1.0, 1, 0, 0], srow_y=[0] * 4)
    yield "bad-quaternion.nii", "affine", _nifti(sform_code=0, qform_code=1, quatern_b=3.0)
    yield "zero-spacing.nii", "spacing", _nifti(srow_z=[0, 0, 0, 0])
    yield "zero-pixdim.nii", "spacing", _nifti(sform_code=0, pixdim=[1, 0, 1, 1, 0, 0, 0, 0])
    yield "infinite-pixdim.nii", "spacing", _nifti(pixdim=[1, np.inf, 1, 1, 0, 0, 0, 0])
    yield "tiny-voxels.nii", "spacing", _nifti(srow_x=[1e-5, 0, 0, 0])
    yield "huge-voxels.nii", "spacing", _nifti(srow_x=[1e5, 0, 0, 0])
    yield "micrometres.nii", "spacing", _nifti(xyzt_units=3)
    yield "four-axes.nii", "not-3d", _nifti(np.zeros((4, 5, 6, 2), np.int16))
    yield "two-axes.nii", "not-3d", _nifti(np.zeros((40, 50), np.int16))
    yield "no-voxels.nii", "too-small", _nifti(dim=[3, 4, 0, 6, 1, 1, 1, 1])
    yield "negative-side.nii", "broken", _nifti(dim=[3, 4, -5, 6, 1, 1, 1, 1])
    yield "too-many-axes.nii", "broken", _nifti(dim=[9, 4, 5, 6, 1, 1, 1, 1])
    yield "complex.nii", "voxel-type", _nifti(np.zeros(SHAPE, np.complex64))
    yield "colour.nii", "voxel-type", _nifti(np.zeros(SHAPE, [(c, "u1") for c in "RGB"]))
    yield "unknown-type.nii", "voxel-type", _nifti(datatype=4711)
    yield "all-nan.nii", "not-finite", _nifti(np.full(SHAPE, np.nan, np.float32))
    yield "voxels-far-behind.nii", "truncated", _nifti(vox_offset=1e8)
    yield "voxels-before-the-header.nii", "broken", _nifti(vox_offset=-16)
    yield "pair.nii", "not-a-volume", _nifti(magic=b"ni1")
    yield "empty.nii.gz", "empty", b""
    yield "text.nii", "not-a-volume", b"This is no volume.\n" * 50
    yield "text.nii.gz", "not-a-volume", gzip.compress(b"This is no volume.\n" * 50)


def _dims(side: int) -> bytes:
    return _nifti(dim=[3, side, side, side, 1, 1, 1, 1])


def _nifti2_claim(side: int) -> bytes:
    header = nibabel.Nifti2Header()
    header.set_data_shape((side, side, side))
    header["magic"] = b"n+2"
    header["vox_offset"] = 544
    return bytes(header.binaryblock) + b"\0" * 500


def _nrrd(data: bytes = b"", cut: int | None = None, **fields: str) -> bytes:
    known = {
        "type": "short", "dimension": "3", "space": "left-posterior-superior", "sizes": "4 5 6",
        "space directions": "(1,0,0) (0,1,0) (0,0,2)", "endian": "little", "encoding": "gzip",
        "space origin": "(0,0,0)",
    } | {key.replace("_", " "): value for key, value in fields.items()}  # fmt: skip
    lines = ["NRRD0004", *(f"{key}: {value}" for key, value in known.items() if value), "", ""]
    return "\n".join(lines).encode() + (data or gzip.compress(bytes(range(240)))[:cut])


def _nrrd_files() -> Iterator[tuple[str, str, bytes]]:
    yield "claim.nrrd", "too-many-voxels", _nrrd(sizes="1000000 1000000 1000000")
    yield "gigabyte.nrrd", "truncated", _nrrd(sizes="900 900 900")
    yield "cut.nrrd", "truncated", _nrrd(cut=40)
    yield "elsewhere.nrrd", "not-a-volume", _nrrd(data_file="/etc/passwd")
    yield "no-space.nrrd", "no-orientation", _nrrd(space="", space_origin="")
    yield "nan.nrrd", "affine", _nrrd(space_directions="(nan,0,0) (0,1,0) (0,0,2)")
    yield "zero.nrrd", "spacing", _nrrd(space_directions="(0,0,0) (0,1,0) (0,0,2)")
    yield (
        "four-axes.nrrd",
        "not-3d",
        _nrrd(dimension="4", sizes="4 5 3 2", space_directions="(1,0,0) (0,1,0) (0,0,2) none"),
    )
    yield "endless-header.nrrd", "broken", b"NRRD0004\n" + b"# more\n" * 200_000
    yield "text.nrrd", "voxel-type", _nrrd(b"1 2 3", encoding="ascii")
    yield "no-sizes.nrrd", "broken", _nrrd(sizes="")
    yield "block.nrrd", "voxel-type", _nrrd(type="block")


def _dicom_series() -> Iterator[tuple[str, str, Change]]:
    yield "two-patients", "several-patients", partial(_put, "PatientID", lambda k: f"P{k // 3}")
    yield (
        "two-of-a-place",
        "duplicate-slices",
        partial(_put, "ImagePositionPatient", lambda k: [0, 0, 2.5 * min(k, 3)]),
    )
    yield (
        "cyclic",
        "duplicate-slices",
        partial(_put, "ImagePositionPatient", lambda k: [0, 0, 2.5 * (k % 3)]),
    )
    yield (
        "uneven",
        "uneven-spacing",
        partial(_put, "ImagePositionPatient", lambda k: [0, 0, (0, 1, 2.4, 5, 8.6)[k]]),
    )
    yield (
        "sliding",
        "not-a-stack",
        partial(_put, "ImagePositionPatient", lambda k: [(0, 9, 2, -7, 3)[k], 0, 2.5 * k]),
    )
    yield "no-position", "no-position", partial(_drop, "ImagePositionPatient")
    yield "no-spacing", "no-spacing", partial(_drop, "PixelSpacing")
    yield "zero-pixels", "spacing", partial(_put, "PixelSpacing", lambda k: [0, 1])
    yield "no-direction", "affine", partial(_put, "ImageOrientationPatient", lambda k: [0] * 6)
    yield (
        "one-direction",
        "affine",
        partial(_put, "ImageOrientationPatient", lambda k: [1, 0, 0, 1, 0, 0]),
    )
    yield "wide-claim", "too-many-voxels", _claim_wide
    yield "many-frames", "too-many-voxels", partial(_put, "NumberOfFrames", lambda k: 2_000_000)
    yield "cut-pixels", "truncated", _cut_pixels
    yield (
        "colour-slices",
        "colour",
        partial(_put, "PhotometricInterpretation", lambda k: "PALETTE COLOR"),
    )
    yield "odd-bits", "voxel-type", partial(_put, "BitsStored", lambda k: 99)
    yield "no-pixels", "not-an-image", partial(_drop, "PixelData")
    yield "rle-noise", "truncated", partial(_compress, RLELossless, b"\0" * 64)
    yield "jpeg-noise", "broken", partial(_compress, JPEG2000Lossless, b"\xff\x4f" + b"x" * 600)
    yield "jpeg-claim", "too-many-voxels", partial(_compress, JPEG2000Lossless, _wide_codestream())


def _put(keyword: str, value: Callable[[int], Any], k: int, dataset: Dataset) -> None:
    setattr(dataset, keyword, value(k))


def _drop(keyword: str, k: int, dataset: Dataset) -> None:
    del dataset[keyword]


def _claim_wide(k: int, dataset: Dataset) -> None:
    dataset.Rows = dataset.Columns = 65535


def _cut_pixels(k: int, dataset: Dataset) -> None:
    dataset.PixelData = dataset.PixelData[:20]


def _compress(syntax: Any, stream: bytes, k: int, dataset: Dataset) -> None:
    set_pixels(dataset, np.tile(ramp()[k], (50, 50)))
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.PixelData = encapsulate([stream])


def _wide_codestream() -> bytes:
    """The head of a JPEG 2000 codestream that claims 2³⁰ × 2³⁰ pixels."""
    return (
        b"\xff\x4f\xff\x51" + struct.pack(">HHIIII", 41, 0, 1 << 30, 1 << 30, 0, 0) + _ONE_COMPONENT
    )


def _deep_sequences() -> bytes:
    """Two thousand sequences in each other, as pydicom would not write them."""
    element = struct.pack("<HH2sHI", 0x0008, 0x1140, b"SQ", 0, 0xFFFFFFFF)
    return (element + struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF)) * 2000


def _write_dicom_bombs(folder: Path) -> None:
    files = write_scan(folder / "missing-slice", small_scan(series="90"))
    files[2].unlink()
    bomb = slice_of(small_scan(series="91"), 0)
    bomb.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    head, _ = _saved(bomb)
    deflate = isal_zlib.compressobj(1, isal_zlib.DEFLATED, -15)
    parts = [deflate.compress(b"\0" * (1 << 22)) for _ in range(66)]
    (folder / "deflated-bomb").mkdir()
    (folder / "deflated-bomb" / "a.dcm").write_bytes(head + b"".join(parts) + deflate.flush())
    head, rest = _saved(slice_of(small_scan(series="92"), 0))
    (folder / "deep-sequences").mkdir()
    (folder / "deep-sequences" / "a.dcm").write_bytes(head + _deep_sequences() + rest)
    (folder / "noise-after-dicom-magic").mkdir()
    noise = np.random.default_rng(1).integers(0, 256, 4000, dtype=np.uint8).tobytes()
    (folder / "noise-after-dicom-magic" / "a.dcm").write_bytes(b"\0" * 128 + b"DICM" + noise)


def _saved(dataset: Dataset) -> tuple[bytes, bytes]:
    """A file's bytes: up to its first element, and from there on."""
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    data = buffer.getvalue()
    begin = 144 + struct.unpack("<I", data[140:144])[0]
    return data[:begin], data[begin:]
