import math
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from monai.bundle import run as run_bundle
from numpy.typing import NDArray

from imaging.errors import BundleError, VolumeError
from imaging.io.nifti import read_nifti, write_nifti
from imaging.model.bundle import Bundle, read_bundle
from imaging.model.cleaning import Cleaning
from imaging.model.inverse import likeliest
from imaging.model.pieces import cleaned
from imaging.model.predict import Predictor, load_predictor
from imaging.model.predict_volume import VolumePredictor
from imaging.volume import Volume
from tests.imaging.model.volume_models import tiny_volume_recipe, untrained_volume_bundle
from tests.volume_phantoms import ball_volume

CLEANINGS = {"front": Cleaning(pieces=1), "back": Cleaning(fill_holes=True)}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("volumes") / "model-1"
    return untrained_volume_bundle(folder, tiny_volume_recipe(), CLEANINGS)


@pytest.fixture(scope="module")
def predictor(bundle: Bundle) -> VolumePredictor:
    found = load_predictor(bundle.folder, threads=1)
    assert isinstance(found, VolumePredictor)
    return found


def phantom(number: int, channels: int = 1) -> Volume:
    image_CXYZ, _, grid = ball_volume(number, channels)
    return Volume(image_CXYZ, grid)


def knowing(bundle: Bundle, answer: NDArray[np.float32]) -> VolumePredictor:
    """A predictor whose network sees the same probabilities everywhere."""
    recipe = bundle.recipe

    def forward(patches: NDArray[np.float32]) -> NDArray[np.float32]:
        shape = (len(patches), recipe.outputs, *patches.shape[2:])
        return np.broadcast_to(answer[None, :, None, None, None], shape).astype(np.float32)

    return VolumePredictor(bundle, forward)


@pytest.mark.parametrize("number", [0, 1, 2])
def test_answers_lie_on_the_volumes_own_grid(predictor: VolumePredictor, number: int) -> None:
    volume = phantom(number)
    answer = predictor.predict([volume])[0]
    assert answer.labels_XYZ.shape == volume.grid.shape_XYZ
    assert answer.labels_XYZ.dtype == np.uint8
    assert tuple(map(len, answer.sureness)) == volume.grid.shape_XYZ
    assert all(((axis >= 0) & (axis <= 1)).all() for axis in answer.sureness)
    assert 0 <= answer.score <= 1


def test_how_a_file_stores_its_axes_changes_nothing(predictor: VolumePredictor) -> None:
    """The same voxels, stored the other way round, are the same volume."""
    volume = phantom(0)
    stored = np.array(volume.grid.stored_affine) @ np.diag([-1, 1, 1, 1])
    stored[:3, 3] += np.array(volume.grid.stored_affine)[:3, 0] * (volume.grid.stored_shape[0] - 1)
    other = replace(
        volume, grid=replace(volume.grid, stored_affine=tuple(map(tuple, stored.tolist())))
    )
    one, two = predictor.predict([volume, other])
    assert np.array_equal(one.labels_XYZ, two.labels_XYZ)


def test_a_network_sure_of_one_label_draws_it_everywhere(bundle: Bundle) -> None:
    bare = replace(bundle, postprocessing={})
    answer = knowing(bare, np.array([0.1, 0.1, 0.8], np.float32)).predict([phantom(1)])[0]
    assert (answer.labels_XYZ == 2).all()
    assert answer.score == pytest.approx(2 * 0.8 / 1.8, abs=1e-3)


def test_a_network_that_draws_nothing_is_as_sure_as_background_is(bundle: Bundle) -> None:
    answer = knowing(bundle, np.array([0.9, 0.07, 0.03], np.float32)).predict([phantom(1)])[0]
    assert not answer.labels_XYZ.any()
    assert answer.score == pytest.approx(0.93, abs=1e-3)
    assert all(np.allclose(axis, 0.9, atol=1e-3) for axis in answer.sureness)


def test_slices_that_the_network_doubts_have_low_sureness(bundle: Bundle) -> None:
    def forward(patches: NDArray[np.float32]) -> NDArray[np.float32]:
        odds = np.full((1, 3, *patches.shape[2:]), 0.01, dtype=np.float32)
        odds[:, 1, :, :, : patches.shape[4] // 2] = 0.98  # sure below, hardly above
        odds[:, 1, :, :, patches.shape[4] // 2 :] = 0.4
        odds[:, 0] = 1 - odds[:, 1:].sum(1)
        return odds

    along_z = VolumePredictor(bundle, forward).predict([phantom(0)])[0].sureness[2]
    assert along_z[0] > along_z[-1] + 0.2


def test_the_bundles_cleaning_is_done_to_answers(
    bundle: Bundle, predictor: VolumePredictor
) -> None:
    volume = phantom(2)
    raw, answer = predictor.uncleaned(volume), predictor.predict([volume])[0].labels_XYZ
    voxel_mm3 = math.prod(volume.grid.spacing_mm)
    expected = cleaned(raw == 1, CLEANINGS["front"], voxel_mm3)
    assert np.array_equal((answer == 1) & (raw == 1), expected)
    assert read_bundle(bundle.folder).postprocessing == CLEANINGS
    card = (bundle.folder / "docs" / "README.md").read_text()
    assert "front: the largest 1 piece(s) stay" in card
    assert "of volumes" in card


def test_volumes_of_other_channels_are_refused(predictor: VolumePredictor) -> None:
    with pytest.raises(VolumeError, match=r"2 channel\(s\), expected 1"):
        predictor.predict([phantom(0, channels=2)])


def test_values_that_are_no_numbers_do_not_spread(predictor: VolumePredictor) -> None:
    volume = phantom(0)
    volume.voxels_CXYZ[0, 3, 3, 3] = np.nan
    assert np.isfinite(predictor.predict([volume])[0].score)


def test_several_threads_get_the_answers_that_one_gets(predictor: VolumePredictor) -> None:
    volumes = [phantom(number) for number in range(4)]
    expected = [one.labels_XYZ for one in predictor.predict(volumes)]
    found: dict[int, NDArray[np.uint8]] = {}

    def work(number: int) -> None:
        found[number] = predictor.predict([volumes[number]])[0].labels_XYZ

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(np.array_equal(found[number], expected[number]) for number in range(4))


def test_torch_answers_like_openvino(bundle: Bundle, predictor: VolumePredictor) -> None:
    other = load_predictor(bundle.folder, runtime="torch")
    assert isinstance(other, VolumePredictor)
    volume = phantom(1)
    ours, theirs = (one.predict([volume])[0].labels_XYZ for one in (predictor, other))
    assert np.mean(ours == theirs) > 0.999


def test_a_model_for_volumes_takes_no_pictures_and_the_other_way_round(
    bundle: Bundle, mask_bundle: Bundle
) -> None:
    with pytest.raises(BundleError, match="made for volumes, expected pictures"):
        Predictor(bundle, lambda images: images)
    with pytest.raises(BundleError, match="made for pictures, expected volumes"):
        VolumePredictor(mask_bundle, lambda images: images)


@pytest.mark.slow
def test_serving_volumes_needs_neither_torch_nor_monai(bundle: Bundle) -> None:
    script = f"""
import sys
from pathlib import Path
from imaging.model.predict import load_predictor
load_predictor(Path({str(bundle.folder)!r}), threads=1).warm_up()
heavy = {{"torch", "monai", "pandas"}} & set(sys.modules)
assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-W", "error", "-c", script], check=True)


@pytest.mark.parametrize("modality", ["MR", "CT"])
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.filterwarnings("ignore:parsing config_file:UserWarning")  # ours, and trusted
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # in MONAI
@pytest.mark.slow
def test_plain_monai_answers_like_the_predictor(
    tmp_path: Path, modality: str, channels: int
) -> None:
    recipe = tiny_volume_recipe(modality, channels)
    made = untrained_volume_bundle(tmp_path / "model-1", recipe, {"front": Cleaning(pieces=1)})
    volumes = {f"{number}": phantom(number, channels) for number in range(3)}
    (tmp_path / "images").mkdir()
    for name, volume in volumes.items():
        for channel, image_XYZ in enumerate(volume.voxels_CXYZ):
            ending = f"_{channel:04d}" if channels > 1 else ""
            write_nifti(tmp_path / "images" / f"{name}{ending}.nii.gz", image_XYZ, volume.grid)
    run_bundle(
        run_id="run",
        init_id="initialize",
        config_file=str(made.folder / "configs" / "inference.json"),
        bundle_root=str(made.folder),
        dataset_dir=str(tmp_path / "images"),
        output_dir=str(tmp_path / "out"),
    )
    torch.set_grad_enabled(True)  # the bundle switches gradients off for the whole process
    answers = load_predictor(made.folder).predict(list(volumes.values()))
    for (name, volume), answer in zip(volumes.items(), answers, strict=True):
        ending = "_0000" if channels > 1 else ""
        path = tmp_path / "out" / f"{name}{ending}_labels.nii.gz"
        found = read_nifti(path)
        assert found.grid.is_same(volume.grid)
        assert nibabel.load(path).shape == volume.grid.stored_shape
        assert np.mean(found.voxels_CXYZ[0] == answer.labels_XYZ) > 0.999


def test_the_network_is_asked_about_what_the_recipe_says(bundle: Bundle) -> None:
    seen: list[tuple[int, ...]] = []

    def forward(patches: NDArray[np.float32]) -> NDArray[np.float32]:
        seen.append(patches.shape)
        return np.full((1, 3, *patches.shape[2:]), 1 / 3, dtype=np.float32)

    VolumePredictor(bundle, forward).predict([phantom(0)])
    assert set(seen) == {(1, 1, 16, 16, 16)}


def test_the_likeliest_label_is_the_first_of_equals() -> None:
    values = np.random.default_rng(0).integers(0, 3, (5, 4, 4, 4)).astype(np.float32)
    assert np.array_equal(likeliest(values), values.argmax(0))
