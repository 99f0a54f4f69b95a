"""MONAI's data list: MONAI itself reads it, and finds every file."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from imaging.dataset.snapshot import freeze_snapshot
from imaging.export.folder import export_snapshot
from imaging.export.monai import LIST, fill_monai
from tests.imaging.dataset.lab import CLASSIFICATION, label_cases, make_task
from tests.imaging.export.lab import make_lab


def test_monai_reads_the_list_and_finds_the_files(tmp_path: Path) -> None:
    data = pytest.importorskip("monai.data")
    lab = make_lab(tmp_path / "nas", ("T1", "T2"), {"age": "61", "scanner": ""})
    export_snapshot(tmp_path / "out", lab.snapshot, "monai", fill_monai)
    found = [
        item
        for key in ("training", "testing")
        for item in data.load_decathlon_datalist(str(tmp_path / "out" / LIST), True, key)
    ]
    by_case = {case.case: case for case in lab.snapshot.cases}
    assert {item["case"] for item in found} == set(by_case)
    for item in found:
        case = by_case[item["case"]]
        assert case.labels is not None and Path(item["label"]).samefile(case.labels)
        sources = [case.image, *(one.path for one in case.more_images)]
        assert all(Path(a).samefile(b) for a, b in zip(item["image"], sources, strict=True))
        assert item["metadata"] == {"age": "61"}  # "" would be read as the list's own folder


def test_fold_0_is_our_split_and_held_out_cases_are_in_none(tmp_path: Path) -> None:
    lab = make_lab(tmp_path / "nas")
    export_snapshot(tmp_path / "out", lab.snapshot, "monai", fill_monai)
    record = json.loads((tmp_path / "out" / LIST).read_text())

    first = [item["case"] for item in record["training"] if item.get("fold") == 0]
    assert first == [case.case for case in lab.snapshot.of("validation")]
    assert [one["case"] for one in record["testing"]] == [
        case.case for case in lab.snapshot.of("test")
    ]
    assert record["labels"] == {"0": "background", "1": "liver", "2": "left kidney"}
    assert "validation" not in record


@pytest.mark.parametrize("several", [False, True])
def test_classes_are_numbers_or_rows(tmp_path: Path, several: bool) -> None:
    task = make_task(tmp_path)
    label_cases(task, range(6), kind="classification")
    frozen = freeze_snapshot(task, replace(CLASSIFICATION, multi_label=several))
    export_snapshot(tmp_path / "out", frozen, "monai", fill_monai)
    record = json.loads((tmp_path / "out" / LIST).read_text())

    numbers = {"normal": [1, 0] if several else 0, "pneumonia": [0, 1] if several else 1}
    expected = {case.case: numbers[(case.classes or ("",))[0]] for case in frozen.cases}
    found = {item["case"]: item["label"] for item in (*record["training"], *record["testing"])}
    assert found == expected
