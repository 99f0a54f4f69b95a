"""What pixel data carry beside the image is blanked; the image stays the same to the last bit."""

import struct
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import (
    MPEG2MPML,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
)

from imaging.deid.pixels import blanked_pixels
from imaging.deid.profile import deidentify
from imaging.errors import DeidentificationError
from tests.phi import DATA, require

SECRET = "a lab's key"
NAME = b"Muster^Anna"


def image(data: bytes, stored: int = 12, signed: bool = False) -> Dataset:
    made = Dataset()
    made.Rows, made.Columns, made.SamplesPerPixel = 2, 3, 1
    made.BitsAllocated, made.BitsStored, made.HighBit = 16, stored, stored - 1
    made.PixelRepresentation, made.PhotometricInterpretation = int(signed), "MONOCHROME2"
    made.PixelData = data
    return made


def files(*patterns: str) -> list[Path]:
    folder = DATA / "dicom_hard_cases"
    require(folder)
    return sorted(path for pattern in patterns for path in folder.glob(pattern))


def with_comment(path: Path, segment: bytes) -> tuple[Dataset, Dataset]:
    """A compressed object, and one with a segment behind the start of each of its frames."""
    before, after = pydicom.dcmread(path), pydicom.dcmread(path)
    count = int(before.get("NumberOfFrames", 1))
    frames = list(generate_frames(before.PixelData, number_of_frames=count))
    after.PixelData = encapsulate([frame[:2] + segment + frame[2:] + NAME for frame in frames])
    return before, after


@pytest.mark.parametrize("order", ["<", ">"])
def test_overlays_in_unused_bits_are_cleared(order: str) -> None:
    values = np.array([0, 1, 2047, 2048, 4095, 77], dtype=np.uint16)
    data = (values | 0xA000).astype(f"{order}u2").tobytes()
    syntax = ExplicitVRLittleEndian if order == "<" else ExplicitVRBigEndian
    assert blanked_pixels(image(data), syntax) == values.astype(f"{order}u2").tobytes()


def test_signs_stay() -> None:
    values = np.array([-2048, -1, 0, 1, 2047, -77], dtype="<i2")
    data = (values.view("<u2") ^ 0x5000).tobytes()  # the four bits above are anything
    found = blanked_pixels(image(data, signed=True), ExplicitVRLittleEndian)
    assert (np.frombuffer(found, "<i2") == values).all()


def test_what_follows_the_last_pixel_goes() -> None:
    pixels = bytes(range(12))
    made = blanked_pixels(image(pixels + NAME, stored=16), ExplicitVRLittleEndian)
    assert made == pixels


@pytest.mark.parametrize("marker", [0xFE, 0xE1, 0xE0, 0xEE])
@pytest.mark.parametrize(
    "pattern",
    ["color/SC_rgb_dcmtk_+eb+cy+n1.dcm", "compressed/JPGLossless*.dcm", "multiframe/*jpeg_ls*"],
)
def test_comments_in_jpeg_streams_are_blanked(pattern: str, marker: int) -> None:
    for path in files(pattern):
        segment = struct.pack(">BBH", 0xFF, marker, 2 + len(NAME)) + NAME
        before, after = with_comment(path, segment)
        assert NAME in after.PixelData
        made = deidentify(after, SECRET)
        assert NAME not in made.PixelData
        assert (made.pixel_array == before.pixel_array).all()


def test_comments_in_jpeg_2000_streams_are_blanked() -> None:
    (path,) = files("compressed/MR_small_jp2klossless.dcm")
    before = pydicom.dcmread(path)
    (frame,) = generate_frames(before.PixelData, number_of_frames=1)
    at = 4 + struct.unpack_from(">H", frame, 4)[0]  # behind the segment of sizes
    note = struct.pack(">HHH", 0xFF64, 4 + len(NAME), 1) + NAME
    after = pydicom.dcmread(path)
    after.PixelData = encapsulate([frame[:at] + note + frame[at:]])
    made = deidentify(after, SECRET)
    assert NAME not in made.PixelData and after.file_meta.TransferSyntaxUID == JPEG2000Lossless
    assert (made.pixel_array == before.pixel_array).all()


@pytest.mark.parametrize("syntax", [JPEGBaseline8Bit, JPEG2000Lossless])
@pytest.mark.parametrize("frame", [NAME, b"\xff\x4f\x00\x00\x00\x00\x00\x00", b""])
def test_streams_that_cannot_be_followed_are_refused(syntax: str, frame: bytes) -> None:
    damaged = image(encapsulate([frame or b"\0"]))
    with pytest.raises(DeidentificationError, match="cannot be followed"):
        blanked_pixels(damaged, pydicom.uid.UID(syntax))


def test_kinds_of_streams_that_nobody_here_knows_are_refused() -> None:
    with pytest.raises(DeidentificationError, match="MPEG2"):
        blanked_pixels(image(encapsulate([NAME])), MPEG2MPML)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_images_of_every_syntax_stay_the_same_to_the_last_bit() -> None:
    compared = 0
    for path in files("compressed/*", "big_endian/*", "color/*", "multiframe/*", "plain/**/*"):
        try:
            before = pydicom.dcmread(path)
            pixels = before.pixel_array
        except Exception:  # not an image, or meant to be broken
            continue
        made = deidentify(before, SECRET)
        assert (made.pixel_array == pixels).all(), path.name
        compared += 1
    assert compared > 60


def test_a_dataset_without_file_meta_keeps_its_pixels() -> None:
    made = deidentify(image(bytes(12), stored=16), SECRET)
    assert made.PixelData == bytes(12) and isinstance(made.file_meta, FileMetaDataset)
