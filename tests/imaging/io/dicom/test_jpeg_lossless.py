import random
import struct

import numpy as np
import pydicom
import pytest
from pydicom.encaps import get_frame

from imaging.errors import VolumeError
from imaging.io.dicom.jpeg_lossless import decode_jpeg_lossless
from tests.real_data import data_folder


def stream() -> tuple[bytes, tuple[int, int]]:
    folder = data_folder("dicom_hard_cases/compressed/compressed_jpeg")
    dataset = pydicom.dcmread(min(folder.iterdir()))
    data = get_frame(dataset.PixelData, 0, number_of_frames=1)
    return data, (dataset.Rows, dataset.Columns)


def test_damage_anywhere_ends_in_a_refusal_not_in_the_end_of_the_process() -> None:
    data, shape_HW = stream()
    body = data.index(b"\xff\xda")
    chance = random.Random(0)
    refused = 0
    for k in range(150):
        spoilt = bytearray(data)
        end = len(data) if k % 3 else body + 10  # every third in its header
        for _ in range(chance.choice((1, 2, 8))):
            spoilt[chance.randrange(2, end)] = chance.randrange(256)
        if k % 10 == 0:
            del spoilt[chance.randrange(body, len(spoilt)) :]
        try:
            assert decode_jpeg_lossless(bytes(spoilt), shape_HW).shape == shape_HW
        except VolumeError as error:
            refused += error.reason in ("broken", "too-many-voxels")
    assert refused > 50


def test_a_stream_of_another_size_is_refused() -> None:
    data, (rows, columns) = stream()
    with pytest.raises(VolumeError) as caught:
        decode_jpeg_lossless(data, (rows - 1, columns))
    assert caught.value.reason == "too-many-voxels"


def test_a_stream_of_one_row_decodes_by_the_book() -> None:
    """Three pixels of 8 bits, written by hand: 128 + 1, + 2, - 1."""
    frame = struct.pack(">BBHBHHBBBB", 0xFF, 0xC3, 11, 8, 1, 3, 1, 1, 0x11, 0)
    # Two codes of two bits: 00 for differences of one bit, 01 for those of two.
    table = struct.pack(">BBHB", 0xFF, 0xC4, 21, 0) + bytes([0, 2] + [0] * 14) + bytes([1, 2])
    scan = struct.pack(">BBHBBBBBB", 0xFF, 0xDA, 8, 1, 1, 0, 1, 0, 0)
    bits = "00" + "1" + "01" + "10" + "00" + "0"  # +1, +2, -1
    coded = int(bits.ljust(16, "1"), 2).to_bytes(2, "big")
    data = b"\xff\xd8" + frame + table + scan + coded + b"\xff\xd9"
    assert np.array_equal(decode_jpeg_lossless(data, (1, 3)), [[129, 131, 130]])
