from pathlib import Path

import numpy as np
import pytest
import torch

from imaging.dataset.volumes import read_case_volume
from imaging.errors import SnapshotError
from imaging.model.augment_volume import augment_volumes
from imaging.model.volume_data import PreparedVolumes, Store, cut_patches, prepare_volumes
from imaging.model.volume_input import normalised, volume_input
from tests.imaging.model.volume_models import tiny_volume_recipe
from tests.volume_phantoms import volume_snapshot

RECIPE = tiny_volume_recipe()
STILL = tiny_volume_recipe(
    augment_rotate_deg=0,
    augment_scale=0,
    augment_shift=0,
    augment_gamma=0,
    augment_contrast=0,
    augment_brightness=0,
    augment_noise=0,
)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> PreparedVolumes:
    snapshot = volume_snapshot(tmp_path_factory.mktemp("volumes"), 4)
    return prepare_volumes(snapshot.cases, RECIPE, Store())


def test_volumes_lie_at_the_planned_spacing_with_their_labels(prepared: PreparedVolumes) -> None:
    for volume in prepared.volumes:
        assert volume.image_CXYZ.shape[1:] == volume.labels_XYZ.shape
        assert volume.image_CXYZ.dtype == np.float16
        assert len(volume.places) == 2
        inside = volume.image_CXYZ[0][volume.labels_XYZ > 0].mean()
        assert inside > volume.image_CXYZ[0][volume.labels_XYZ == 0].mean() + 1
        for index, places in enumerate(volume.places, start=1):
            assert (volume.labels_XYZ[tuple(places.T)] == index).all()


def test_what_does_not_fit_into_memory_lies_in_a_file_without_a_name(
    tmp_path: Path, prepared: PreparedVolumes
) -> None:
    snapshot = volume_snapshot(tmp_path / "set", 4)
    (tmp_path / "scratch").mkdir()
    store = Store(memory_bytes=30_000, folder=tmp_path / "scratch")
    spilled = prepare_volumes(snapshot.cases, RECIPE, store)
    assert any(isinstance(one.image_CXYZ, np.memmap) for one in spilled.volumes)
    assert not list((tmp_path / "scratch").iterdir())
    for one, other in zip(spilled.volumes, prepared.volumes, strict=True):
        assert np.array_equal(one.image_CXYZ, other.image_CXYZ)
        assert np.array_equal(one.labels_XYZ, other.labels_XYZ)


def test_patches_follow_from_the_iteration_alone(prepared: PreparedVolumes) -> None:
    chosen = np.array([2, 0])
    one, again, later = (cut_patches(prepared, chosen, RECIPE, place) for place in (7, 7, 8))
    assert np.array_equal(one[0], again[0])
    assert not np.array_equal(one[0], later[0])


def test_half_of_the_patches_hold_a_label_in_their_middle(prepared: PreparedVolumes) -> None:
    recipe = tiny_volume_recipe(patch_X=8, patch_Y=8, patch_Z=8, foreground_share=1.0)
    for iteration in range(10):
        _, labels = cut_patches(prepared, np.array([0, 1, 2, 3]), recipe, iteration)
        assert all(one.any() for one in labels)


def test_around_a_small_volume_lies_zero(prepared: PreparedVolumes) -> None:
    recipe = tiny_volume_recipe(patch_X=32, patch_Y=32, patch_Z=32)
    images, labels = cut_patches(prepared, np.array([0]), recipe, 0)
    volume = prepared.volumes[0]
    assert images.shape[2:] == labels.shape[1:] == (40, 40, 40)
    assert (labels > 0).sum() == (volume.labels_XYZ > 0).sum()
    assert not images[0, 0, 0].any()
    assert np.isclose(
        images.astype(np.float64).sum(), volume.image_CXYZ.astype(np.float64).sum(), atol=1
    )


def test_without_augmentation_the_middle_of_a_piece_is_the_patch(
    prepared: PreparedVolumes,
) -> None:
    pieces, drawn = cut_patches(prepared, np.array([1]), STILL, 3)
    images, labels = augment_volumes(
        torch.from_numpy(pieces).float(),
        torch.from_numpy(drawn).long(),
        STILL,
        torch.Generator().manual_seed(0),
    )
    assert images.shape == (1, 1, 16, 16, 16)
    assert np.allclose(images[0, 0], pieces[0, 0, 2:18, 2:18, 2:18], atol=1e-2)
    assert np.array_equal(labels[0], drawn[0, 2:18, 2:18, 2:18])


def test_image_and_labels_take_the_same_warp() -> None:
    recipe = tiny_volume_recipe(
        augment_gamma=0,
        augment_contrast=0,
        augment_brightness=0,
        augment_noise=0,
        augment_rotate_deg=40,
        augment_elastic=0.05,
        augment_flip_X=True,
    )
    drawn = torch.zeros(3, 20, 20, 20, dtype=torch.long)
    drawn[:, 4:12, 6:17, 5:14] = 2
    generator = torch.Generator().manual_seed(1)
    images, labels = augment_volumes((drawn == 2).float()[:, None], drawn, recipe, generator)
    assert ((images[:, 0] > 0.5) == (labels == 2)).float().mean() > 0.995
    assert set(labels.unique().tolist()) <= {0, 2}
    assert labels.any()


def test_every_normalisation_gives_what_its_name_says() -> None:
    values = np.random.default_rng(0).normal(80, 20, (6, 7, 8)).astype(np.float32)
    values[0] = 0
    by_volume = normalised(values, tiny_volume_recipe("MR"), 0)
    assert by_volume.mean() == pytest.approx(0, abs=1e-5)
    assert by_volume.std() == pytest.approx(1, abs=1e-5)
    shown = normalised(values, tiny_volume_recipe("MR", normalisation="nonzero"), 0)
    assert not shown[0].any()
    assert shown[1:].mean() == pytest.approx(0, abs=1e-5)
    by_set = normalised(values, tiny_volume_recipe("CT"), 0)
    assert by_set.min() == pytest.approx((30 - 120) / 40)
    flat = np.full((2, 2, 2), 7, np.float32)
    assert not normalised(flat, tiny_volume_recipe("MR"), 0).any()


def test_all_channels_of_a_case_become_input(tmp_path: Path) -> None:
    snapshot = volume_snapshot(tmp_path, 1, channels=2)
    volume = read_case_volume(snapshot.cases[0])
    image_CXYZ = volume_input(volume, tiny_volume_recipe(channels=2))
    assert len(image_CXYZ) == 2
    assert not np.array_equal(image_CXYZ[0], image_CXYZ[1])


def test_a_case_without_labels_is_refused(tmp_path: Path) -> None:
    from dataclasses import replace

    snapshot = volume_snapshot(tmp_path, 1)
    with pytest.raises(SnapshotError, match="has no label map"):
        prepare_volumes([replace(snapshot.cases[0], labels=None)], RECIPE, Store())
