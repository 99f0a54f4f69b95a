"""One untrained bundle for all verbs that read models; exporting one takes a second."""

import pytest

from imaging.model.bundle import Bundle
from tests.imaging.model.models import untrained_bundle
from tests.phantoms import mask_config


@pytest.fixture(scope="session")
def mask_bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return untrained_bundle(tmp_path_factory.mktemp("masks") / "model-1", mask_config())
