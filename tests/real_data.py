"""Where the openly licensed sets lie that tests may use; a test skips where they are absent."""

import os
from pathlib import Path

import pytest

DATA = Path(os.environ.get("LABLOOP_DATA", Path(__file__).parents[2] / "shared" / "data"))


def data_folder(name: str) -> Path:
    """The folder of a set, or one in it."""
    folder = DATA / name
    if not folder.exists():
        pytest.skip(f"{name} is not under LABLOOP_DATA")
    return folder
