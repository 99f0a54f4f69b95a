import json

import pytest

from imaging.errors import RecipeError
from imaging.recipes.facts import SnapshotFacts
from imaging.recipes.plan import plan_recipe
from imaging.recipes.reading import parse_recipe, with_overrides
from imaging.recipes.recipe import Recipe
from imaging.task import Scalar, TaskConfig, parse_task

FACTS = SnapshotFacts(100, 256, 256, same_aspect=True, colour=False, bits=8)


def task(kind: str = "segmentation", **recipe: Scalar) -> TaskConfig:
    document = {"kind": kind, "labels": ["lv", "scar"], "recipe": recipe}
    return parse_task(document, where="task.yaml")


def recipe(kind: str = "segmentation") -> Recipe:
    return plan_recipe(task(kind), FACTS)


@pytest.mark.parametrize("kind", ["segmentation", "classification"])
def test_a_recipe_survives_json_unchanged(kind: str) -> None:
    planned = recipe(kind)
    assert parse_recipe(json.loads(json.dumps(planned.to_json())), where="recipe.json") == planned


def test_the_digest_changes_with_any_number() -> None:
    planned = recipe()
    assert with_overrides(planned, {"seed": 1}).digest != planned.digest
    assert with_overrides(planned, {"seed": 0}).digest == planned.digest


def test_task_yaml_sets_single_numbers_and_leaves_the_rest() -> None:
    changed = plan_recipe(task(learning_rate=0.01, widths="8 16 32", budget_s=42), FACTS)
    assert (changed.learning_rate, changed.widths, changed.budget_s) == (0.01, (8, 16, 32), 42.0)
    assert changed.batch == recipe().batch


def test_a_whole_number_is_accepted_where_a_fraction_is_meant() -> None:
    assert with_overrides(recipe(), {"augment_rotate_deg": 45}).augment_rotate_deg == 45.0


def test_all_problems_of_overrides_are_told_at_once() -> None:
    wrong: dict[str, Scalar] = {
        "learning_rte": 0.1,
        "batch": "eight",
        "warmup": 3.0,
        "augment_flip_W": 1,
        "outputs": 7,
        "widths": "16",
    }
    with pytest.raises(RecipeError) as caught:
        with_overrides(recipe(), wrong)
    message = str(caught.value)
    for part in (
        "recipe.learning_rte is not a known key",
        "recipe.batch is 'eight', expected a whole number",
        "recipe.warmup is 3.0, expected 0 to 0.5",
        "recipe.augment_flip_W is 1, expected true or false",
        "recipe.outputs follows from the rest of task.yaml",
        "recipe.widths is '16', expected 2 to 7 numbers",
    ):
        assert part in message


@pytest.mark.parametrize(
    ("kind", "numbers", "reason"),
    [
        ("segmentation", {"input_H": 100}, "expected multiples of 16"),
        ("segmentation", {"fit": "pad", "input_H": 64}, "expected a square"),
        ("segmentation", {"input_H": 16, "input_W": 16}, "at least 2 for norm: INSTANCE"),
        ("classification", {"input_H": 32, "input_W": 32, "batch": 1}, "2 for norm: BATCH"),
        ("classification", {"input_H": 32, "input_W": 32, "norm": "INSTANCE"}, "norm: INSTANCE"),
        ("segmentation", {"network": "ResNet"}, "not made for segmentation"),
        ("segmentation", {"dice_weight": 0, "cross_entropy_weight": 0}, "nothing to learn from"),
        ("classification", {"widths": "16 32 64"}, "a ResNet has 4"),
        ("segmentation", {"learning_rate": float("nan")}, "learning_rate is nan"),
    ],
)
def test_numbers_that_contradict_each_other_are_refused(
    kind: str, numbers: dict[str, Scalar], reason: str
) -> None:
    with pytest.raises(RecipeError, match=reason):
        with_overrides(recipe(kind), numbers)


def test_a_stored_recipe_with_missing_and_unknown_keys_is_refused() -> None:
    record = recipe().to_json()
    del record["seed"]
    record["colour"] = "blue"
    with pytest.raises(RecipeError, match=r"seed is missing; colour is not a known key"):
        parse_recipe(record, where="recipe.json")
