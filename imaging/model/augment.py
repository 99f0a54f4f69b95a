"""Random changes that a network should not care about, made on a whole batch at once.

MONAI's random transforms work on one picture at a time: affine, flip and intensity steps cost
2.2 ms for 128 × 128 pixels and an elastic step 3.7 ms more, a quarter of a training step on a
CPU. One composed warp for the batch costs 0.7 ms per picture, and runs on a GPU as it is
(docs/decisions/0004-cpu-recipes.md).
"""

import math

import torch
from torch.nn.functional import affine_grid, grid_sample, interpolate

from imaging.recipes.recipe import PictureRecipe

KNOTS = 5  # control points of the elastic field, per axis


def augment(
    images_BCHW: torch.Tensor,
    labels_BHW: torch.Tensor | None,
    recipe: PictureRecipe,
    generator: torch.Generator,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Images and, with the very same warp, their label maps.

    Outside a picture lies 0: the darkest value and background.
    """
    grid_BHW2 = warp(images_BCHW.shape, recipe, generator)
    images_BCHW = grid_sample(images_BCHW, grid_BHW2, align_corners=False)
    if labels_BHW is not None:
        floats_B1HW = labels_BHW[:, None].to(images_BCHW.dtype)
        warped = grid_sample(floats_B1HW, grid_BHW2, mode="nearest", align_corners=False)
        labels_BHW = warped[:, 0].to(labels_BHW.dtype)
    return change_intensity(images_BCHW, recipe, generator), labels_BHW


def warp(
    shape_BCHW: tuple[int, ...], recipe: PictureRecipe, generator: torch.Generator
) -> torch.Tensor:
    """Where each pixel of the batch is taken from, in coordinates from -1 to 1 (x, y)."""
    batch, _, height, width = shape_BCHW
    draw = Draw(generator)
    angle = draw.around_zero(batch) * math.radians(recipe.augment_rotate_deg)
    zoom = torch.exp(draw.around_zero(batch) * math.log1p(recipe.augment_scale))
    # Half as much again in one direction only: pictures of other scanners are not quite square.
    stretch = torch.exp(draw.around_zero(batch) * math.log1p(recipe.augment_scale / 2))
    flip_W = draw.signs(batch) if recipe.augment_flip_W else torch.ones_like(angle)
    flip_H = draw.signs(batch) if recipe.augment_flip_H else torch.ones_like(angle)
    # A rotation in pixels, not in units of the sides, or it would shear what is not square.
    aspect = height / width
    cos, sin = torch.cos(angle) / zoom, torch.sin(angle) / zoom
    x_row = torch.stack([cos * stretch * flip_W, -sin * aspect * stretch * flip_H], 1)
    y_row = torch.stack([sin / aspect / stretch * flip_W, cos / stretch * flip_H], 1)
    shift_B2 = draw.around_zero(batch, 2) * 2 * recipe.augment_shift
    matrix_B23 = torch.cat([torch.stack([x_row, y_row], 1), shift_B2[:, :, None]], 2)
    grid_BHW2 = affine_grid(matrix_B23, [batch, 1, height, width], align_corners=False)
    if recipe.augment_elastic > 0:
        strength = 2 * recipe.augment_elastic * draw.from_zero(batch, 1, 1, 1)
        field = draw.around_zero(batch, 2, KNOTS, KNOTS) * strength
        field = interpolate(field, size=(height, width), mode="bicubic", align_corners=True)
        grid_BHW2 = grid_BHW2 + field.permute(0, 2, 3, 1)
    return grid_BHW2


def change_intensity(
    images_BCHW: torch.Tensor, recipe: PictureRecipe, generator: torch.Generator
) -> torch.Tensor:
    """Gamma, contrast, brightness and noise; all channels of a picture alike but for noise."""
    draw = Draw(generator)
    batch = images_BCHW.shape[0]
    gamma = torch.exp(draw.around_zero(batch, 1, 1, 1) * recipe.augment_gamma)
    contrast = torch.exp(draw.around_zero(batch, 1, 1, 1) * recipe.augment_contrast)
    brightness = draw.around_zero(batch, 1, 1, 1) * recipe.augment_brightness
    images_BCHW = images_BCHW.clamp(0, 1) ** gamma
    images_BCHW = (images_BCHW - 0.5) * contrast + 0.5 + brightness
    if recipe.augment_noise > 0:
        deviation = draw.from_zero(batch, 1, 1, 1) * recipe.augment_noise
        images_BCHW = images_BCHW + draw.normal(images_BCHW.shape) * deviation
    return images_BCHW


class Draw:
    """Random tensors from one generator, on its device."""

    def __init__(self, generator: torch.Generator) -> None:
        self.generator = generator
        self.device = generator.device

    def from_zero(self, *shape: int) -> torch.Tensor:
        """Uniform in [0, 1)."""
        return torch.rand(shape, generator=self.generator, device=self.device)

    def around_zero(self, *shape: int) -> torch.Tensor:
        """Uniform in [-1, 1)."""
        return self.from_zero(*shape) * 2 - 1

    def signs(self, count: int) -> torch.Tensor:
        """-1 or 1, evenly."""
        return torch.where(self.from_zero(count) < 0.5, -1.0, 1.0)

    def normal(self, shape: tuple[int, ...]) -> torch.Tensor:
        return torch.randn(shape, generator=self.generator, device=self.device)
