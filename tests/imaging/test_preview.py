import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from imaging.errors import RecordError
from imaging.labelstudio.plane import plane_of
from imaging.preview import render, window_of, write_slices
from imaging.task import VolumePolicy
from imaging.volume import Volume, grid_of, to_ras
from imaging.windows import CT_PRESETS, Window, ct_window
from tests.imaging.labelstudio.test_plane import stored_grid

AUTO = VolumePolicy()
SIDES = (6, 5, 4)


def volume_of(stored: NDArray[Any], modality: str = "MR") -> Volume:
    grid = grid_of(stored.shape, np.diag([-1.0, -1.0, 2.0, 1.0]))
    return Volume(to_ras(stored, grid)[None], grid, modality)


def ct() -> Volume:
    random = np.random.default_rng(0)
    return volume_of(random.integers(-1024, 1500, (20, 21, 22)).astype(np.int16), "CT")


@pytest.mark.parametrize(
    ("body_part", "labels", "expected"),
    [
        ("", (), "soft-tissue"),
        ("CHEST", (), "mediastinum"),
        ("HEAD", (), "brain"),
        ("LSPINE", (), "bone"),
        ("ABDOMEN", (), "abdomen"),
        ("KNEE", (), "bone"),
        ("CHEST", ("lung nodule",), "lung"),
        ("ABDOMEN", ("liver", "tumour"), "liver"),
        ("ABDOMEN", ("liver", "spleen"), "abdomen"),  # they do not agree
        ("", ("head of the pancreas",), "abdomen"),
        ("", ("hippocampus",), "soft-tissue"),
    ],
)
def test_ct_is_shown_as_what_is_looked_for_or_what_was_scanned(
    body_part: str, labels: tuple[str, ...], expected: str
) -> None:
    assert window_of(ct(), AUTO, body_part=body_part, labels=labels) == CT_PRESETS[expected]


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ("lung", Window(-1350, 150, "lung")),
        ("Soft Tissue", Window(-160, 240, "soft-tissue")),
        ("50/350", Window(-125, 225, "50/350")),
        (" -600 / 1500.5 ", Window(-1350.25, 150.25, "-600/1500.5")),
    ],
)
def test_the_task_may_say_a_preset_or_centre_and_width(asked: str, expected: Window) -> None:
    assert window_of(ct(), VolumePolicy(window=asked)) == expected


@pytest.mark.parametrize("asked", ["lungs", "40", "40/0", "40/-3", "a/b", ""])
def test_a_window_that_is_neither_is_refused(asked: str) -> None:
    with pytest.raises(RecordError, match="expected auto, centre/width such as 40/400, or one of"):
        window_of(ct(), VolumePolicy(window=asked))


def test_a_ct_without_hounsfield_units_is_shown_by_its_values() -> None:
    volume = volume_of(np.linspace(2000, 9000, 1000, dtype=np.int16).reshape(10, 10, 10), "CT")
    window = window_of(volume, AUTO)
    assert 2000 < window.low < 2100 and 8900 < window.high < 9000


def test_the_window_of_other_modalities_is_that_of_the_whole_volume_without_background() -> None:
    stored = np.zeros((40, 40, 40), dtype=np.uint16)  # 15 of 16 voxels are background
    stored[:10, :10, :] = np.random.default_rng(0).integers(1000, 2000, (10, 10, 40))
    stored[5, 5, 5] = 60000  # a spike
    window = window_of(volume_of(stored), AUTO)
    assert 1000 <= window.low < 1010 and 1990 < window.high < 2000
    few = stored.copy()
    few[:, :, 20:] = 0
    assert window_of(volume_of(few), AUTO).low == pytest.approx(window.low, abs=5)


def test_pet_is_shown_from_zero() -> None:
    stored = np.random.default_rng(0).exponential(2, (30, 30, 30)).astype(np.float32)
    stored[0, 0, 0] = -5
    window = window_of(volume_of(stored, "PT"), AUTO)
    assert window.low == 0
    assert window.high == pytest.approx(np.percentile(stored[stored > 0], 99.5))


@pytest.mark.parametrize("modality", ["CT", "MR", "PT"])
@pytest.mark.parametrize("value", [0, 7, -3000, np.nan, np.inf])
def test_a_constant_or_empty_volume_is_one_grey(modality: str, value: float) -> None:
    volume = volume_of(np.full(SIDES, value, dtype=np.float32), modality)
    window = window_of(volume, AUTO)
    shown = np.stack(list(render(volume, plane_of(volume.grid), window)))
    assert np.ptp(shown) == 0
    assert np.isfinite([window.low, window.high]).all() and window.low < window.high


def test_a_volume_of_two_values_shows_both() -> None:
    stored = np.zeros(SIDES, dtype=np.uint8)
    stored[2:4] = 1
    volume = volume_of(stored)
    shown = np.stack(list(render(volume, plane_of(volume.grid), window_of(volume, AUTO))))
    assert set(np.unique(shown)) == {0, 255}


@pytest.mark.parametrize(
    "dtype", ["int8", "uint8", "int16", "uint16", "int32", "float32", ">i2", ">u2", ">f4"]
)
def test_grey_is_linear_between_the_ends_of_the_window_for_every_type(dtype: str) -> None:
    stored = np.arange(120).reshape(SIDES).astype(dtype)
    volume = volume_of(stored)
    plane = plane_of(volume.grid)
    shown = np.stack([plane.voxels(one) for one in render(volume, plane, Window(20, 71))], axis=2)
    expected = np.rint(np.clip((stored.astype(float) - 20) * 5, 0, 255))
    assert shown.dtype == np.uint8 and np.array_equal(shown, to_ras(expected, volume.grid))


def test_negative_values_and_ends_of_the_scale_keep_their_order() -> None:
    stored = np.array([-32768, -1000, -1, 0, 1, 32767], dtype=np.int16).reshape(6, 1, 1)
    volume = Volume(stored[None], stored_grid((6, 1, 1), (1.0, 1.0, 1.0)), "CT")
    (shown,) = render(volume, plane_of(volume.grid, "axial"), ct_window(0, 2))
    assert sorted(set(shown[0].tolist())) == [0, 128, 255]
    assert (np.diff(shown[0][::-1].astype(int)) >= 0).all()  # the patient's right is on the left


def test_what_is_no_number_is_black_and_what_is_infinite_is_at_an_end() -> None:
    stored = np.array([np.nan, np.inf, -np.inf, 5, 3e38, -3e38], np.float32).reshape(6, 1, 1)
    grid = stored_grid((6, 1, 1), (1.0, 1.0, 1.0))
    volume = Volume(stored[None], grid)
    plane = plane_of(grid, "axial")
    (shown,) = render(volume, plane, Window(0, 10))
    assert plane.voxels(shown)[:, 0].tolist() == [0, 255, 0, 128, 255, 0]


def test_a_large_volume_is_judged_by_a_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    volume = ct()
    whole = window_of(replace(volume, modality="MR"), AUTO)
    monkeypatch.setattr("imaging.preview.SAMPLE_VOXELS", 1000)
    part = window_of(replace(volume, modality="MR"), AUTO)
    assert part.low == pytest.approx(whole.low, abs=20) and part.low != whole.low


def test_slices_are_written_under_their_voxel_index(tmp_path: Path) -> None:
    volume = replace(ct(), modality="MR")
    plane = plane_of(volume.grid, "coronal")
    window = window_of(volume, AUTO)
    beats: list[None] = []
    folder = tmp_path / "slices"
    write_slices(
        folder, volume.voxels_CXYZ[0], plane, window, threads=3, progress=lambda: beats.append(None)
    )
    names = sorted(path.name for path in folder.iterdir())
    assert names == [f"{index:04d}.png" for index in range(21)] and len(beats) == 21
    for name, expected in zip(names, render(volume, plane, window), strict=True):
        with Image.open(io.BytesIO((folder / name).read_bytes())) as image:
            assert np.array_equal(np.asarray(image), expected)
