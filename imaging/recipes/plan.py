"""From a task's configuration and a look at its pictures to a complete recipe."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

from imaging.errors import RecipeError
from imaging.recipes.classification_2d import plan_classification_2d
from imaging.recipes.facts import SnapshotFacts
from imaging.recipes.recipe import Recipe, with_overrides
from imaging.recipes.segmentation_2d import plan_segmentation_2d
from imaging.task import TaskConfig

Planner = Callable[[TaskConfig, SnapshotFacts, bool], Recipe]
RECIPES: Mapping[str, Planner] = MappingProxyType(
    {"segmentation_2d": plan_segmentation_2d, "classification_2d": plan_classification_2d}
)


def plan_recipe(config: TaskConfig, facts: SnapshotFacts, *, accelerated: bool = False) -> Recipe:
    """The complete recipe of a run.

    Args:
        config: the task; `recipe.name` is `auto` or a name in RECIPES.
        facts: what the snapshot's pictures look like.
        accelerated: whether a GPU will train; then the input may be larger.

    Raises:
        RecipeError: an unknown recipe, one for the other kind of task, or unusable overrides.
    """
    name = config.recipe.name if config.recipe.name != "auto" else f"{config.kind}_2d"
    if name not in RECIPES:
        known = ", ".join(("auto", *RECIPES))
        raise RecipeError(f"recipe.name is {name!r}, expected one of {known}")
    recipe = RECIPES[name](config, facts, accelerated)
    if recipe.kind != config.kind:
        raise RecipeError(f"recipe {name} is for {recipe.kind}, the task is {config.kind}")
    return with_overrides(recipe, config.recipe.overrides)
