"""Two untrained bundles for all tests of this folder; exporting one takes a second."""

import pytest

from imaging.model.bundle import Bundle
from tests.imaging.model.models import untrained_bundle
from tests.phantoms import class_config, mask_config


@pytest.fixture(scope="session")
def mask_bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return untrained_bundle(tmp_path_factory.mktemp("masks") / "model-1", mask_config())


@pytest.fixture(scope="session")
def class_bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return untrained_bundle(tmp_path_factory.mktemp("classes") / "model-1", class_config())
