import errno
from pathlib import Path

import pytest

from imaging.model.export import export_weights
from tests.imaging.model.models import random_weights, tiny_recipe
from tests.phantoms import mask_config

FULL = Path("/dev/full")  # every write to it says that there is no room


@pytest.mark.parametrize("name", ["model.pt", "model.xml", "model.bin"])
def test_a_full_disk_is_told_as_such(tmp_path: Path, name: str) -> None:
    (tmp_path / name).symlink_to(FULL)
    config = mask_config()
    with pytest.raises(OSError) as caught:
        export_weights(
            tiny_recipe(config),
            random_weights(config),
            tmp_path / "model.pt",
            tmp_path / "model.xml",
        )
    assert caught.value.errno == errno.ENOSPC
