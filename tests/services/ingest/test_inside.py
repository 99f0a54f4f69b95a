"""Nothing behind a symbolic link is read or moved, however the link came there."""

import shutil
from pathlib import Path

import pytest

from imaging.io.picture import LIMITS
from services.ingest.errors import RefusedError
from services.ingest.reject import reject
from services.ingest.take import read_inside
from tests.services.ingest.conftest import Lab

HEART = "kind: segmentation\nlabels: [lv]\n"
CASE = "case-0123456789abcdef"


def landed(lab: Lab) -> Path:
    """An annotation that must never leave its place."""
    path = lab.task.case_annotations(CASE) / "5-7.json"
    path.parent.mkdir(parents=True)
    path.write_text('{"precious": 1}')
    return path


def test_a_folder_swapped_for_a_link_while_it_settles_moves_nothing_behind_it(lab: Lab) -> None:
    lab.configure(HEART)
    annotation = landed(lab)
    batch = lab.task.rawdata / "batch"
    batch.mkdir()
    shutil.copy2(annotation, batch)  # the same size and time, so it looks like the file seen first
    lab.round()
    lab.now_s += 3.0  # the link will settle later than the file, and so is met later
    shutil.rmtree(batch)
    batch.symlink_to(annotation.parent)
    lab.round()
    lab.round(2.0)
    lab.settle()
    assert annotation.read_text() == '{"precious": 1}'
    assert list(lab.refusals()) == ["symlink"]
    assert [path.name for path in lab.task.rejected.glob("rej-*/*") if path.is_symlink()] == [
        "batch"
    ]


def test_a_folder_that_was_moved_and_linked_back_keeps_its_files(lab: Lab) -> None:
    lab.configure(HEART)
    lab.drop_picture("batch/a.png", seed=1)
    lab.round()
    lab.now_s += 3.0
    archive = lab.nas.root / "archive"
    (lab.task.rawdata / "batch").rename(archive)
    (lab.task.rawdata / "batch").symlink_to(archive)
    lab.round()
    lab.round(2.0)
    lab.settle()
    assert [path.name for path in archive.iterdir()] == ["a.png"]


def test_a_refusal_moves_nothing_from_behind_a_link(lab: Lab) -> None:
    annotation = landed(lab)
    (lab.task.rawdata / "batch").symlink_to(annotation.parent)
    refusal = RefusedError("broken", "a file that only seemed to be in rawdata")
    assert reject(lab.task, lab.task.rawdata, "batch/5-7.json", refusal) is None
    assert annotation.is_file()
    assert not lab.task.rejected.exists()


def test_a_file_behind_a_link_is_not_read(lab: Lab) -> None:
    (lab.task.rawdata / "batch").symlink_to(landed(lab).parent)
    with pytest.raises(RefusedError) as refused:
        read_inside(lab.task, "batch/5-7.json", LIMITS)
    assert refused.value.reason == "symlink"


def test_rawdata_itself_may_be_a_link(lab: Lab) -> None:
    lab.configure(HEART)
    elsewhere = lab.nas.root / "elsewhere"
    lab.task.rawdata.rename(elsewhere)
    lab.task.rawdata.symlink_to(elsewhere)
    lab.drop_picture("batch/a.png", seed=1)
    lab.drop("batch/b.png", b"no picture")
    lab.settle()
    assert list(lab.cases()) == ["batch/a.png"]
    assert list(lab.refusals()) == ["not-an-image"]
