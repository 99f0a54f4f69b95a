from dataclasses import replace

import pytest
import torch

from imaging.model.augment import augment, change_intensity
from imaging.recipes.recipe import Recipe
from tests.imaging.model.models import tiny_recipe
from tests.phantoms import disc_picture, mask_config

STILL = replace(
    tiny_recipe(mask_config()),
    augment_rotate_deg=0.0,
    augment_scale=0.0,
    augment_shift=0.0,
    augment_elastic=0.0,
    augment_flip_H=False,
    augment_flip_W=False,
    augment_gamma=0.0,
    augment_contrast=0.0,
    augment_brightness=0.0,
    augment_noise=0.0,
)


def batch(
    count: int = 4, shape_HW: tuple[int, int] = (40, 36)
) -> tuple[torch.Tensor, torch.Tensor]:
    pairs = [disc_picture(number, shape_HW) for number in range(count)]
    images = torch.stack([torch.from_numpy(image / 255.0).float()[None] for image, _ in pairs])
    return images, torch.stack([torch.from_numpy(labels).long() for _, labels in pairs])


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_with_every_number_zero_nothing_changes() -> None:
    images, labels = batch()
    same, drawn = augment(images, labels, STILL, generator())
    assert torch.allclose(same, images, atol=1e-5)
    assert drawn is not None
    assert torch.equal(drawn, labels)


@pytest.mark.parametrize(
    "numbers",
    [
        {"augment_rotate_deg": 40.0},
        {"augment_scale": 0.3},
        {"augment_shift": 0.1},
        {"augment_elastic": 0.05},
        {"augment_flip_H": True},
        {"augment_flip_W": True},
    ],
)
def test_image_and_labels_move_together(numbers: dict[str, float]) -> None:
    recipe: Recipe = replace(STILL, **numbers)  # type: ignore[arg-type]
    _, labels = batch(8, (40, 60))
    core = (labels == 2).float()[:, None]
    moved, drawn = augment(core, labels, recipe, generator(3))
    assert drawn is not None
    assert not torch.equal(drawn, labels)
    assert ((moved[:, 0] > 0.5) == (drawn == 2)).float().mean() > 0.99


def test_rotation_keeps_a_discs_area_where_height_and_width_differ() -> None:
    recipe = replace(STILL, augment_rotate_deg=90.0)
    images, labels = batch(8, (40, 64))
    _, drawn = augment(images, labels, recipe, generator())
    assert drawn is not None
    before, after = (labels > 0).sum((1, 2)).float(), (drawn > 0).sum((1, 2)).float()
    assert ((after / before - 1).abs() < 0.1).all()


def test_a_flip_mirrors_exactly() -> None:
    recipe = replace(STILL, augment_flip_W=True)
    images, labels = batch(8)
    moved, _ = augment(images, labels, recipe, generator())
    same = [torch.allclose(a, b, atol=1e-5) for a, b in zip(moved, images, strict=True)]
    mirrored = [
        torch.allclose(a, b.flip(-1), atol=1e-5) for a, b in zip(moved, images, strict=True)
    ]
    assert all(a != b for a, b in zip(same, mirrored, strict=True))
    assert any(same)
    assert any(mirrored)


def test_the_same_seed_makes_the_same_pictures() -> None:
    recipe = tiny_recipe(mask_config())
    images, labels = batch()
    first, second = (augment(images, labels, recipe, generator(5))[0] for _ in range(2))
    other, _ = augment(images, labels, recipe, generator(6))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


def test_noise_is_different_in_every_channel_and_gamma_is_not() -> None:
    images = torch.full((2, 3, 8, 8), 0.5)
    gamma = change_intensity(images, replace(STILL, augment_gamma=0.5), generator())
    assert torch.equal(gamma[:, 0], gamma[:, 2])
    noisy = change_intensity(images, replace(STILL, augment_noise=0.2), generator())
    assert not torch.equal(noisy[:, 0], noisy[:, 2])


def test_classification_needs_no_labels_to_warp() -> None:
    images, _ = batch()
    moved, drawn = augment(images, None, tiny_recipe(mask_config()), generator())
    assert drawn is None
    assert moved.shape == images.shape
