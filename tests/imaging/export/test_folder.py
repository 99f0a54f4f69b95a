"""The frame of every export: whole or not at all, true to its snapshot, nothing overwritten."""

import csv
import json
from pathlib import Path

import pytest

from imaging.errors import ExportError
from imaging.export.folder import Export, check_target, export_snapshot
from imaging.export.nnunet import fill_nnunet
from imaging.publish import sha256_of, verify_folder
from tests.imaging.export.lab import make_lab


def test_the_manifest_names_the_snapshot_and_the_hash_of_every_file(tmp_path: Path) -> None:
    lab = make_lab(tmp_path / "nas")
    export_snapshot(tmp_path / "out", lab.snapshot, "nnunet", fill_nnunet)
    record = verify_folder(tmp_path / "out")

    assert (record["snapshot"], record["export"]) == (lab.snapshot.id, "nnunet")
    assert record["snapshot_sha256"] == sha256_of(lab.snapshot.folder / "manifest.json")


def test_the_columns_of_the_lab_travel_along(tmp_path: Path) -> None:
    lab = make_lab(tmp_path / "nas", metadata={"age": "61", "split": "A"})
    export_snapshot(tmp_path / "out", lab.snapshot, "nnunet", fill_nnunet)
    with (tmp_path / "out" / "cases.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))

    assert {row["age"] for row in rows} == {"61"} and {row["split_given"] for row in rows} == {"A"}
    frozen = [(case.case, case.patient, case.split) for case in lab.snapshot.cases]
    assert [(row["case"], row["patient"], row["split"]) for row in rows] == frozen
    assert rows[1]["labels"] == "liver|left kidney" and rows[1]["interpolated"] == "2"


def test_images_are_links_that_nobody_may_write_through(tmp_path: Path) -> None:
    lab = make_lab(tmp_path / "nas")
    export_snapshot(tmp_path / "out", lab.snapshot, "nnunet", fill_nnunet)
    case = lab.snapshot.cases[0]
    image = tmp_path / f"out/imagesTr/{case.case}_0000.nii.gz"
    assert image.samefile(case.image) and not image.stat().st_mode & 0o222


def test_what_has_changed_since_the_snapshot_is_refused(tmp_path: Path) -> None:
    lab = make_lab(tmp_path / "nas")
    labels = lab.snapshot.cases[0].labels
    assert labels is not None
    labels.write_bytes(b"another truth")
    with pytest.raises(ExportError, match="changed since it was frozen"):
        export_snapshot(tmp_path / "out", lab.snapshot, "nnunet", fill_nnunet)
    assert [path.name for path in tmp_path.iterdir()] == ["nas"]


def test_a_folder_that_holds_something_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.doc").write_text("three years")
    lab = make_lab(tmp_path / "nas")
    with pytest.raises(ExportError, match="not empty"):
        export_snapshot(tmp_path / "out", lab.snapshot, "nnunet", fill_nnunet)
    with pytest.raises(ExportError, match="not empty"):
        check_target(tmp_path / "out" / "thesis.doc")
    assert (tmp_path / "out" / "thesis.doc").read_text() == "three years"


def test_an_empty_folder_is_filled(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    lab = make_lab(tmp_path / "nas")
    export_snapshot(tmp_path / "out", lab.snapshot, "nnunet", fill_nnunet)
    assert json.loads((tmp_path / "out" / "dataset.json").read_text())["numTraining"] == 3
    assert {path.name for path in tmp_path.iterdir()} == {"nas", "out"}


def test_every_case_is_told(tmp_path: Path) -> None:
    lab, told = make_lab(tmp_path / "nas"), []
    export_snapshot(
        tmp_path / "out", lab.snapshot, "x", fill_nnunet, lambda done, of: told.append((done, of))
    )
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_an_image_that_is_gone_is_named(tmp_path: Path) -> None:
    export = Export(tmp_path, make_lab(tmp_path / "nas").snapshot)
    with pytest.raises(ExportError, match="No such file"):
        export.link("a.png", tmp_path / "gone.png", None)
