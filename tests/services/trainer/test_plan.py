from dataclasses import replace
from pathlib import Path

import pytest

from imaging.dataset.snapshot import Snapshot
from imaging.model.bundle import describe_model
from services.trainer.plan import obstacle
from tests.imaging.model.volume_models import tiny_volume_recipe
from tests.volume_phantoms import volume_snapshot

RECIPE = tiny_volume_recipe()


@pytest.fixture
def snapshot(tmp_path: Path) -> Snapshot:
    return volume_snapshot(tmp_path, 4)


def test_a_champion_of_nearly_the_same_spacing_is_a_start(
    tmp_path: Path, snapshot: Snapshot
) -> None:
    served = describe_model(tmp_path, "run-1", RECIPE, snapshot, {})
    assert not obstacle(replace(RECIPE, spacing_Z=RECIPE.spacing_Z * 1.1), served, snapshot)
    assert not obstacle(replace(RECIPE, mean=(3.0,)), served, snapshot)


@pytest.mark.parametrize(
    ("numbers", "reason"),
    [
        ({"spacing_Z": 9.0}, "spacing"),
        ({"stem_stride": 1}, "stem_stride"),
        ({"widths": (8, 16)}, "widths"),
    ],
)
def test_another_network_or_spacing_is_none(
    tmp_path: Path, snapshot: Snapshot, numbers: dict[str, object], reason: str
) -> None:
    served = describe_model(tmp_path, "run-1", RECIPE, snapshot, {})
    assert reason in obstacle(replace(RECIPE, **numbers), served, snapshot)  # type: ignore[arg-type]
