"""Label Studio's own codec as the reference, and what the tests here share."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import settings

from imaging.labels import LabelScheme, label_scheme

# A machine that is busy with something else makes single examples slow, not wrong.
settings.register_profile("labloop", deadline=None)
settings.load_profile("labloop")


@pytest.fixture(scope="session")
def sdk_brush() -> ModuleType:
    """`label_studio_sdk.converter.brush`, loaded alone: its package imports pandas and OpenCV."""
    package = importlib.util.find_spec("label_studio_sdk")
    assert package is not None and package.origin is not None
    path = Path(package.origin).parent / "converter" / "brush.py"
    spec = importlib.util.spec_from_file_location("sdk_brush", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def scheme() -> LabelScheme:
    return label_scheme(["kidney", "tumour", "cyst"])
