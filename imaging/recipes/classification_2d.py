"""The default recipe for classes of pictures: a small MONAI ResNet, trained from scratch.

The numbers were chosen on paediatric chest X-rays with patients held out; what was tried is in
docs/decisions/0004-cpu-recipes.md.
"""

from imaging.recipes.facts import SnapshotFacts
from imaging.recipes.inputs import plan_input
from imaging.recipes.recipe import PictureRecipe
from imaging.task import TaskConfig

LONG_SIDE = 128
LONG_SIDE_ACCELERATED = 384
STEP = 32  # the first convolution, the pooling and three levels halve the grid


def plan_classification_2d(
    config: TaskConfig, facts: SnapshotFacts, accelerated: bool
) -> PictureRecipe:
    """The recipe before task.yaml's own numbers."""
    side = LONG_SIDE_ACCELERATED if accelerated else LONG_SIDE
    view = plan_input(facts, long_side=side, step=STEP, shortest_side=STEP)
    return PictureRecipe(
        name="classification_2d",
        kind="classification",
        input_H=view.input_H,
        input_W=view.input_W,
        channels=view.channels,
        fit=view.fit,
        normalisation=view.normalisation,
        low_percentile=view.low_percentile,
        high_percentile=view.high_percentile,
        range_max=view.range_max,
        network="ResNet",
        outputs=len(config.scheme.labels),
        activation="sigmoid" if config.multi_label else "softmax",
        widths=(32, 64, 128, 256),
        blocks=1,
        norm="BATCH",
        dice_weight=0.0,
        cross_entropy_weight=1.0,
        label_smoothing=0.05,
        learning_rate=1e-3,
        warmup=0.03,
        weight_decay=1e-2,
        clip_norm=12.0,
        average_decay=0.99,
        warm_start=True,
        batch=16,
        budget_s=config.recipe.budget_s,
        max_epochs=10_000,
        seed=0,
        validate_every_s=20.0,
        checkpoint_every_s=30.0,
        selection_margin=0.01,
        augment_rotate_deg=12.0,
        augment_scale=0.15,
        augment_shift=0.05,
        augment_elastic=0.0,
        augment_flip_H=False,
        augment_flip_W=True,
        augment_gamma=0.3,
        augment_contrast=0.2,
        augment_brightness=0.15,
        augment_noise=0.04,
    )
