"""Whatever volumes are dropped, each ends in rejected/ or quarantine, and the loop goes on."""

from pathlib import Path

import pytest

from services.ingest.reasons import REASONS
from tests.imaging.io.hostile_volumes import hostile_volumes
from tests.services.ingest.conftest import Lab
from tests.services.ingest.test_dicom import drop_series
from tests.services.ingest.volumes import volume

CONFIG = "kind: segmentation\nmodality: CT\nlabels: [liver]\n"


@pytest.mark.slow
def test_each_of_them_is_refused_while_good_volumes_beside_them_are_taken(lab: Lab) -> None:
    lab.configure(CONFIG)
    made = hostile_volumes(lab.task.rawdata)
    lab.drop("good.nii.gz", volume(1))
    drop_series(lab, "good", 500)
    lab.settle(90)
    assert len(made) >= 30
    left = {path.split("/")[0] for path in lab.left()}
    assert left == {"good.nii.gz", "good"}
    assert len(lab.cases()) == len(lab.label_studio.cases()) == 2
    assert set(lab.refusals()) == {reason for _, reason in made}
    assert not list(lab.task.cases.glob(".staging/*"))
    assert lab.pulse.trouble == ""


def test_every_reason_says_what_was_expected(tmp_path: Path) -> None:
    assert {reason for _, reason in hostile_volumes(tmp_path)} <= set(REASONS)
