"""A series is quarantined once, whole or not at all, and decided once."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from imaging.dataset.quarantine import (
    QuarantineEntry,
    decide,
    decision_for,
    find,
    quarantine,
    quarantined,
    series_key,
)
from imaging.deid.reader import Box
from imaging.errors import QuarantineError, RecordError
from imaging.layout import TaskFolder

PICTURE = np.zeros((8, 6, 3), dtype=np.uint8)
KEY = series_key(["aa", "bb"])


@pytest.fixture
def task(tmp_path: Path) -> TaskFolder:
    return TaskFolder(tmp_path / "Task001_head")


def entry(key: str = KEY, boxes: bool = True) -> QuarantineEntry:
    where = {3: (Box(1, 2, 3, 4), Box(5, 6, 7, 8))} if boxes else {}
    return QuarantineEntry(key, ("a/1.dcm", "a/2.dcm"), "text was read on 1 of 2 slices", where)


def test_what_was_seen_comes_back_as_it_was(task: TaskFolder) -> None:
    name = quarantine(task, entry(), PICTURE)
    (found,) = quarantined(task)
    assert found.id == name == f"q-{KEY[:16]}" and found.decision is None
    assert found.entry.files == entry().files and found.entry.boxes == entry().boxes
    with Image.open(found.picture) as picture:
        assert picture.size == (6, 8)
    assert found == find(task, KEY) and find(task, series_key(["cc"])) is None


def test_the_same_files_are_quarantined_once(task: TaskFolder) -> None:
    first = quarantine(task, entry(), PICTURE)
    before = (task.quarantine / first / "quarantine.json").read_bytes()
    assert series_key(["bb", "aa"]) == KEY
    again = QuarantineEntry(KEY, ("copy/2.dcm", "copy/1.dcm"), "text was read on 2 of 2 slices")
    assert quarantine(task, again, PICTURE) == first
    assert (task.quarantine / first / "quarantine.json").read_bytes() == before
    assert len(quarantined(task)) == 1


@pytest.mark.parametrize("decision", ["release", "redact", "reject"])
def test_a_decision_is_written_and_read_by_key(task: TaskFolder, decision: str) -> None:
    name = quarantine(task, entry(), PICTURE)
    assert decision_for(task, KEY) is None
    made = decide(task, name, decision, "anna")  # type: ignore[arg-type]  # the three words
    assert decision_for(task, KEY) == made.decision == decision
    written = json.loads((task.quarantine / name / "decision.json").read_bytes())
    assert written["by"] == made.by == "anna" and written["at"].endswith("Z")


def test_a_decision_is_taken_once(task: TaskFolder) -> None:
    name = quarantine(task, entry(), PICTURE)
    decide(task, name, "release", "anna")
    with pytest.raises(QuarantineError, match="decided already: release by anna"):
        decide(task, name, "reject", "ben")
    assert decision_for(task, KEY) == "release"


def test_what_is_not_there_cannot_be_decided(task: TaskFolder) -> None:
    with pytest.raises(QuarantineError, match="has no q-0123"):
        decide(task, "q-0123", "release", "anna")
    assert decision_for(task, KEY) is None and quarantined(task) == []


def test_without_places_there_is_nothing_to_redact(task: TaskFolder) -> None:
    name = quarantine(task, entry(boxes=False), PICTURE)
    with pytest.raises(QuarantineError, match="no places to blank"):
        decide(task, name, "redact", "anna")
    assert decision_for(task, KEY) is None


def test_nothing_is_left_of_a_quarantine_that_failed(task: TaskFolder) -> None:
    with pytest.raises((TypeError, ValueError)):
        quarantine(task, entry(), np.zeros((0, 0, 7), dtype=np.uint8))
    assert quarantined(task) == [] and not list(task.quarantine.glob("q-*"))


def test_deciding_needs_neither_dicom_nor_a_reader() -> None:
    """`labloop` runs where neither is installed."""
    code = "import sys, imaging.dataset.quarantine; print({'pydicom', 'rapidocr'} & {*sys.modules})"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "set()"


def test_a_record_that_was_spoilt_is_said_so(task: TaskFolder) -> None:
    name = quarantine(task, entry(), PICTURE)
    (task.quarantine / name / "decision.json").write_text('{"decision": "maybe"}')
    with pytest.raises(RecordError, match="expected one of release, redact, reject"):
        decision_for(task, KEY)
