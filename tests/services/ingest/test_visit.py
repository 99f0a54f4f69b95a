"""What becomes of what people drop, seen from outside."""

import errno
import json
import os
import unicodedata
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

from imaging.dataset.annotations import AnnotationRecord, current_answers, land
from imaging.io.mask import PixelArray
from imaging.io.picture import read_picture
from imaging.labels import label_scheme
from imaging.labelstudio.results import classes_from_results, label_map_from_results
from imaging.publish import verify_folder
from imaging.task import load_task
from services.ingest import attempt, take, visit
from tests.services.ingest.conftest import QUIET_S, TASK, Lab, file_bytes, picture

CLASSES = "kind: classification\nlabels: [normal, pneumonia]\n"
HEART = "kind: segmentation\nlabels: [lv]\n"


def square(value: int = 255, shape: tuple[int, int] = (24, 32)) -> PixelArray:
    mask_HW = np.zeros(shape, dtype=np.uint8)
    mask_HW[5:11, 7:20] = value
    return mask_HW


# --- pictures ------------------------------------------------------------------------------------


def test_a_dropped_picture_becomes_a_case_and_a_task(lab: Lab) -> None:
    lab.drop_picture("la_003_0000.png", seed=1)
    lab.settle()
    case = lab.cases()["la_003_0000.png"]
    assert lab.label_studio.cases() == [case.case]
    assert lab.label_studio.task_of(case.case)["data"]["image"].endswith(f"{case.case}/image.png")
    assert verify_folder(lab.task.case(case.case))["case"] == case.case
    assert np.array_equal(read_picture(lab.task.case(case.case) / "image.png"), picture(1))
    assert lab.pulse.trouble == ""


def test_a_file_is_not_touched_before_it_was_quiet(lab: Lab) -> None:
    lab.configure(HEART)
    lab.drop_picture("a.png", seed=1)
    lab.round()
    lab.round(QUIET_S - 0.1)
    assert not lab.cases()
    lab.drop_picture("a.png", seed=2, shape=(40, 40))  # still being written
    lab.round(1.0)
    lab.round(QUIET_S - 0.1)
    assert not lab.cases()
    lab.round(0.2)
    assert lab.cases()["a.png"].shape_HW == (40, 40)


def test_a_stalled_copy_is_waited_for(lab: Lab) -> None:
    lab.configure(HEART)
    whole = file_bytes(picture(1))
    lab.drop("a.png", whole[: len(whole) // 2])
    lab.round()
    lab.round(QUIET_S)
    lab.round(QUIET_S)
    assert lab.left() == ["a.png"]
    lab.drop("a.png", whole)
    lab.settle()
    assert list(lab.cases()) == ["a.png"]
    assert not lab.refusals()


def test_unfinished_and_foreign_files_are_passed_over(lab: Lab) -> None:
    names = [
        "x.png.ocTransferId123.part", "~a.png", ".hidden.png", "Thumbs.db", "y.png.filepart",
        "@eaDir/z.png", "#recycle/old.png", "__MACOSX/._a.png", "README.md",
    ]  # fmt: skip
    for number, name in enumerate(names):
        lab.drop_picture(name, seed=number)
    lab.settle()
    assert not lab.cases()
    assert len(lab.left()) == len(names)
    assert not lab.task.config.exists()


def test_a_file_renamed_into_place_is_taken(lab: Lab) -> None:
    lab.configure(HEART)
    part = lab.drop_picture("a.png.part", seed=1)
    lab.settle(20)
    part.rename(lab.task.rawdata / "a.png")
    lab.settle(20)
    assert list(lab.cases()) == ["a.png"]


def test_nothing_happens_twice(lab: Lab) -> None:
    for number in range(5):
        lab.drop_picture(f"{number}.png", seed=number)
    lab.settle()
    calls = len(lab.label_studio.calls)
    for _ in range(3):
        lab.restart()
        lab.settle()
    assert len(lab.label_studio.cases()) == len(set(lab.label_studio.cases())) == 5
    assert "POST" not in " ".join(lab.label_studio.calls[calls:])


def test_a_lost_ledger_is_filled_again_without_decoding(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(5):
        lab.drop_picture(f"{number}.png", seed=number)
    lab.settle()
    lab.ledger.close()
    for path in lab.state.glob("ingest.db*"):
        path.unlink()
    monkeypatch.setattr(take, "decode_picture", lambda *_: pytest.fail("decoded again"))
    lab.start()
    lab.settle()
    assert len(lab.cases()) == len(lab.label_studio.cases()) == 5
    assert not lab.refusals()


def test_a_broken_ledger_is_replaced(lab: Lab) -> None:
    lab.drop_picture("a.png", seed=1)
    lab.settle()
    lab.ledger.close()
    for path in lab.state.glob("ingest.db*"):
        path.write_bytes(b"not a database at all" * 100)
    lab.start()
    lab.settle()
    assert len(lab.label_studio.cases()) == 1


def test_a_removed_file_leaves_its_case(lab: Lab) -> None:
    path = lab.drop_picture("a.png", seed=1)
    lab.settle()
    path.unlink()
    lab.settle(4000)
    assert list(lab.cases()) == ["a.png"]
    assert lab.ledger.count(TASK) == 0


def test_a_picture_moved_within_rawdata_stays_its_case(lab: Lab) -> None:
    path = lab.drop_picture("a.png", seed=1)
    lab.settle()
    (lab.task.rawdata / "2026").mkdir()
    path.rename(lab.task.rawdata / "2026" / "b.png")
    lab.settle()
    assert list(lab.cases()) == ["a.png"]
    assert lab.left() == ["2026/b.png"]


def test_a_second_copy_is_refused_and_names_the_first(lab: Lab) -> None:
    lab.drop_picture("a.png", seed=1)
    lab.drop("b.tif", file_bytes(picture(1), "TIFF"))
    lab.settle()
    case = lab.cases()["a.png"].case
    assert case in lab.refusals()["duplicate"]
    assert lab.left() == ["a.png"]


def test_a_file_rewritten_in_place_is_a_new_case_at_the_full_look(lab: Lab) -> None:
    lab.drop_picture("a.png", seed=1)
    lab.settle()
    lab.drop_picture("a.png", seed=2, shape=(30, 30))
    lab.settle(100)
    assert len(lab.label_studio.cases()) == 1
    lab.settle(1900)
    assert len(lab.label_studio.cases()) == 2


def test_a_sixteen_bit_picture_keeps_its_depth_and_gets_a_preview(lab: Lab) -> None:
    deep = (picture(1).astype(np.uint16) * 200) + 1000
    lab.drop("deep.png", file_bytes(deep))
    lab.settle()
    case = lab.cases()["deep.png"]
    folder = lab.task.case(case.case)
    assert (case.bits, case.preview) == (16, "preview.png")
    assert np.array_equal(read_picture(folder / "image.png"), deep)
    assert read_picture(folder / "preview.png").dtype == np.uint8
    assert lab.label_studio.task_of(case.case)["data"]["image"].endswith("preview.png")


def test_patients_are_pseudonyms_grouped_by_name(lab: Lab) -> None:
    for number, name in enumerate(("la_003_0000.png", "la_003_0001.png", "la_004_0000.png")):
        lab.drop_picture(name, seed=number)
    lab.settle()
    patients = {path: case.patient for path, case in lab.cases().items()}
    assert patients["la_003_0000.png"] == patients["la_003_0001.png"]
    assert patients["la_003_0000.png"] != patients["la_004_0000.png"]
    assert all(patient.startswith("p-") and "la" not in patient for patient in patients.values())


# --- task.yaml -----------------------------------------------------------------------------------


def test_class_folders_make_a_classification_whose_labels_are_not_work(lab: Lab) -> None:
    lab.drop_picture("normal/a.png", seed=1)
    lab.drop_picture("pneumonia/b.png", seed=2)
    lab.settle()
    config = load_task(lab.task.config)
    assert (config.kind, config.scheme.names) == ("classification", ("normal", "pneumonia"))
    case = lab.cases()["pneumonia/b.png"].case
    (answer,) = current_answers(lab.task, case)
    assert classes_from_results(answer.results, config.scheme) == ("pneumonia",)
    assert lab.label_studio.task_of(case)["total_annotations"] == 1


def test_a_guessed_task_says_that_it_was_guessed(lab: Lab) -> None:
    lab.drop_picture("a.png", seed=1)
    lab.settle()
    config = load_task(lab.task.config)
    assert (config.kind, config.scheme.names) == ("segmentation", ("heart",))
    assert lab.task.config.read_text().startswith("# Guessed by ingest")


def test_a_task_is_not_guessed_while_files_still_arrive(lab: Lab) -> None:
    for number in range(8):
        lab.drop_picture(f"{number}.png", seed=number)
        lab.round(2.0)
    assert not lab.task.config.exists()
    lab.settle()
    assert lab.task.config.exists()


def test_an_existing_task_yaml_is_never_overwritten(lab: Lab) -> None:
    lab.configure(CLASSES)
    lab.drop_picture("a.png", seed=1)
    lab.settle()
    assert lab.task.config.read_text() == CLASSES
    assert list(lab.cases()) == ["a.png"]


def test_a_bad_task_yaml_holds_its_task_only(lab: Lab) -> None:
    lab.configure("kind: telepathy\n")
    lab.drop_picture("a.png", seed=1)
    other = lab.nas.task("Task002_lung")
    other.rawdata.mkdir(parents=True)
    (other.rawdata / "b.png").write_bytes(file_bytes(picture(2)))
    lab.settle()
    assert not lab.cases()
    assert "task.yaml cannot be used" in lab.pulse.trouble and TASK in lab.pulse.trouble
    assert len(lab.label_studio.cases()) == 1
    lab.configure(HEART)
    lab.settle()
    assert list(lab.cases()) == ["a.png"]
    assert lab.pulse.trouble == ""


def test_labels_added_to_task_yaml_reach_the_project(lab: Lab) -> None:
    seen: list[tuple[str, ...]] = []
    lab.ingest.tools = tools = lab._tools()
    real = tools.ensure
    object.__setattr__(
        tools, "ensure", lambda task, config: seen.append(config.scheme.names) or real(task, config)
    )
    lab.configure(HEART)
    lab.settle(10)
    lab.configure(HEART.replace("[lv]", "[lv, rv]"))
    lab.settle(10)
    assert seen == [("lv",), ("lv", "rv")]


# --- masks ---------------------------------------------------------------------------------------


def mask_of(lab: Lab, path: str) -> PixelArray:
    case = lab.cases()[path]
    (answer,) = current_answers(lab.task, case.case)
    scheme = load_task(lab.task.config).scheme
    return label_map_from_results(answer.results, scheme, case.shape_HW)


def test_masks_beside_pictures_become_labels(lab: Lab) -> None:
    lab.drop_picture("images/a.png", seed=1)
    lab.drop("masks/a.png", file_bytes(square()))
    lab.drop_picture("images/b.png", seed=2)
    lab.settle()
    assert np.array_equal(mask_of(lab, "images/a.png"), square(1))
    assert load_task(lab.task.config).scheme.names == ("heart",)
    labelled = {
        task["data"]["case"]: task["total_annotations"]
        for task in lab.label_studio.tasks_by_id.values()
    }
    assert labelled[lab.cases()["images/a.png"].case] == 1
    assert labelled[lab.cases()["images/b.png"].case] == 0


def test_nnunet_names_and_dataset_json_are_understood(lab: Lab) -> None:
    description = {"labels": {"background": 0, "wall": 1, "cavity": 2}}
    lab.task.root.joinpath("dataset.json").write_text(json.dumps(description))
    lab.drop_picture("imagesTr/la_003_0000.png", seed=1)
    lab.drop("labelsTr/la_003.png", file_bytes(square(2)))
    lab.drop_picture("imagesTs/la_009_0000.png", seed=2)
    lab.settle()
    assert load_task(lab.task.config).scheme.names == ("wall", "cavity")
    assert np.array_equal(mask_of(lab, "imagesTr/la_003_0000.png"), square(2))
    assert len(lab.cases()) == 2


def test_a_mask_that_comes_after_its_picture_still_counts(lab: Lab) -> None:
    lab.configure(HEART)
    lab.drop_picture("images/a.png", seed=1)
    lab.settle(30)
    case = lab.cases()["images/a.png"].case
    assert lab.label_studio.task_of(case)["total_annotations"] == 0
    lab.drop("masks/a.png", file_bytes(square()))
    lab.settle(30)
    assert lab.label_studio.task_of(case)["total_annotations"] == 1
    assert np.array_equal(mask_of(lab, "images/a.png"), square(1))


def test_a_mask_waits_for_a_picture_that_comes_later(lab: Lab) -> None:
    lab.configure(HEART)
    lab.drop("masks/a.png", file_bytes(square()))
    lab.settle(30)
    lab.drop_picture("images/a.png", seed=1)
    lab.settle()
    assert np.array_equal(mask_of(lab, "images/a.png"), square(1))
    assert not lab.refusals()


def test_a_mask_never_replaces_what_a_person_drew(lab: Lab) -> None:
    lab.configure(HEART)
    lab.drop_picture("images/a.png", seed=1)
    lab.settle(30)
    case = lab.cases()["images/a.png"].case
    answer = AnnotationRecord(case, "1-2", "label_studio", "1", "2026-01-01T00:00:00Z", ())
    land(lab.task, answer)
    lab.drop("masks/a.png", file_bytes(square()))
    lab.settle(30)
    assert [record.key for record in current_answers(lab.task, case)] == ["1-2"]
    assert not lab.refusals()


def test_an_empty_mask_is_an_answer(lab: Lab) -> None:
    lab.configure(HEART)
    lab.drop_picture("images/a.png", seed=1)
    lab.drop("masks/a.png", file_bytes(square(0)))
    lab.settle()
    (answer,) = current_answers(lab.task, lab.cases()["images/a.png"].case)
    assert answer.results == ()


def test_a_bad_mask_leaves_its_picture_as_work(lab: Lab) -> None:
    lab.configure(HEART)
    lab.drop_picture("images/a.png", seed=1)
    lab.drop("masks/a.png", file_bytes(square(shape=(24, 31))))
    lab.settle()
    assert "(24, 31)" in lab.refusals()["mask-size"]
    case = lab.cases()["images/a.png"].case
    assert lab.label_studio.task_of(case)["total_annotations"] == 0


# --- cases.csv -----------------------------------------------------------------------------------


def test_a_case_list_groups_patients_and_carries_metadata(lab: Lab) -> None:
    lab.drop_picture("images/x.png", seed=1)
    lab.drop_picture("images/y.png", seed=2)
    lab.drop("cases.csv", b"file,patient,scanner\nx.png,P1,A\ny.png,P1,\n")
    lab.settle()
    cases = lab.cases()
    assert cases["images/x.png"].patient == cases["images/y.png"].patient
    assert cases["images/x.png"].metadata == {"scanner": "A"}
    assert lab.left() == ["cases.csv", "images/x.png", "images/y.png"]


def test_labels_of_a_case_list_make_a_classification(lab: Lab) -> None:
    lab.drop_picture("x.png", seed=1)
    lab.drop_picture("y.png", seed=2)
    lab.drop_picture("z.png", seed=3)
    lab.drop("cases.csv", b"file,label\nx.png,ill\ny.png,well\n")
    lab.settle()
    config = load_task(lab.task.config)
    assert (config.kind, config.scheme.names) == ("classification", ("ill", "well"))
    assert current_answers(lab.task, lab.cases()["x.png"].case)
    assert not current_answers(lab.task, lab.cases()["z.png"].case)


@pytest.mark.parametrize("name", ["Cases.csv", "CASES.CSV"])
@pytest.mark.parametrize("folder", ["", "../"])
def test_a_case_list_is_known_in_capitals_too(lab: Lab, name: str, folder: str) -> None:
    lab.configure(HEART)
    lab.settle(60)
    lab.drop(folder + name, b"file,patient\nx.png,P1\ny.png,P1\n")
    lab.drop_picture("x.png", seed=1)
    lab.drop_picture("y.png", seed=2)
    lab.settle()
    assert len({case.patient for case in lab.cases().values()}) == 1
    assert not lab.refusals() and lab.pulse.trouble == ""


def test_a_refused_case_list_in_capitals_holds_pictures_too(lab: Lab) -> None:
    lab.configure(HEART)
    lab.drop("Cases.csv", b"picture,patient\nx.png,P1\n")
    lab.drop_picture("x.png", seed=1)
    lab.settle()
    lab.restart()
    lab.settle()
    assert not lab.cases()
    assert "new pictures wait" in lab.pulse.trouble
    assert len(list(lab.task.rejected.glob("rej-*/Cases.csv"))) == 1


def test_pictures_wait_for_a_corrected_case_list(lab: Lab) -> None:
    lab.drop_picture("x.png", seed=1)
    lab.drop("cases.csv", b"picture,patient\nx.png,P1\n")
    lab.settle()
    assert not lab.cases()
    assert "bad-case-list" in lab.refusals()
    assert "new pictures wait" in lab.pulse.trouble
    lab.drop("cases.csv", b"file,patient\nx.png,P1\n")
    lab.settle()
    assert list(lab.cases()) == ["x.png"]
    assert lab.pulse.trouble == ""


def test_deleting_the_refused_case_list_lets_pictures_in(lab: Lab) -> None:
    lab.drop_picture("x.png", seed=1)
    lab.drop("cases.csv", b"\xff\xfe\x00")
    lab.settle()
    (refused,) = lab.task.rejected.glob("rej-*")
    for path in refused.iterdir():
        path.unlink()
    refused.rmdir()
    lab.settle()
    assert list(lab.cases()) == ["x.png"]


def test_a_late_case_list_brings_labels_and_reports_patients(
    lab: Lab, caplog: pytest.LogCaptureFixture
) -> None:
    lab.configure(CLASSES)
    lab.drop_picture("x.png", seed=1)
    lab.settle(30)
    case = lab.cases()["x.png"]
    rows = b"file,patient,label\nx.png,P1,normal\nabsent.png,P2,normal\n"
    lab.drop("cases.csv", rows)
    lab.settle(30)
    assert lab.label_studio.task_of(case.case)["total_annotations"] == 1
    assert lab.cases()["x.png"].patient == case.patient
    assert "gives 1 cases another patient" in caplog.text
    assert "names 1 absent files" in caplog.text


def test_a_case_list_with_an_unknown_label_is_at_fault_itself(lab: Lab) -> None:
    lab.configure(CLASSES)
    lab.drop_picture("x.png", seed=1)
    lab.drop("cases.csv", b"file,label\nx.png,pneunomia\n")
    lab.settle()
    assert "pneunomia" in lab.refusals()["bad-case-list"]
    assert lab.left() == ["x.png"]


# --- troubles ------------------------------------------------------------------------------------


def test_cases_are_made_while_label_studio_is_away(lab: Lab) -> None:
    lab.label_studio.down = True
    lab.drop_picture("a.png", seed=1)
    lab.settle()
    assert list(lab.cases()) == ["a.png"]
    assert "Label Studio cannot be reached" in lab.pulse.trouble
    lab.label_studio.down = False
    lab.settle(30)
    assert len(lab.label_studio.cases()) == 1
    assert lab.pulse.trouble == ""


def test_a_lost_answer_does_not_make_tasks_twice(lab: Lab) -> None:
    lab.configure(HEART)
    lab.settle(10)
    for number in range(3):
        lab.drop_picture(f"{number}.png", seed=number)
    lab.label_studio.lose_next_answer = True
    lab.settle()
    assert sorted(lab.label_studio.cases()) == sorted(c.case for c in lab.cases().values())


def test_a_process_that_died_after_importing_makes_no_task_twice(lab: Lab) -> None:
    lab.drop_picture("a.png", seed=1)
    lab.settle()
    lab.restart()
    lab.drop_picture("b.png", seed=2)
    lab.settle()
    assert len(lab.label_studio.cases()) == 2


def test_without_the_marker_nothing_is_concluded(lab: Lab) -> None:
    lab.configure(HEART)
    lab.drop("bad.png", b"junk")
    lab.drop_picture("a.png", seed=1)
    lab.nas.marker.unlink()
    lab.settle()
    assert lab.left() == ["a.png", "bad.png"]
    assert "not mounted" in lab.pulse.trouble
    lab.nas.marker.touch()
    lab.settle()
    assert list(lab.cases()) == ["a.png"]
    assert lab.pulse.trouble == ""


def test_when_most_files_vanish_the_task_is_held(lab: Lab) -> None:
    for number in range(12):
        lab.drop_picture(f"{number}.png", seed=number)
    lab.settle()
    hidden = lab.task.root / "elsewhere"
    lab.task.rawdata.rename(hidden)
    lab.task.rawdata.mkdir()
    lab.drop("new.png", b"junk")
    lab.settle(300)
    assert "most known files have vanished" in lab.pulse.trouble
    assert lab.ledger.count(TASK) == 12
    assert lab.left() == ["new.png"]
    lab.settle(1800)  # half an hour later it is believed
    assert lab.pulse.trouble == ""
    assert not lab.left()
    assert len(lab.cases()) == 12


def test_when_the_files_come_back_the_task_goes_on(lab: Lab) -> None:
    for number in range(12):
        lab.drop_picture(f"{number}.png", seed=number)
    lab.settle()
    hidden = lab.task.root / "elsewhere"
    lab.task.rawdata.rename(hidden)
    lab.task.rawdata.mkdir()
    lab.settle(60)
    assert "most known files have vanished" in lab.pulse.trouble
    lab.task.rawdata.rmdir()
    hidden.rename(lab.task.rawdata)
    lab.drop_picture("new.png", seed=99)
    lab.settle(120)
    assert lab.pulse.trouble == ""
    assert len(lab.cases()) == 13


def test_a_full_disk_pauses_and_leaves_nothing_half_made(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab.configure(HEART)
    lab.drop_picture("a.png", seed=1)
    real = take.write_bytes

    def full(path: Path, data: bytes) -> None:
        path.write_bytes(data[:10])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    monkeypatch.setattr(take, "write_bytes", full)
    lab.settle(30)
    assert "no space" in lab.pulse.trouble
    assert not list(lab.task.cases.glob("case-*")) and not list(lab.task.cases.glob(".staging/*"))
    assert lab.left() == ["a.png"]
    monkeypatch.setattr(take, "write_bytes", real)
    lab.settle(30)
    assert list(lab.cases()) == ["a.png"]
    assert lab.pulse.trouble == ""


def test_an_unreadable_file_is_refused_after_a_while(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab.configure(HEART)
    lab.drop_picture("a.png", seed=1)
    lab.drop_picture("b.png", seed=2)
    real = take.read_file

    def denied(path: Path, *rest: Any, **options: Any) -> bytes:
        if path.name == "a.png":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return real(path, *rest, **options)

    monkeypatch.setattr(take, "read_file", denied)
    lab.round()
    lab.round(QUIET_S)
    assert lab.left() == ["a.png", "b.png"]
    lab.settle()
    assert "permission-denied" in lab.refusals()
    assert list(lab.cases()) == ["b.png"]


def test_a_file_that_cannot_be_moved_is_refused_once(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab.configure(HEART)
    lab.drop("bad.png", b"junk")

    def read_only(*_: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(attempt, "reject", read_only)
    lab.settle()
    monkeypatch.setattr(attempt, "reject", lambda *_: pytest.fail("refused again"))
    lab.settle(4000)
    assert lab.left() == ["bad.png"]


def test_an_unforeseen_error_sets_one_file_aside(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    lab.configure(HEART)
    lab.drop_picture("Mueller_Hans.png", seed=1)
    lab.drop_picture("b.png", seed=2)
    real = take.decode_picture

    def explode(data: bytes, *rest: object) -> object:
        if data == file_bytes(picture(1)):
            raise ZeroDivisionError("Mueller_Hans")
        return real(data)

    monkeypatch.setattr(take, "decode_picture", explode)
    lab.settle()
    assert list(lab.cases()) == ["b.png"]
    assert "ZeroDivisionError at" in caplog.text
    assert "Mueller" not in caplog.text


def test_logs_hold_no_file_names(lab: Lab, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    lab.drop_picture("Mueller_Hans.png", seed=1)
    lab.drop_picture("Mueller_Copy.png", seed=1)
    lab.drop("Mueller_Bad.png", b"junk")
    lab.settle()
    lab.restart()
    lab.settle()
    assert set(lab.refusals()) == {"duplicate", "not-an-image"}
    assert "Mueller" not in caplog.text


def test_a_large_drop_does_not_keep_other_tasks_waiting(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(visit, "AT_ONCE", 3)
    lab.configure(HEART)
    for number in range(8):
        lab.drop_picture(f"images/{number}.png", seed=number)
        lab.drop(f"masks/{number}.png", file_bytes(square()))
    other = lab.nas.task("Task002_lung")
    other.rawdata.mkdir(parents=True)
    (other.rawdata / "b.png").write_bytes(file_bytes(picture(99)))
    lab.round()
    lab.round(QUIET_S)
    assert len(lab.cases()) == 3
    assert len(lab.label_studio.cases()) == 4
    assert lab.ingest.next_wait_s(5.0) == 0.0
    lab.round()
    lab.round()
    assert len(lab.label_studio.cases()) == 9
    assert lab.ingest.next_wait_s(5.0) > 0.0
    annotated = [task["total_annotations"] for task in lab.label_studio.tasks_by_id.values()]
    assert sum(annotated) == 8
    assert "annotations" not in " ".join(lab.label_studio.calls)  # each came with its import


def test_a_share_that_cannot_be_written_holds_the_task(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab.configure(HEART)
    lab.drop_picture("a.png", seed=1)

    def read_only(*_: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(take, "write_bytes", read_only)
    lab.settle(30)
    assert "may not write" in lab.pulse.trouble
    assert lab.left() == ["a.png"]


def test_stopping_ends_between_two_files(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    lab.configure(HEART)
    for number in range(4):
        lab.drop_picture(f"{number}.png", seed=number)
    lab.round()
    real = take.publish

    def publish_and_stop(*paths: Path) -> None:
        real(*paths)
        lab.stopping = True

    monkeypatch.setattr(take, "publish", publish_and_stop)
    lab.round(QUIET_S)
    assert len(lab.cases()) == 1
    monkeypatch.setattr(take, "publish", real)
    lab.stopping = False
    lab.settle()
    assert len(lab.label_studio.cases()) == 4


def test_scheme_order_is_kept_for_index_masks(lab: Lab) -> None:
    lab.configure("kind: segmentation\nlabels: [kidney, tumour]\n")
    mask_HW = square(1)
    mask_HW[7:9, 9:12] = 2
    lab.drop_picture("images/a.png", seed=1)
    lab.drop("labels/a.png", file_bytes(mask_HW))
    lab.settle()
    assert np.array_equal(mask_of(lab, "images/a.png"), mask_HW)
    assert load_task(lab.task.config).scheme == label_scheme(["kidney", "tumour"])


# --- changes of mind, and masks that come long before their pictures ------------------------------


def test_a_picture_moved_to_another_class_folder_keeps_its_label_and_it_is_said(
    lab: Lab, caplog: pytest.LogCaptureFixture
) -> None:
    lab.configure(CLASSES)
    path = lab.drop_picture("normal/a.png", seed=1)
    (lab.task.rawdata / "pneumonia").mkdir()
    lab.settle()
    case = lab.cases()["normal/a.png"].case
    renamed = path.rename(lab.task.rawdata / "normal" / "b.png")
    lab.settle()
    assert "class" not in caplog.text  # the same one
    renamed.rename(lab.task.rawdata / "pneumonia" / "b.png")
    lab.settle()
    assert f"case {case}: its class folder changed; correct the label in Label Studio" in (
        caplog.text
    )
    (answer,) = current_answers(lab.task, case)
    assert answer.origin == "import" and lab.left() == ["pneumonia/b.png"]


def test_masks_may_all_be_copied_before_their_pictures(lab: Lab) -> None:
    lab.configure(HEART)
    for number in range(4):
        lab.drop(f"masks/{number}.png", file_bytes(square()))
        lab.settle(50)
    for number in range(4):
        lab.drop_picture(f"images/{number}.png", seed=number)
        lab.settle(50)
    assert len(lab.cases()) == 4 and not lab.refusals()
    assert len(list(lab.task.annotations.rglob("*.json"))) == 4


def test_new_files_elsewhere_do_not_make_a_mask_without_a_picture_wait(lab: Lab) -> None:
    lab.configure(HEART)
    lab.drop("a/masks/0.png", file_bytes(square()))
    for number in range(3):
        lab.drop_picture(f"b/images/{number}.png", seed=number)
        lab.settle(30)
    assert "mask-without-picture" in lab.refusals()


# --- one bare name in cases.csv, two pictures -----------------------------------------------------


BARE = b"file,patient,label\n0001.png,P1,pneumonia\n"


def test_a_bare_name_that_two_pictures_have_is_given_to_neither(lab: Lab) -> None:
    lab.configure(CLASSES)
    lab.drop("cases.csv", BARE)
    lab.drop_picture("test/0001.png", seed=1)
    lab.drop_picture("train/0001.png", seed=2)
    lab.settle()
    assert not lab.cases()
    text = lab.refusals()["name-twice"]
    assert "test/0001.png" in text and "train/0001.png" in text
    lab.drop("cases.csv", BARE.replace(b"0001", b"test/0001"))
    lab.drop_picture("test/0001.png", seed=1)
    lab.drop_picture("train/0001.png", seed=2)
    lab.settle()
    cases = lab.cases()
    assert cases["test/0001.png"].patient != cases["train/0001.png"].patient
    assert not list(lab.task.case_annotations(cases["train/0001.png"].case).glob("*"))


def test_a_second_picture_of_a_bare_name_is_refused_whenever_it_comes(lab: Lab) -> None:
    lab.configure(HEART)
    lab.drop("cases.csv", BARE)
    lab.drop_picture("p1/0001.png", seed=1)
    lab.settle()
    lab.drop_picture("p2/0001.png", seed=2)
    lab.settle()
    assert list(lab.cases()) == ["p1/0001.png"]
    assert "p1/0001.png" in lab.refusals()["name-twice"]


def test_a_late_case_list_labels_no_picture_by_a_name_that_two_have(
    lab: Lab, caplog: pytest.LogCaptureFixture
) -> None:
    lab.configure(CLASSES)
    lab.drop_picture("test/0001.png", seed=1)
    lab.drop_picture("train/0001.png", seed=2)
    lab.settle()
    lab.drop("cases.csv", BARE)
    lab.settle()
    assert len(lab.cases()) == 2
    assert not list(lab.task.annotations.rglob("*.json"))
    assert "name-twice" in caplog.text


def test_a_mask_a_moved_picture_and_a_line_of_its_own_make_no_name_ambiguous(lab: Lab) -> None:
    lab.configure(HEART)
    lab.drop("cases.csv", BARE + b"images/own/0001.png,P2,\n")
    lab.drop_picture("images/0001.png", seed=1)
    lab.drop("masks/0001.png", file_bytes(square()))
    lab.drop_picture("images/own/0001.png", seed=2)
    lab.settle()
    assert len(lab.cases()) == 2 and not lab.refusals()
    (lab.task.rawdata / "images" / "new").mkdir()
    moved = lab.task.rawdata / "images" / "new" / "0001.png"
    (lab.task.rawdata / "images" / "0001.png").rename(moved)
    moved.write_bytes(file_bytes(picture(3)))
    lab.settle()
    assert "images/new/0001.png" in lab.cases() and not lab.refusals()


# --- composed and decomposed letters --------------------------------------------------------------


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_classes_are_known_however_their_letters_are_composed(
    lab: Lab, form: Literal["NFC", "NFD"]
) -> None:
    """Macs decompose letters in names of files, and people copy names from there."""
    other: Literal["NFC", "NFD"] = "NFD" if form == "NFC" else "NFC"
    name = unicodedata.normalize(form, "tumör")
    lab.configure(f"kind: classification\nlabels: [normal, {name}]\n")
    spelled = unicodedata.normalize(other, "tumör")
    lab.drop("cases.csv", f"file,label\nb.png,{spelled}\n".encode())
    lab.drop_picture(f"{spelled}/a.png", seed=1)
    lab.drop_picture("b.png", seed=2)
    lab.settle()
    assert not lab.refusals()
    known = lab.ingest.visitors[TASK].config.config
    assert known is not None
    for case in lab.cases().values():
        (answer,) = current_answers(lab.task, case.case)
        assert classes_from_results(answer.results, known.scheme) == (known.scheme.names[1],)


def test_a_patient_is_one_however_the_letters_are_composed(lab: Lab) -> None:
    lab.configure(HEART)
    sheet = "file,patient\na.png,M\u00fcller\nb.png,Mu\u0308ller\n"
    lab.drop("cases.csv", sheet.encode())
    lab.drop_picture("a.png", seed=1)
    lab.drop_picture("b.png", seed=2)
    lab.settle()
    assert len({case.patient for case in lab.cases().values()}) == 1


# --- folders that cannot be listed ----------------------------------------------------------------


@pytest.fixture
def private(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """As if folders called `private` could not be listed; `undo` lets them."""
    real = os.scandir

    def denied(path: str | Path) -> Any:
        if Path(path).name == "private":
            raise PermissionError(errno.EACCES, "Permission denied")
        return real(path)

    monkeypatch.setattr(os, "scandir", denied)
    return monkeypatch


def test_a_folder_that_cannot_be_listed_holds_nothing_else(
    lab: Lab, private: pytest.MonkeyPatch
) -> None:
    lab.configure(HEART)
    lab.drop_picture("a.png", seed=1)
    lab.drop_picture("private/b.png", seed=2)
    lab.settle()
    assert list(lab.cases()) == ["a.png"]
    assert lab.pulse.trouble == f"{TASK}: 1 folders of rawdata cannot be listed"
    private.undo()
    lab.settle(30)
    assert sorted(lab.cases()) == ["a.png", "private/b.png"]
    assert lab.pulse.trouble == ""


def test_a_folder_that_cannot_be_listed_does_not_make_every_look_a_full_one(
    lab: Lab, private: pytest.MonkeyPatch
) -> None:
    lab.configure(HEART)
    lab.drop_picture("private/b.png", seed=2)
    fulls: list[bool] = []
    lab.round()
    watch = lab.ingest.visitors[TASK].watch
    real = watch.scan.look
    private.setattr(
        watch.scan, "look", lambda now_s, *, full: fulls.append(full) or real(now_s, full=full)
    )
    lab.settle(300)
    assert not any(fulls)


def test_nothing_is_concluded_from_what_a_folder_may_hold_unseen(
    lab: Lab, private: pytest.MonkeyPatch
) -> None:
    lab.drop("masks/private/a.png", file_bytes(square()))
    lab.drop_picture("images/a.png", seed=1)
    lab.settle(200)
    assert not lab.task.config.exists()  # masks tell what kind of task it is
    lab.configure(HEART)
    (lab.task.rawdata / "images" / "private").mkdir()
    lab.drop("masks/b.png", file_bytes(square()))
    lab.settle(200)
    assert lab.refusals() == {}
    assert list(lab.cases()) == ["images/a.png"]


def test_a_file_that_cannot_be_looked_for_counts_as_being_there(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab.configure(HEART)
    lab.drop_picture("private/a.png", seed=1)
    lab.settle()
    real = os.lstat

    def denied(path: Any, **options: Any) -> os.stat_result:
        if "private/" in str(path):
            raise PermissionError(errno.EACCES, "Permission denied")
        return real(path, **options)

    monkeypatch.setattr(os, "lstat", denied)
    lab.drop_picture("b.png", seed=1)
    lab.settle()
    assert list(lab.refusals()) == ["duplicate"]
    assert lab.pulse.trouble == ""
