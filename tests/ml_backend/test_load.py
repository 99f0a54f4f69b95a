"""A real bundle for volumes, loaded as the service loads it and asked through the lanes."""

from pathlib import Path

import numpy as np
import pytest
import torch

from imaging.ids import utc_now
from imaging.labels import label_scheme
from imaging.labelstudio.stack import items_of, label_volume_from_results
from imaging.layout import Nas
from imaging.model.bundle import Bundle, write_bundle
from imaging.model.network import build_network
from imaging.recipes.plan import plan_volume_recipe
from imaging.recipes.volume_facts import ChannelFacts, VolumeSetFacts
from imaging.task import RecipeChoice, TaskConfig
from ml_backend.answers import entry
from ml_backend.lanes import Lanes, Rank, Work
from ml_backend.load import Loader
from ml_backend.pictures import Pictures
from tests.imaging.dataset.volume_lab import SIDES, volume_record
from tests.ml_backend.fakes import TASK, add_volume

SMALL = {"patch_X": 16, "patch_Y": 16, "patch_Z": 16, "widths": "4 8", "stem_stride": 1}
CONFIG = TaskConfig(
    kind="segmentation",
    scheme=label_scheme(["lv", "myo"]),
    modality="CT",
    recipe=RecipeChoice("auto", 2.0, SMALL),
)


def untrained(folder: Path) -> Bundle:
    channel = ChannelFacts(-100.0, 300.0, 50.0, 80.0)
    spacing_mm, extent_mm = (0.9, 0.9, 3.0), (16.0, 16.0, 48.0)
    facts = VolumeSetFacts(10, spacing_mm, spacing_mm, (extent_mm,), (channel,), is_cut_out=False)
    recipe = plan_volume_recipe(CONFIG, facts)
    torch.manual_seed(0)
    bundle = Bundle(
        folder=folder,
        version=folder.name,
        task=TASK,
        run="run-1",
        snapshot="snap-1",
        scheme=CONFIG.scheme,
        multi_label=False,
        recipe=recipe,
        cases={"train": ("case-1",), "validation": ("case-2",), "test": ("case-3",)},
        patients={"train": ("p-1",), "validation": ("p-2",), "test": ("p-3",)},
        created_at=utc_now(),
        training={"seconds": 1.5},
    )
    return write_bundle(bundle, dict(build_network(recipe).state_dict()))


@pytest.mark.slow
def test_a_bundle_for_volumes_answers_on_the_slices_of_a_task(tmp_path: Path) -> None:
    nas = Nas(tmp_path)
    untrained(nas.model(TASK).version("model-20260314T093102Z-41ac"))
    predictor = Loader(2)(nas.model(TASK).version("model-20260314T093102Z-41ac"))
    assert predictor.takes_volumes
    data = add_volume(nas, "case-1", tuple(range(SIDES[2])))
    pictures, lanes = Pictures(nas), Lanes(threads=2)
    lanes.start()
    try:
        work = Work(Rank.OPEN, predictor, lambda: pictures.load(TASK, data), entry)
        answer = lanes.submit(work).result(60)
    finally:
        lanes.stop()
    assert answer["model_version"] == predictor.version and 0 <= answer["score"] <= 1
    volume = volume_record().volume
    assert volume is not None
    drawn_XYZ = label_volume_from_results(
        answer["result"], CONFIG.scheme, volume.plane, items_of(data)
    )
    loaded = pictures.load(TASK, data)
    (prediction,) = predictor.predict([loaded.image])  # type: ignore[list-item]
    assert np.array_equal(drawn_XYZ, prediction.labels_XYZ)  # type: ignore[union-attr]
    assert [len(one) for one in prediction.sureness] == list(SIDES)  # type: ignore[union-attr]
