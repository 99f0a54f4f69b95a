"""Random changes to patches of volumes that a network should not care about, a batch at once.

One warp, as for pictures (`imaging.model.augment`): rotation in mm around the patch's middle,
scale, shift and an elastic field; then gamma, contrast, brightness and noise on the normalised
values.
"""

import math

import torch
from torch.nn.functional import affine_grid, grid_sample, interpolate

from imaging.model.augment import KNOTS, Draw
from imaging.recipes.recipe import VolumeRecipe


def augment_volumes(
    images_BCXYZ: torch.Tensor,
    labels_BXYZ: torch.Tensor,
    recipe: VolumeRecipe,
    generator: torch.Generator,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Patches of the network's size out of larger pieces, with their label maps.

    Outside a piece lies 0: the mean value and background.
    """
    grid_BXYZ3 = volume_warp(images_BCXYZ.shape, recipe, generator)
    images = grid_sample(images_BCXYZ, grid_BXYZ3, align_corners=False)
    labels = _warped_labels(labels_BXYZ, grid_BXYZ3)
    return change_values(images, recipe, generator), labels


def volume_warp(
    shape_BCXYZ: tuple[int, ...], recipe: VolumeRecipe, generator: torch.Generator
) -> torch.Tensor:
    """Where each voxel of the patches is taken from, in torch's coordinates (last axis first)."""
    batch, _, *sides = shape_BCXYZ
    draw = Draw(generator)
    turn_B33 = _rotations(draw.around_zero(batch, 3), recipe)
    zoom = draw.around_zero(batch, 1) * math.log1p(recipe.augment_scale)
    stretch = draw.around_zero(batch, 3) * math.log1p(recipe.augment_scale / 2)
    flips = (recipe.augment_flip_X, recipe.augment_flip_Y, recipe.augment_flip_Z)
    signs = [draw.signs(batch) if flip else torch.ones_like(zoom[:, 0]) for flip in flips]
    scale_B3 = torch.exp(-zoom - stretch) * torch.stack(signs, 1)
    spacing, patch, piece = (
        torch.tensor(three, dtype=torch.float32, device=generator.device)
        for three in (recipe.spacing_mm, recipe.patch_XYZ, sides)
    )
    # From -1 … 1 over the patch to mm, turned and scaled there, then to -1 … 1 over the piece.
    matrix_B33 = (turn_B33 * scale_B3[:, None]) * (spacing * patch) / (spacing * piece)[:, None]
    shift_B3 = draw.around_zero(batch, 3) * 2 * recipe.augment_shift * patch / piece
    # Torch counts the axes of a grid from the last one.
    theta_B34 = torch.cat([matrix_B33.flip(1).flip(2), shift_B3.flip(1)[:, :, None]], 2)
    grid = affine_grid(theta_B34, [batch, 1, *recipe.patch_XYZ], align_corners=False)
    if recipe.augment_elastic > 0:
        strength = 2 * recipe.augment_elastic * draw.from_zero(batch, 1, 1, 1, 1)
        field = draw.around_zero(batch, 3, KNOTS, KNOTS, KNOTS) * strength
        field = interpolate(field, size=recipe.patch_XYZ, mode="trilinear", align_corners=True)
        grid = grid + field.permute(0, 2, 3, 4, 1)
    return grid


def _warped_labels(labels_BXYZ: torch.Tensor, grid_BXYZ3: torch.Tensor) -> torch.Tensor:
    """Of each voxel the label with the largest share of it: smoother than the nearest voxel's."""
    present_K = torch.unique(labels_BXYZ)
    present_K = present_K[present_K > 0]
    if not len(present_K):
        return labels_BXYZ.new_zeros(grid_BXYZ3.shape[:-1])
    held_BKXYZ = (labels_BXYZ[:, None] == present_K[:, None, None, None]).to(grid_BXYZ3.dtype)
    shares_BKXYZ = grid_sample(held_BKXYZ, grid_BXYZ3, align_corners=False)
    largest_BXYZ, which_BXYZ = shares_BKXYZ.max(1)
    found: torch.Tensor = present_K[which_BXYZ] * (largest_BXYZ > 1 - shares_BKXYZ.sum(1))
    return found


def change_values(
    images_BCXYZ: torch.Tensor, recipe: VolumeRecipe, generator: torch.Generator
) -> torch.Tensor:
    """Gamma, contrast, brightness and noise, of each channel by itself."""
    draw = Draw(generator)
    each = (*images_BCXYZ.shape[:2], 1, 1, 1)
    gamma = torch.exp(draw.around_zero(*each) * recipe.augment_gamma)
    contrast = torch.exp(draw.around_zero(*each) * recipe.augment_contrast)
    brightness = draw.around_zero(*each) * recipe.augment_brightness
    darkest = images_BCXYZ.amin((2, 3, 4), keepdim=True)
    reach = (images_BCXYZ.amax((2, 3, 4), keepdim=True) - darkest).clamp(min=1e-5)
    images = ((images_BCXYZ - darkest) / reach).clamp(min=0) ** gamma * reach + darkest
    images = images * contrast + brightness
    if recipe.augment_noise > 0:
        deviation = draw.from_zero(*each) * recipe.augment_noise
        images = images + draw.normal(images.shape) * deviation
    return images


def _rotations(angles_B3: torch.Tensor, recipe: VolumeRecipe) -> torch.Tensor:
    """One rotation matrix per patch, around X, then Y, then Z.

    Thick slices are turned less out of their plane: between them there is nothing to show.
    """
    x, y, z = recipe.spacing_mm
    damping = [min(y, z) / max(y, z), min(x, z) / max(x, z), min(x, y) / max(x, y)]
    angles = angles_B3 * torch.tensor(damping, device=angles_B3.device)
    angles = angles * math.radians(recipe.augment_rotate_deg)
    cos, sin = torch.cos(angles), torch.sin(angles)
    found = torch.eye(3, device=angles.device).repeat(len(angles), 1, 1)
    for axis in range(3):
        one, other = [place for place in range(3) if place != axis]
        turn = torch.eye(3, device=angles.device).repeat(len(angles), 1, 1)
        turn[:, one, one] = turn[:, other, other] = cos[:, axis]
        turn[:, one, other], turn[:, other, one] = -sin[:, axis], sin[:, axis]
        found = turn @ found
    return found
