from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from imaging.dataset.snapshot import Snapshot, SnapshotCase
from imaging.errors import RecipeError, SnapshotError
from imaging.io.picture import write_picture
from imaging.labels import label_scheme
from imaging.recipes.facts import SnapshotFacts, measure_facts
from imaging.recipes.plan import RECIPES, plan_recipe
from imaging.task import TaskConfig, parse_task

GREY = SnapshotFacts(100, 256, 256, same_aspect=True, colour=False, bits=8)


def task(kind: str, name: str = "auto", multi_label: bool = False) -> TaskConfig:
    document = {
        "kind": kind,
        "labels": ["a", "b", "c"],
        "multi_label": multi_label,
        "recipe": {"name": name},
    }
    return parse_task(document, where="task.yaml")


def snapshot_of(folder: Path, pictures: list[np.ndarray], split: str = "train") -> Snapshot:
    cases = []
    for number, pixels in enumerate(pictures):
        path = folder / f"{number}.png"
        write_picture(path, pixels)
        cases.append(
            SnapshotCase(f"case-{number}", f"p-{number}", split, path, "00", None, ("a",))  # type: ignore[arg-type]
        )
    scheme = label_scheme(["a", "b"])
    return Snapshot(
        "snap-1", "Task001_a", "classification", False, scheme, tuple(cases), folder, ""
    )


def test_auto_follows_the_kind_of_task() -> None:
    assert plan_recipe(task("segmentation"), GREY).name == "segmentation_2d"
    assert plan_recipe(task("classification"), GREY).name == "classification_2d"


def test_masks_get_one_output_more_than_labels_and_classes_as_many() -> None:
    assert plan_recipe(task("segmentation"), GREY).outputs == 4
    assert plan_recipe(task("classification"), GREY).outputs == 3


def test_several_classes_at_once_are_not_made_to_compete() -> None:
    assert plan_recipe(task("classification", multi_label=True), GREY).activation == "sigmoid"
    assert plan_recipe(task("classification"), GREY).activation == "softmax"


def test_an_unknown_recipe_names_those_there_are() -> None:
    with pytest.raises(RecipeError, match=f"expected one of auto, {', '.join(RECIPES)}"):
        plan_recipe(task("segmentation", name="nnunet"), GREY)


def test_a_recipe_for_the_other_kind_is_refused() -> None:
    with pytest.raises(RecipeError, match="is for classification, the task is segmentation"):
        plan_recipe(task("segmentation", name="classification_2d"), GREY)


@pytest.mark.parametrize(
    ("median_HW", "expected"),
    [
        ((256, 256), (128, 128)),
        ((2000, 1000), (128, 64)),
        ((90, 100), (96, 96)),
        ((7, 9), (32, 32)),  # 16 × 16 would be a single pixel on the coarsest grid
        ((16, 300), (32, 128)),
    ],
)
def test_the_input_keeps_the_median_aspect_and_never_grows(
    median_HW: tuple[int, int], expected: tuple[int, int]
) -> None:
    facts = replace(GREY, median_H=median_HW[0], median_W=median_HW[1])
    assert plan_recipe(task("segmentation"), facts).input_HW == expected


def test_pictures_of_mixed_aspect_are_padded_to_a_square() -> None:
    facts = replace(GREY, median_H=300, median_W=200, same_aspect=False)
    planned = plan_recipe(task("segmentation"), facts)
    assert planned.fit == "pad"
    assert planned.input_H == planned.input_W


def test_a_gpu_allows_a_larger_input() -> None:
    facts = replace(GREY, median_H=1024, median_W=1024)
    slow, fast = (plan_recipe(task("segmentation"), facts, accelerated=on) for on in (False, True))
    assert fast.input_H > slow.input_H


def test_colour_keeps_its_scale_and_grey_is_stretched_to_percentiles() -> None:
    assert plan_recipe(task("segmentation"), GREY).normalisation == "percentile"
    colour = plan_recipe(task("segmentation"), replace(GREY, colour=True))
    assert (colour.channels, colour.normalisation, colour.range_max) == (3, "range", 255.0)


def test_facts_tell_sizes_colour_and_depth(tmp_path: Path) -> None:
    grey = np.arange(40 * 30, dtype=np.uint16).reshape(40, 30)
    colour = np.zeros((42, 30, 3), dtype=np.uint8)
    colour[..., 0] = 200
    facts = measure_facts(snapshot_of(tmp_path, [grey, grey, colour]))
    assert facts == SnapshotFacts(3, 40, 30, same_aspect=True, colour=True, bits=None)


def test_one_picture_of_another_shape_ends_the_common_aspect(tmp_path: Path) -> None:
    wide, tall = np.zeros((20, 40), np.uint8), np.zeros((40, 20), np.uint8)
    assert not measure_facts(snapshot_of(tmp_path, [wide, wide, tall])).same_aspect


def test_a_snapshot_without_training_cases_cannot_be_planned(tmp_path: Path) -> None:
    pictures = [np.zeros((20, 20), np.uint8)]
    with pytest.raises(SnapshotError, match="no training cases"):
        measure_facts(snapshot_of(tmp_path, pictures, split="test"))


@pytest.mark.parametrize("count", [1, 63, 64, 65, 127, 128, 1000])
def test_the_pictures_looked_at_are_spread_over_the_whole_snapshot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    snapshot = snapshot_of(tmp_path, [np.zeros((9, 9), dtype=np.uint8)])
    cases = tuple(replace(snapshot.cases[0], image=Path(str(n))) for n in range(count))
    seen: list[int] = []

    def note(path: Path) -> np.ndarray:
        seen.append(int(path.name))
        return np.zeros((9, 9), dtype=np.uint8)

    monkeypatch.setattr("imaging.recipes.facts.read_picture", note)
    measure_facts(replace(snapshot, cases=cases))
    assert len(seen) == len(set(seen)) == min(count, 64)
    gaps = np.diff([*seen, count])
    assert seen[0] == 0 and gaps.max() - gaps.min() <= 1
