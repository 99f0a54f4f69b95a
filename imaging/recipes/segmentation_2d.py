"""The default recipe for masks on pictures: MONAI's UNet, sized for a CPU.

The numbers were chosen on the Sunnybrook cardiac set with patients held out; what was tried is
in docs/decisions/0004-cpu-recipes.md.
"""

from imaging.recipes.facts import SnapshotFacts
from imaging.recipes.inputs import plan_input
from imaging.recipes.recipe import PictureRecipe
from imaging.task import TaskConfig

WIDTHS = (16, 32, 64, 128, 256)
STEP = 2 ** (len(WIDTHS) - 1)  # the grid is halved four times
SHORTEST_SIDE = 2 * STEP  # instance norm needs more than one pixel on the coarsest grid
LONG_SIDE = 128  # on a CPU four times the pictures per second of 256, and the better model
LONG_SIDE_ACCELERATED = 512


def plan_segmentation_2d(
    config: TaskConfig, facts: SnapshotFacts, accelerated: bool
) -> PictureRecipe:
    """The recipe before task.yaml's own numbers."""
    side = LONG_SIDE_ACCELERATED if accelerated else LONG_SIDE
    view = plan_input(facts, long_side=side, step=STEP, shortest_side=SHORTEST_SIDE)
    return PictureRecipe(
        name="segmentation_2d",
        kind="segmentation",
        input_H=view.input_H,
        input_W=view.input_W,
        channels=view.channels,
        fit=view.fit,
        normalisation=view.normalisation,
        low_percentile=view.low_percentile,
        high_percentile=view.high_percentile,
        range_max=view.range_max,
        network="UNet",
        outputs=len(config.scheme.labels) + 1,
        activation="softmax",
        widths=WIDTHS,
        blocks=2,
        norm="INSTANCE",
        dice_weight=1.0,
        cross_entropy_weight=1.0,
        label_smoothing=0.0,
        learning_rate=2e-3,
        warmup=0.03,
        weight_decay=1e-4,
        clip_norm=12.0,
        average_decay=0.99,
        warm_start=True,
        batch=8,
        budget_s=config.recipe.budget_s,
        max_epochs=10_000,
        seed=0,
        validate_every_s=20.0,
        checkpoint_every_s=30.0,
        selection_margin=0.01,
        augment_rotate_deg=45.0,
        augment_scale=0.3,
        augment_shift=0.05,
        augment_elastic=0.05,
        augment_flip_H=False,
        augment_flip_W=False,
        augment_gamma=0.3,
        augment_contrast=0.2,
        augment_brightness=0.15,
        augment_noise=0.04,
    )
