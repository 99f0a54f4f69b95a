"""A person's decision about real slices with a name on one of them."""

import shutil

import numpy as np
import pytest

from imaging.dataset.quarantine import decide, quarantined
from imaging.deid.burned_in import find_burned_in
from imaging.io.nifti import read_nifti
from tests.phi import SERIES, require
from tests.services.ingest.conftest import Lab


@pytest.mark.slow
def test_redaction_blanks_the_name_and_nothing_else(lab: Lab) -> None:
    """The slice with the name has another matrix, so its boxes move to the volume's grid."""
    require(SERIES)
    lab.find_text = find_burned_in
    shutil.copytree(SERIES, lab.task.rawdata / "series")
    lab.settle(90)
    (waits,) = quarantined(lab.task)
    assert waits.entry.reason.endswith("text was read on 1 of 12 slices") and not lab.cases()
    assert list(waits.entry.boxes) == [2]
    decide(lab.task, waits.id, "redact", "anna")
    lab.settle(90)
    (case,) = lab.cases().values()
    volume = read_nifti(lab.task.case(case.case) / case.image)
    values_XYZ = volume.voxels_CXYZ[0]
    blank_XYZ = values_XYZ == values_XYZ.min()
    slices = sorted(range(12), key=lambda z: int(blank_XYZ[:, :, z].sum()))
    assert slices[-1] == 2 and blank_XYZ[:, :, 2].sum() > 1000
    assert all(blank_XYZ[:, :, z].sum() < 20 for z in slices[:-1])
    high = np.percentile(values_XYZ, 99.5)
    seen = np.clip(values_XYZ / high * 255, 0, 255).astype(np.uint8)
    upright = [np.flip(seen[:, :, z].T) for z in range(12)]
    assert find_burned_in([], upright) is None
