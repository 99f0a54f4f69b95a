"""What a run trains and from where it starts: decided once, kept in recipe.json.

A run that was killed and goes on does so with the very same recipe and start, whatever was
promoted or written into task.yaml in between.
"""

import subprocess
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from imaging.dataset.snapshot import Snapshot
from imaging.errors import BundleError, os_error_beneath
from imaging.layout import Nas, RunFolder
from imaging.model.bundle import Bundle, load_bundle
from imaging.publish import read_json, write_json
from imaging.recipes.plan import plan_for
from imaging.recipes.reading import parse_recipe
from imaging.recipes.recipe import Recipe, VolumeRecipe
from imaging.registry import champion
from imaging.task import TaskConfig

REVISION = "REVISION"  # written while the image is built
SAME_NETWORK = ("network", "channels", "outputs", "widths", "blocks", "norm")
SAME_VIEW = ("normalisation", "low_percentile", "high_percentile", "range_max", "activation")
SAME_VOLUMES = ("channel_names", "stem_stride", "deep_supervision", "strides")
SAME_SPACING = 1.25  # ratio up to which weights of another spacing are still a good start


@dataclass(frozen=True, slots=True)
class TrainingPlan:
    """A recipe, and the version whose weights training begins with (None: random ones)."""

    recipe: Recipe
    start_from: str | None


def settle_plan(
    nas: Nas, run: RunFolder, config: TaskConfig, snapshot: Snapshot, *, accelerated: bool
) -> TrainingPlan:
    """The plan of a run: the one it has, or a new one.

    Raises:
        RecipeError: the recipe asks for the impossible, or recipe.json is unusable.
        SnapshotError: there is nothing to train on.
    """
    if run.recipe.is_file():
        record = read_json(run.recipe)
        recipe = parse_recipe(record.get("recipe", {}), where=str(run.recipe))
        return TrainingPlan(recipe, record.get("start_from"))
    recipe = plan_for(config, snapshot, accelerated=accelerated)
    start = _start(nas, recipe, snapshot) if recipe.warm_start else None
    record = {
        "format": 1,
        "recipe": recipe.to_json(),
        "start_from": start.version if start else None,
        "snapshot": snapshot.id,
        "versions": {name: version(name) for name in ("labloop", "torch", "monai", "openvino")},
        "commit": _commit(),
    }
    write_json(run.recipe, record)
    return TrainingPlan(recipe, start.version if start else None)


def obstacle(recipe: Recipe, champion: Bundle, snapshot: Snapshot) -> str:
    """Why a champion's weights cannot be the start; empty when they can.

    The champion knows the training and validation patients and cases of its own snapshot. Held-out
    patients stay held out, so none of them should be there; it is checked all the same.
    """
    differing = _differences(recipe, champion.recipe)
    if differing:
        return f"another {', '.join(differing)}"
    if champion.scheme.names != snapshot.scheme.names:
        return "other labels"
    held_out = snapshot.of("test")
    if champion.known_patients & {case.patient for case in held_out}:
        return "it knows held-out patients"
    if champion.known_cases & {case.case for case in held_out}:
        return "it knows held-out cases"
    return ""


def _differences(recipe: Recipe, other: Recipe) -> list[str]:
    if type(recipe) is not type(other):
        return ["kind of image"]
    names: tuple[str, ...] = SAME_NETWORK
    if not isinstance(recipe, VolumeRecipe):
        return [one for one in (*names, *SAME_VIEW) if getattr(recipe, one) != getattr(other, one)]
    # The statistics of a set and its spacing move a little with each new case.
    names += (*SAME_VOLUMES, "normalisation", "activation")
    found = [one for one in names if getattr(recipe, one) != getattr(other, one)]
    if isinstance(other, VolumeRecipe):
        ratios = [one / two for one, two in zip(recipe.spacing_mm, other.spacing_mm, strict=True)]
        if not all(1 / SAME_SPACING <= ratio <= SAME_SPACING for ratio in ratios):
            found.append("spacing")
    return found


def _start(nas: Nas, recipe: Recipe, snapshot: Snapshot) -> Bundle | None:
    present = champion(nas, snapshot.task)
    if present is None:
        return None
    try:
        bundle = load_bundle(present.folder)
    except BundleError as error:
        if os_error_beneath(error) is not None:
            raise  # what is settled here stays: one bad moment must not cost the warm start
        return None  # judging reads it too, and says what is wrong
    return None if obstacle(recipe, bundle, snapshot) else bundle


def _commit() -> str | None:
    """The commit of this program: as its image says, or the checkout that it runs from."""
    root = Path(__file__).parents[2]
    if (root / REVISION).is_file():
        return (root / REVISION).read_text(encoding="utf-8").strip() or None
    if not (root / ".git").exists():
        return None
    command = ["git", "-C", str(root), "rev-parse", "HEAD"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except OSError:
        return None
    return answer.stdout.strip() or None
