"""Proof that no test volume trained: a leak is found whatever dress it wears."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from imaging.dataset.cases import CASE_RECORD, load_case
from imaging.errors import SubmissionError
from imaging.export.leak import fingerprint, prove
from imaging.model.bundle import Bundle
from imaging.publish import MANIFEST, manifest_files, sha256_of, write_json
from imaging.volume import Volume, grid_of
from tests.imaging.export.lab import TASK, Lab, make_lab, volume_of
from tests.imaging.model.models import record_of
from tests.phantoms import mask_config


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return make_lab(tmp_path / "nas")


def bundle_of(lab: Lab, **changes: Any) -> Bundle:
    """What a bundle says that was trained on the lab's snapshot."""
    cases = {
        split: tuple(one.case for one in lab.snapshot.cases if one.split == split)
        for split in ("train", "validation", "test")
    }
    fields: dict[str, Any] = {
        "version": "model-1",
        "task": TASK,
        "training": {},
        "run": "run-1",
        "snapshot": lab.snapshot.id,
        "cases": cases,
        "folder": lab.snapshot.folder,  # any folder with a manifest
        "known_cases": frozenset(cases["train"]) | frozenset(cases["validation"]),
    }
    return cast(Bundle, SimpleNamespace(**fields | changes))


def leaks(lab: Lab, volume: Volume, bundle: Bundle | None = None) -> tuple[str, ...]:
    bundle = bundle or bundle_of(lab)
    return prove(lab.nas, bundle, [fingerprint("amos_0008", [volume])]).leaks


def test_a_new_volume_is_no_leak_and_the_proof_says_what_was_compared(lab: Lab) -> None:
    bundle = bundle_of(lab)
    proof = prove(lab.nas, bundle, [fingerprint("amos_0008", [volume_of(77)])])
    (record,) = proof.to_json()["lineage"]
    assert proof.leaks == () and proof.notes == ()
    assert record["trained_on"] == sorted(bundle.cases["train"])
    assert record["snapshot_sha256"] == sha256_of(lab.snapshot.folder / "manifest.json")


def test_a_volume_that_was_held_out_is_no_leak(lab: Lab) -> None:
    assert leaks(lab, volume_of(3)) == ()


@pytest.mark.parametrize(("number", "words"), [(0, "trained"), (2, "chose the weights of")])
def test_a_volume_that_trained_or_chose_is_a_leak(lab: Lab, number: int, words: str) -> None:
    (found,) = leaks(lab, volume_of(number))
    assert "amos_0008" in found and words in found


def test_a_copy_of_another_type_or_place_is_a_leak(lab: Lab) -> None:
    volume = volume_of(0)
    moved = grid_of(volume.grid.stored_shape, np.array(volume.grid.stored_affine) + 0)
    floats = Volume(volume.voxels_CXYZ.astype(np.float32), moved)
    away = np.array(volume.grid.stored_affine)
    away[0, 3] += 50
    elsewhere = Volume(volume.voxels_CXYZ, grid_of(volume.grid.stored_shape, away))
    for copy in (floats, elsewhere):
        (found,) = leaks(lab, copy)
        assert "has the values of" in found


def test_a_case_from_the_test_folder_that_trained_is_a_leak(lab: Lab) -> None:
    folder = lab.snapshot.of("train")[0].image.parent
    record = load_case(folder)
    source = replace(record.source, path="imagesTs/amos_0500.nii.gz")
    write_json(folder / CASE_RECORD, replace(record, source=source).to_json())
    (found,) = leaks(lab, volume_of(77))
    assert "taken in from imagesTs/" in found


def test_a_case_that_is_gone_is_compared_by_name_and_noted(lab: Lab) -> None:
    (lab.snapshot.of("train")[0].image.parent / CASE_RECORD).unlink()
    proof = prove(lab.nas, bundle_of(lab), [fingerprint("amos_0008", [volume_of(77)])])
    assert proof.leaks == () and "by name alone" in proof.notes[0]


def test_a_snapshot_that_is_gone_is_noted(lab: Lab) -> None:
    proof = prove(lab.nas, bundle_of(lab, snapshot="snap-gone"), [])
    assert proof.lineage[0].snapshot_sha256 is None and "snap-gone is gone" in proof.notes[0]


def test_a_bundle_that_hides_a_case_is_refused(lab: Lab) -> None:
    cases = {"train": (), "validation": (), "test": ()}
    with pytest.raises(SubmissionError, match="disagree"):
        prove(lab.nas, bundle_of(lab, cases=cases, known_cases=frozenset()), [])


def test_what_an_earlier_champion_saw_counts_when_training_began_with_it(lab: Lab) -> None:
    held_out = lab.snapshot.of("test")[0].case
    add_version(lab, "model-0", train=[held_out])
    cold, warm = bundle_of(lab), bundle_of(lab, training={"start_from": "model-0"})
    assert leaks(lab, volume_of(3), cold) == ()
    (found,) = leaks(lab, volume_of(3), warm)
    assert found.endswith(f"is {held_out}, which trained model-0")
    lineage = prove(lab.nas, warm, []).to_json()["lineage"]
    assert [one["version"] for one in lineage] == ["model-1", "model-0"]


def test_a_start_that_is_gone_proves_nothing(lab: Lab) -> None:
    warm = bundle_of(lab, training={"start_from": "model-0"})
    with pytest.raises(SubmissionError, match="nobody can say what those were trained on"):
        prove(lab.nas, warm, [])


def add_version(lab: Lab, version: str, train: list[str]) -> None:
    """A bundle on the share that says what it was trained on; its files are as small as may be."""
    config = mask_config()
    cases = {"train": tuple(train), "validation": (), "test": ()}
    folder = lab.nas.model(TASK).version(version)
    record = replace(record_of(folder, config), task=TASK, snapshot="snap-gone", cases=cases)
    write_json(folder / "labloop.json", record.to_json())
    write_json(folder / MANIFEST, {"format": 1, "files": manifest_files(folder)})
