"""The digest of a volume: the same for the same voxels at the same places, and only for those."""

from pathlib import Path

import numpy as np
import pytest

from imaging.io.nifti import read_nifti, write_nifti
from imaging.io.volume_digest import case_id, volume_digest
from imaging.volume import Volume, grid_of

RAS = np.array([[0.5, 0, 0, -7], [0, 0.7, 0, 3], [0, 0, 2, 11], [0, 0, 0, 1]])
LPS = RAS @ np.array([[-1, 0, 0, 2], [0, -1, 0, 3], [0, 0, 1, 0], [0, 0, 0, 1]])


def _volume(dtype: str = "int16", affine: np.ndarray = RAS, channels: int = 1) -> Volume:  # type: ignore[type-arg]
    voxels_CXYZ = np.arange(channels * 60).reshape(channels, 3, 4, 5).astype(dtype)
    return Volume(voxels_CXYZ, grid_of((3, 4, 5), affine))


def test_a_volume_keeps_its_digest_when_a_file_stores_its_axes_otherwise(tmp_path: Path) -> None:
    volume = _volume()
    digests = set()
    for number, affine in enumerate((RAS, LPS)):
        path = tmp_path / f"{number}.nii.gz"
        write_nifti(path, volume.voxels_CXYZ[0], grid_of((3, 4, 5), affine))
        digests.add(volume_digest([read_nifti(path)]))

    assert digests == {volume_digest([volume])}


def test_two_volumes_of_one_channel_are_one_of_two() -> None:
    both = _volume(channels=2)
    apart = [Volume(both.voxels_CXYZ[:1], both.grid), Volume(both.voxels_CXYZ[1:], both.grid)]

    assert volume_digest([both]) == volume_digest(apart)
    assert volume_digest(apart) != volume_digest(apart[::-1])


@pytest.mark.parametrize(
    "other",
    [
        _volume("float32"),
        _volume(affine=RAS + np.diag([0.001, 0, 0, 0])),
        Volume(_volume().voxels_CXYZ + np.int16(1), _volume().grid),
        Volume(_volume().voxels_CXYZ.reshape(1, 4, 3, 5), grid_of((4, 3, 5), RAS)),
    ],
    ids=["type", "place", "voxels", "shape"],
)
def test_another_volume_has_another_digest(other: Volume) -> None:
    assert volume_digest([other]) != volume_digest([_volume()])


def test_what_a_conversion_rounds_changes_no_digest() -> None:
    noise = np.zeros((4, 4))
    noise[:3] = 1e-6

    assert volume_digest([_volume(affine=RAS + noise)]) == volume_digest([_volume()])


def test_the_order_of_bytes_in_a_file_does_not_matter() -> None:
    assert volume_digest([_volume(">i2")]) == volume_digest([_volume("<i2")])


def test_large_volumes_are_read_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = volume_digest([_volume()])
    monkeypatch.setattr("imaging.io.volume_digest.BLOCK_BYTES", 1)

    assert volume_digest([_volume()]) == whole


def test_a_case_is_called_after_its_digest() -> None:
    assert case_id([_volume()]) == f"case-{volume_digest([_volume()])[:16]}"
