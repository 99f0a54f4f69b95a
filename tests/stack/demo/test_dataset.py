"""The demo's sets: who counts as one patient, and what is left for the annotator to draw."""

import os
from pathlib import Path

import pytest

from stack.demo.dataset import hippocampus_set, neighbours

DATA = Path(os.environ.get("LABLOOP_DATA", Path(__file__).parents[4] / "shared" / "data"))


def test_neighbouring_numbers_count_as_one_patient() -> None:
    files = ["h_001.nii.gz", "h_003.nii.gz", "h_004.nii.gz", "h_006.nii.gz", "h_007.nii.gz"]
    patients = neighbours(files)
    assert patients["h_003.nii.gz"] == patients["h_004.nii.gz"] != patients["h_001.nii.gz"]
    assert patients["h_006.nii.gz"] == patients["h_007.nii.gz"] != patients["h_004.nii.gz"]


def test_what_the_annotator_draws_is_spread_over_the_hippocampus_set() -> None:
    if not (DATA / "hippocampus_mr").is_dir():
        pytest.skip(f"there is no {DATA / 'hippocampus_mr'}: LABLOOP_DATA names the sets' folder")
    made = hippocampus_set(DATA, drawn=20)
    drawn = [item for item in made.items if item.write_label is None]
    assert (len(made.items), len(drawn), made.given) == (150, 20, 130)
    assert len({item.patient for item in drawn}) > 10
