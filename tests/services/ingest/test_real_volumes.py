"""Real sets through ingest: what comes out of the scanner, and what a challenge hands out."""

import shutil

import numpy as np
import pytest

from imaging.dataset.annotations import current_answers
from imaging.dataset.base import read_base
from imaging.dataset.quarantine import quarantined
from imaging.deid.burned_in import find_burned_in
from imaging.io.nifti import read_nifti
from imaging.task import load_task
from tests.phi import SERIES, assert_nothing_planted, planted_in, require
from tests.real_data import DATA
from tests.services.ingest.conftest import Lab

HIPPOCAMPUS, BRAINS = DATA / "hippocampus_mr", DATA / "mr_brain_t1_t2_dicom"


def test_hippocampus_pairs_become_labelled_cases(lab: Lab) -> None:
    require(HIPPOCAMPUS)
    for image in sorted((HIPPOCAMPUS / "images").iterdir())[:4]:
        for source, folder in (("images", "imagesTr"), ("labels", "labelsTr")):
            target = lab.task.rawdata / folder / image.name
            target.parent.mkdir(exist_ok=True)
            shutil.copyfile(HIPPOCAMPUS / source / image.name, target)
    lab.settle(30)
    config = load_task(lab.task.config)
    assert (config.modality, len(config.scheme.labels)) == ("MR", 2)
    assert len(lab.cases()) == 4 and not lab.refusals()
    for path, case in lab.cases().items():
        (answer,) = current_answers(lab.task, case.case)
        landed_XYZ = read_base(lab.task, answer, case, config.scheme)
        dropped = read_nifti(lab.task.rawdata / path.replace("images", "labels"))
        assert np.array_equal(landed_XYZ, dropped.voxels_CXYZ[0])


def test_three_series_of_two_patients_become_six_cases(lab: Lab) -> None:
    require(BRAINS)
    for patient in ("patient07", "patient19"):
        shutil.copytree(BRAINS / patient, lab.task.rawdata / patient)
    lab.settle(40)
    assert load_task(lab.task.config).modality == "MR"
    cases = list(lab.cases().values())
    assert len(cases) == 6 and not lab.refusals()
    assert len({case.patient for case in cases}) == 2
    assert len(lab.label_studio.cases()) == 6
    shapes = {read_nifti(lab.task.case(one.case) / one.image).grid.stored_shape for one in cases}
    assert shapes == {(182, 218, 26)}


def test_three_series_of_a_patient_become_one_case_by_case_list(lab: Lab) -> None:
    require(BRAINS)
    shutil.copytree(BRAINS / "patient07", lab.task.rawdata / "patient07")
    lines = ["file,case,channel"] + [f"patient07/{one},p7,{one}" for one in ("T1", "T2", "FLAIR")]
    lab.drop("cases.csv", "\n".join(lines).encode())
    lab.settle(40)
    assert load_task(lab.task.config).volume.channels == ("T1", "T2", "FLAIR")
    (case,) = lab.cases().values()
    assert case.channels == 3 and case.volume is not None
    assert case.volume.channels == ("T1", "T2", "FLAIR")


@pytest.mark.slow
def test_planted_identities_are_nowhere_and_burned_in_text_waits(
    lab: Lab, caplog: pytest.LogCaptureFixture
) -> None:
    require(SERIES)
    caplog.set_level("DEBUG")
    lab.find_text = find_burned_in
    shutil.copytree(SERIES, lab.task.rawdata / "series")
    lab.settle(90)
    assert quarantined(lab.task)
    assert_nothing_planted(lab.nas.root, beside=[lab.task.rawdata, lab.task.rejected])
    assert not planted_in(caplog.text.encode())
    for reason in lab.task.rejected.glob("*/reason.txt"):
        assert not planted_in(reason.read_bytes())
