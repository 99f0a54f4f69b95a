"""From a task's configuration and a look at its pictures to a complete recipe."""

from imaging.dataset.snapshot import Snapshot
from imaging.errors import RecipeError
from imaging.recipes.classification_2d import plan_classification_2d
from imaging.recipes.facts import SnapshotFacts, measure_facts
from imaging.recipes.reading import RECIPE_TYPES, with_overrides
from imaging.recipes.recipe import PictureRecipe, Recipe, VolumeRecipe
from imaging.recipes.segmentation_2d import plan_segmentation_2d
from imaging.recipes.segmentation_3d import plan_segmentation_3d
from imaging.recipes.volume_facts import VolumeSetFacts, measure_volumes
from imaging.task import TaskConfig

RECIPES = tuple(RECIPE_TYPES)
PICTURE_PLANS = {
    "segmentation_2d": plan_segmentation_2d,
    "classification_2d": plan_classification_2d,
}


def plan_for(config: TaskConfig, snapshot: Snapshot, *, accelerated: bool = False) -> Recipe:
    """The complete recipe of a run on a snapshot, see `plan_recipe` and `plan_volume_recipe`.

    Raises:
        RecipeError: the recipe asks for the impossible.
        SnapshotError: there is nothing to train on.
    """
    check_choice(config)
    if config.is_volume:
        return plan_volume_recipe(config, measure_volumes(snapshot), accelerated=accelerated)
    return plan_recipe(config, measure_facts(snapshot), accelerated=accelerated)


def plan_recipe(
    config: TaskConfig, facts: SnapshotFacts, *, accelerated: bool = False
) -> PictureRecipe:
    """The complete recipe of a run on pictures.

    Args:
        config: the task; `recipe.name` is `auto` or a name in RECIPES.
        facts: what the snapshot's pictures look like.
        accelerated: whether a GPU will train; then the input may be larger.

    Raises:
        RecipeError: an unknown recipe, one for the other kind of task, or unusable overrides.
    """
    recipe = PICTURE_PLANS[check_choice(config)](config, facts, accelerated)
    return with_overrides(recipe, config.recipe.overrides)


def plan_volume_recipe(
    config: TaskConfig, facts: VolumeSetFacts, *, accelerated: bool = False
) -> VolumeRecipe:
    """The complete recipe of a run on volumes; arguments and errors as of `plan_recipe`."""
    check_choice(config)
    return with_overrides(plan_segmentation_3d(config, facts, accelerated), config.recipe.overrides)


def check_choice(config: TaskConfig) -> str:
    """The name of the recipe that a task.yaml chooses.

    Raises:
        RecipeError: there is none of that name, or it is for another kind of task.
    """
    dimensions = "3d" if config.is_volume else "2d"
    name = config.recipe.name
    if name == "auto":
        name = f"{config.kind}_{dimensions}"
        if name not in RECIPES:
            raise RecipeError(f"there is no recipe for {config.kind} of volumes yet")
    if name not in RECIPES:
        known = ", ".join(("auto", *RECIPES))
        raise RecipeError(f"recipe.name is {name!r}, expected one of {known}")
    kind, _, made_for = name.partition("_")
    if kind != config.kind:
        raise RecipeError(f"recipe {name} is for {kind}, the task is {config.kind}")
    if made_for != dimensions:
        what = {"2d": "pictures", "3d": "volumes"}
        raise RecipeError(
            f"recipe {name} is for {what[made_for]}, the task is of {what[dimensions]}"
        )
    return name
