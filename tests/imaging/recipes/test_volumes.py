import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from imaging.errors import RecipeError, SnapshotError
from imaging.recipes.plan import plan_for, plan_volume_recipe
from imaging.recipes.reading import parse_recipe
from imaging.recipes.recipe import VolumeRecipe, strides_for
from imaging.recipes.volume_facts import ChannelFacts, VolumeSetFacts, measure_volumes
from imaging.task import RecipeChoice, TaskConfig, VolumePolicy
from tests.volume_phantoms import volume_config, volume_snapshot

CT = VolumeSetFacts(
    train_cases=50,
    median_spacing_mm=(0.8, 0.8, 5.0),
    tenth_spacing_mm=(0.7, 0.7, 2.0),
    extents_mm=((400.0, 400.0, 500.0),) * 3,
    channels=(ChannelFacts(-150.0, 250.0, 60.0, 50.0),),
    is_cut_out=False,
)
SMALL = replace(
    CT,
    median_spacing_mm=(1.0, 1.0, 1.0),
    tenth_spacing_mm=(1.0, 1.0, 1.0),
    extents_mm=((35.0, 50.0, 35.0),) * 3,
)


def plan(facts: VolumeSetFacts, *, accelerated: bool = False, **numbers: object) -> VolumeRecipe:
    modality = str(numbers.pop("modality", "CT"))
    config = volume_config(60.0, modality)
    choice = RecipeChoice("auto", 60.0, numbers)  # type: ignore[arg-type]
    return plan_volume_recipe(replace(config, recipe=choice), facts, accelerated=accelerated)


def test_a_recipe_for_volumes_comes_back_from_json() -> None:
    planned = plan(CT)
    record = json.loads(json.dumps(planned.to_json()))
    assert parse_recipe(record, where="recipe.json") == planned


def test_small_volumes_are_seen_whole() -> None:
    patch = plan(SMALL).patch_XYZ
    assert all(side >= mm for side, mm in zip(patch, SMALL.extents_mm[0], strict=True))
    assert plan(SMALL).spacing_mm == (1.0, 1.0, 1.0)


@pytest.mark.parametrize("accelerated", [False, True])
def test_large_ones_are_coarsened_until_some_patches_fill_them(accelerated: bool) -> None:
    planned = plan(CT, accelerated=accelerated)
    voxels = np.prod(np.array(CT.extents_mm[0]) / planned.spacing_mm)
    assert voxels / np.prod(planned.patch_XYZ) < (80 if accelerated else 12)
    assert planned.spacing_mm[2] < 5.0  # thick slices follow the finer ones of the set


def test_an_accelerator_gets_a_deeper_network_that_is_supervised_deeply() -> None:
    slow, fast = plan(CT), plan(CT, accelerated=True)
    assert (slow.network, slow.deep_supervision) == ("UNet", 0)
    assert (fast.network, fast.deep_supervision) == ("DynUNet", 3)
    assert np.prod(fast.patch_XYZ) > np.prod(slow.patch_XYZ)


def test_ct_is_scaled_by_the_set_and_the_rest_by_each_volume() -> None:
    assert plan(CT).normalisation == "dataset"
    assert plan(CT).clip_high == (250.0,)
    assert plan(CT, modality="MR").normalisation == "volume"
    assert plan(replace(CT, is_cut_out=True), modality="MR").normalisation == "nonzero"


def test_thick_slices_are_not_halved_before_the_rest_is_as_coarse() -> None:
    assert strides_for((1, 1, 4), (64, 64, 16), 4) == ((2, 2, 1), (2, 2, 1), (2, 2, 2), (2, 2, 2))
    assert strides_for((1, 1, 1), (8, 16, 4), 2) == ((2, 2, 1), (1, 2, 1))


@pytest.mark.parametrize("facts", [CT, SMALL])
@pytest.mark.parametrize("accelerated", [False, True])
def test_sides_of_a_planned_patch_fit_the_network(facts: VolumeSetFacts, accelerated: bool) -> None:
    planned = plan(facts, accelerated=accelerated)
    for axis, side in enumerate(planned.patch_XYZ):
        assert side % np.prod([stride[axis] for stride in planned.strides]) == 0


@pytest.mark.parametrize(
    ("numbers", "problem"),
    [
        ({"patch_X": 50}, "the patch is 50 × 112 × 96, expected multiples of 8 × 16 × 16"),
        ({"spacing_X": 0.0}, "recipe.spacing_X is 0.0, expected 0.01 to 100"),
        ({"normalisation": "percentile"}, "expected dataset or volume or nonzero"),
        ({"stem_stride": 3}, "recipe.stem_stride is 3, expected 1 or 2"),
        ({"deep_supervision": 1}, "needs network DynUNet or SegResNet"),
        ({"network": "ResNet"}, "not made for segmentation with segmentation_3d"),
        ({"network": "SegResNet", "widths": "8 16 40"}, "doubles them"),
        ({"input_H": 64}, "recipe.input_H is not a known key"),
        ({"channels": 2}, "recipe.channels follows from the rest"),
        ({"mean": "1 2"}, "expected 1 numbers, one for each channel"),
        ({"mean": "one"}, "expected a number for each channel"),
        ({"clip_low": 300}, "clip_low must lie below clip_high"),
    ],
)
def test_numbers_that_cannot_be_are_refused(numbers: dict[str, object], problem: str) -> None:
    with pytest.raises(RecipeError, match=problem):
        plan(CT, **numbers)


def test_task_yaml_may_set_single_numbers() -> None:
    planned = plan(CT, patch_X=64, patch_Y=64, mean=12, widths="8 16 32", learning_rate=0.01)
    assert planned.patch_XYZ[:2] == (64, 64)
    assert planned.mean == (12.0,)
    assert planned.widths == (8, 16, 32)


@pytest.mark.parametrize(
    ("modality", "name", "problem"),
    [
        ("CT", "segmentation_2d", "is for pictures, the task is of volumes"),
        ("picture", "segmentation_3d", "is for volumes, the task is of pictures"),
    ],
)
def test_a_recipe_for_other_images_is_refused(
    tmp_path: Path, modality: str, name: str, problem: str
) -> None:
    config = volume_config(60.0, modality)
    config = replace(config, recipe=RecipeChoice(name, 60.0))
    with pytest.raises(RecipeError, match=problem):
        plan_for(config, volume_snapshot(tmp_path, 1))


def test_there_is_no_recipe_for_classes_of_volumes_yet(tmp_path: Path) -> None:
    config = TaskConfig(kind="classification", scheme=volume_config().scheme, modality="CT")
    with pytest.raises(RecipeError, match="no recipe for classification of volumes"):
        plan_for(config, volume_snapshot(tmp_path, 1))


def test_channels_must_be_as_many_as_task_yaml_names() -> None:
    config = replace(volume_config(), volume=VolumePolicy(channels=("T1", "T2")))
    with pytest.raises(RecipeError, match="names T1, T2, the volumes have 1"):
        plan_volume_recipe(config, CT)


def test_facts_are_those_of_the_training_volumes(tmp_path: Path) -> None:
    facts = measure_volumes(volume_snapshot(tmp_path, 6))
    assert facts.train_cases == 4
    assert facts.median_spacing_mm == pytest.approx((1.0, 1.2, 2.0))
    assert 100 < facts.channels[0].mean < 220  # where labels lie, the ball is bright
    assert not facts.is_cut_out


def test_a_volume_cut_out_of_its_surroundings_is_noticed(tmp_path: Path) -> None:
    from imaging.io.nifti import read_nifti, write_nifti

    snapshot = volume_snapshot(tmp_path, 2)
    for case in snapshot.cases:
        volume = read_nifti(case.image)
        voxels = np.where(volume.voxels_CXYZ[0] > 80, volume.voxels_CXYZ[0], 0)
        write_nifti(case.image, voxels.astype(np.float32), volume.grid)
    assert measure_volumes(snapshot).is_cut_out


def test_volumes_of_different_channels_are_refused(tmp_path: Path) -> None:
    one, two = volume_snapshot(tmp_path / "a", 1), volume_snapshot(tmp_path / "b", 1, channels=2)
    with pytest.raises(SnapshotError, match="1 and 2 channels"):
        measure_volumes(replace(one, cases=(*one.cases, *two.cases)))
