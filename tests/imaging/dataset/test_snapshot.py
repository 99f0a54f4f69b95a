import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from imaging.dataset import frozen as frozen_module
from imaging.dataset import snapshot as snapshot_module
from imaging.dataset import truth as truth_module
from imaging.dataset.snapshot import (
    assigned_patients,
    freeze_snapshot,
    load_snapshot,
    newest_snapshot,
)
from imaging.dataset.verify import problems_of
from imaging.errors import CorruptFolderError, SnapshotError
from imaging.io.picture import read_label_map
from imaging.labels import label_scheme
from imaging.publish import read_json
from tests.imaging.dataset.lab import (
    CLASSIFICATION,
    SEGMENTATION,
    SHAPE_HW,
    answer,
    drawn,
    label_cases,
    make_case,
    make_task,
    mask_results,
    regroup,
)


def test_a_segmentation_snapshot_holds_what_was_drawn(tmp_path: Path) -> None:
    task = make_task(tmp_path)
    cases = label_cases(task, range(12))
    frozen = freeze_snapshot(task, SEGMENTATION)
    assert load_snapshot(frozen.folder) == frozen == newest_snapshot(task)
    assert sorted(cases) == [case.case for case in frozen.cases]
    for number, name in enumerate(cases):
        case = next(case for case in frozen.cases if case.case == name)
        assert case.labels is not None and case.classes is None and case.present == ("lv",)
        labels_HW = read_label_map(case.labels, SHAPE_HW)
        assert np.array_equal(labels_HW, drawn(1 + number % 10))
    assert problems_of(frozen) == []
    assert {case.split for case in frozen.cases} == {"train", "validation", "test"}


def test_a_classification_snapshot_holds_what_was_chosen(tmp_path: Path) -> None:
    task = make_task(tmp_path)
    cases = label_cases(task, range(10), kind="classification")
    frozen = freeze_snapshot(task, CLASSIFICATION)
    chosen = {case.case: case.classes for case in frozen.cases}
    assert [chosen[case] for case in cases] == [("normal",), ("pneumonia",)] * 5
    assert all(case.labels is None for case in frozen.cases)
    assert problems_of(frozen) == []


def test_the_same_content_is_frozen_once(tmp_path: Path) -> None:
    task = make_task(tmp_path)
    case, *_ = label_cases(task, range(5))
    first = freeze_snapshot(task, SEGMENTATION)
    assert freeze_snapshot(task, SEGMENTATION).id == first.id
    answer(task, case, drawn(1), key="1-1", revision=2)  # saved again, unchanged
    assert freeze_snapshot(task, SEGMENTATION).id == first.id
    answer(task, case, drawn(7), key="1-1", revision=3)
    assert freeze_snapshot(task, SEGMENTATION).id > first.id
    assert len(list(task.snapshots.glob("snap-*"))) == 2
    assert not list((task.snapshots / ".staging").iterdir())


def test_label_maps_of_unchanged_answers_are_taken_over_and_changed_ones_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = make_task(tmp_path)
    cases = label_cases(task, range(6))
    first = freeze_snapshot(task, SEGMENTATION)
    made = []
    truth_of = snapshot_module.truth_of
    monkeypatch.setattr(
        snapshot_module,
        "truth_of",
        lambda answers, case, config: made.append(case.case) or truth_of(answers, case, config),
    )
    answer(task, cases[2], drawn(11), key="3-3", revision=2)
    second = freeze_snapshot(task, SEGMENTATION)
    assert made == [cases[2]]
    assert load_snapshot(second.folder) == second and problems_of(second) == []
    old, new = ({case.case: case for case in one.cases} for one in (first, second))
    assert old[cases[0]].labels_sha256 == new[cases[0]].labels_sha256
    assert old[cases[2]].labels_sha256 != new[cases[2]].labels_sha256


def test_a_damaged_label_map_is_made_anew_and_never_passed_on(tmp_path: Path) -> None:
    task = make_task(tmp_path)
    label_cases(task, range(4))
    first = freeze_snapshot(task, SEGMENTATION)
    damaged = first.cases[0].labels
    assert damaged is not None
    damaged.chmod(0o644)
    damaged.write_bytes(b"")
    with pytest.raises(CorruptFolderError, match=first.cases[0].case):
        load_snapshot(first.folder)
    second = freeze_snapshot(task, SEGMENTATION)
    assert second.id > first.id
    assert load_snapshot(second.folder).cases[0].labels_sha256 == first.cases[0].labels_sha256


def test_broken_answers_are_left_out_with_a_reason_and_the_rest_is_frozen(tmp_path: Path) -> None:
    task = make_task(tmp_path)
    label_cases(task, range(4))
    bomb, foreign, other_grid, no_record, unreadable = (make_case(task, n) for n in range(20, 25))
    hostile = mask_results(drawn(3))
    hostile[0]["value"]["rle"] = [255, 255, 255, 255, 0, 0, 0, 0]
    answer(task, bomb, hostile)
    stranger = mask_results(drawn(3))
    stranger[0]["value"]["brushlabels"] = ["kidney"]
    answer(task, foreign, stranger)
    resized = mask_results(drawn(3))
    resized[0]["original_width"] = 999
    answer(task, other_grid, resized)
    answer(task, no_record, drawn(2))
    shutil.rmtree(task.case(no_record))
    answer(task, unreadable, drawn(2)).write_bytes(b"{ half a file")
    frozen = freeze_snapshot(task, SEGMENTATION)
    assert len(frozen.cases) == 4
    reasons = {one.case: one.reason for one in frozen.left_out}
    assert reasons.keys() == {bomb, foreign, other_grid, no_record, unreadable}
    assert "kidney" in reasons[foreign] and "999" in reasons[other_grid]
    assert all(one.answers for one in frozen.left_out if one.case != unreadable)
    assert load_snapshot(frozen.folder).left_out == frozen.left_out


@pytest.mark.parametrize("error", [ValueError, TypeError, RecursionError, IndexError])
def test_an_answer_that_crashes_the_decoder_is_left_out_with_a_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    task = make_task(tmp_path)
    label_cases(task, range(4))
    odd = make_case(task, 20)
    answer(task, odd, drawn(11))
    decode = truth_module.label_map_from_results

    def picky(results: Sequence[Mapping[str, Any]], *rest: Any) -> NDArray[np.uint8]:
        if list(results) == mask_results(drawn(11)):
            raise error("nobody thought of that")
        return decode(results, *rest)

    monkeypatch.setattr(truth_module, "label_map_from_results", picky)
    frozen = freeze_snapshot(task, SEGMENTATION)
    assert len(frozen.cases) == 4
    (left_out,) = frozen.left_out
    assert left_out.case == odd and left_out.answers
    assert f"{error.__name__}: nobody thought of that" in left_out.reason


def test_an_annotation_nested_too_deeply_to_read_is_left_out(tmp_path: Path) -> None:
    task = make_task(tmp_path)
    label_cases(task, range(4))
    case = make_case(task, 20)
    answer(task, case, drawn(2)).write_bytes(b'{"results": ' + b"[" * 200_000)
    frozen = freeze_snapshot(task, SEGMENTATION)
    assert [one.case for one in frozen.left_out] == [case]


def test_an_answer_without_result_list_is_left_out_of_a_classification(tmp_path: Path) -> None:
    task = make_task(tmp_path)
    label_cases(task, range(4), kind="classification")
    case = make_case(task, 9)
    answer(task, case, [{"type": "unreadable", "raw": {"choices": ["normal"]}}])
    frozen = freeze_snapshot(task, replace(CLASSIFICATION, multi_label=True))
    assert [one.case for one in frozen.left_out] == [case]


def test_nothing_usable_is_an_error_and_leaves_no_folder(tmp_path: Path) -> None:
    task = make_task(tmp_path)
    make_case(task, 1)
    with pytest.raises(SnapshotError, match="no case"):
        freeze_snapshot(task, SEGMENTATION)
    case = make_case(task, 2)
    answer(task, case, [*mask_results(drawn(2)), {"type": "strange"}])
    with pytest.raises(SnapshotError, match=f"{case}.*strange"):
        freeze_snapshot(task, SEGMENTATION)
    assert newest_snapshot(task) is None


def test_held_out_patients_stay_held_out_while_their_labels_come_and_go(tmp_path: Path) -> None:
    task = make_task(tmp_path)
    label_cases(task, range(10), kind="classification")
    first = freeze_snapshot(task, CLASSIFICATION)
    held_out = first.of("test")[0]
    number = int(held_out.patient.removeprefix("p-"))
    key = f"{number + 1}-{number + 1}"
    answer(task, held_out.case, [], key=key, revision=2, deleted=True)
    second = freeze_snapshot(task, CLASSIFICATION)
    assert held_out.patient not in {case.patient for case in second.cases}
    assert assigned_patients(second)[held_out.patient] == "test"
    again = make_case(task, 77, patient=held_out.patient)
    answer(task, again, "normal", key="77-77")
    label_cases(task, range(30, 60), kind="classification")
    third = freeze_snapshot(task, CLASSIFICATION)
    assert next(case for case in third.cases if case.case == again).split == "test"
    for patient, split in assigned_patients(first).items():
        assert assigned_patients(third)[patient] == split
    assert problems_of(third) == []


def test_cases_keep_their_side_when_their_patient_gets_another_pseudonym(tmp_path: Path) -> None:
    task = make_task(tmp_path)
    cases = label_cases(task, range(20))
    first = freeze_snapshot(task, SEGMENTATION)
    for number, case in enumerate(cases):
        regroup(task, case, f"p-new-{number}")
    second = freeze_snapshot(task, SEGMENTATION)
    assert {one.case: one.split for one in second.cases} == {
        one.case: one.split for one in first.cases
    }
    assert problems_of(second) == []


def test_what_was_held_out_neither_trains_nor_tests_once_its_patient_has_trained(
    tmp_path: Path,
) -> None:
    task = make_task(tmp_path)
    label_cases(task, range(20))
    first = freeze_snapshot(task, SEGMENTATION)
    held_out, trained = first.of("test")[0].case, first.of("train")[0]
    regroup(task, held_out, trained.patient)
    for _ in range(3):  # also the snapshot after one that has left it out
        frozen = freeze_snapshot(task, SEGMENTATION)
        assert held_out not in {one.case for one in frozen.cases}
        (left_out,) = frozen.left_out
        assert left_out.case == held_out and trained.patient in left_out.reason
        assert problems_of(frozen) == []
        label_cases(task, range(30 + len(frozen.cases), 31 + len(frozen.cases)))


def test_a_patient_whose_unlabelled_picture_has_trained_is_not_held_out(tmp_path: Path) -> None:
    task = make_task(tmp_path)
    label_cases(task, range(20))
    first = freeze_snapshot(task, SEGMENTATION)
    held_out, trained = first.of("test")[0], first.of("train")[0].case
    regroup(task, trained, held_out.patient)
    shutil.rmtree(task.case_annotations(trained))
    frozen = freeze_snapshot(task, SEGMENTATION)
    assert held_out.case in {one.case for one in frozen.left_out}


def test_the_cases_of_one_patient_are_on_one_side(tmp_path: Path) -> None:
    task = make_task(tmp_path)
    for number in range(40):
        case = make_case(task, number, patient=f"p-{number % 8}")
        answer(task, case, drawn(2), key=f"{number}-{number}")
    frozen = freeze_snapshot(task, SEGMENTATION)
    sides = {(case.patient, case.split) for case in frozen.cases}
    assert len(sides) == 8 and len({split for _, split in sides}) == 3


def test_without_knowing_who_is_held_out_nothing_is_frozen(tmp_path: Path) -> None:
    task = make_task(tmp_path)
    label_cases(task, range(5))
    first = freeze_snapshot(task, SEGMENTATION)
    (first.folder / "folds.json").unlink()
    label_cases(task, range(5, 9))
    with pytest.raises(SnapshotError) as caught:
        freeze_snapshot(task, SEGMENTATION)
    assert "held out" in caught.value.hint


def test_labels_of_held_out_patients_only_are_nothing_to_train_on(tmp_path: Path) -> None:
    task = make_task(tmp_path)
    cases = label_cases(task, range(5))
    first = freeze_snapshot(task, SEGMENTATION)
    held_out = {case.case for case in first.of("test")}
    for number, case in enumerate(cases):
        if case not in held_out:
            key = f"{number + 1}-{number + 1}"
            answer(task, case, [], key=key, revision=2, deleted=True)
    with pytest.raises(SnapshotError, match="none of a training patient"):
        freeze_snapshot(task, SEGMENTATION)


def test_several_annotators_become_one_truth(tmp_path: Path) -> None:
    task = make_task(tmp_path)
    case = make_case(task, 1)
    for number, rows in enumerate((2, 5, 6)):
        answer(task, case, drawn(rows), key=f"1-{number}", annotator=str(number))
    frozen = freeze_snapshot(task, SEGMENTATION)
    labels = frozen.cases[0].labels
    assert labels is not None
    assert np.array_equal(read_label_map(labels, SHAPE_HW), drawn(5))
    assert len(frozen.cases[0].answers) == 3


def test_a_changed_label_scheme_makes_every_label_map_anew(tmp_path: Path) -> None:
    task = make_task(tmp_path)
    label_cases(task, range(4))
    freeze_snapshot(task, SEGMENTATION)
    swapped = replace(SEGMENTATION, scheme=label_scheme(["scar", "lv"]))
    second = freeze_snapshot(task, swapped)
    labels = second.cases[0].labels
    assert labels is not None and read_label_map(labels, SHAPE_HW).max() == 2


@pytest.mark.parametrize("frozen_before", [False, True])
def test_a_case_whose_image_is_gone_or_damaged_is_left_out_and_the_rest_can_be_loaded(
    tmp_path: Path, frozen_before: bool
) -> None:
    task = make_task(tmp_path)
    gone, damaged, *_ = label_cases(task, range(8))
    if frozen_before:
        freeze_snapshot(task, SEGMENTATION)
    (task.case(gone) / "image.png").unlink()
    (task.case(damaged) / "image.png").write_bytes(b"half a pic")
    frozen = freeze_snapshot(task, SEGMENTATION)
    reasons = {one.case: one.reason for one in frozen.left_out}
    assert "cannot be read" in reasons[gone] and "has changed" in reasons[damaged]
    assert len(load_snapshot(frozen.folder).cases) == 6
    assert problems_of(frozen) == []


def test_images_that_nobody_wrote_to_are_hashed_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = make_task(tmp_path)
    label_cases(task, range(6))
    for image in task.cases.glob("*/image.png"):
        os.utime(image, (1e9, 1e9))
    freeze_snapshot(task, SEGMENTATION)
    hashed: list[str] = []
    sha256_of = frozen_module.sha256_of

    def note(path: Path) -> str:
        hashed.append(path.name)
        return sha256_of(path)

    monkeypatch.setattr(frozen_module, "sha256_of", note)
    answer(task, make_case(task, 7), drawn(2))
    freeze_snapshot(task, SEGMENTATION)
    assert hashed.count("image.png") == 1


def test_an_exchanged_image_is_noticed(tmp_path: Path) -> None:
    task = make_task(tmp_path)
    label_cases(task, range(4))
    frozen = freeze_snapshot(task, SEGMENTATION)
    frozen.cases[1].image.write_bytes(frozen.cases[0].image.read_bytes())
    with pytest.raises(CorruptFolderError, match=frozen.cases[1].case):
        load_snapshot(frozen.folder)


def test_the_files_of_a_snapshot_are_read_only(tmp_path: Path) -> None:
    task = make_task(tmp_path)
    label_cases(task, range(4))
    frozen = freeze_snapshot(task, SEGMENTATION)
    files = [path for path in frozen.folder.rglob("*") if path.is_file()]
    assert len(files) == 6
    assert all(path.stat().st_mode & 0o222 == 0 for path in files)


def test_a_snapshot_sorts_after_the_one_before_also_when_the_clock_was_set_back(
    tmp_path: Path,
) -> None:
    task = make_task(tmp_path)
    label_cases(task, range(4))
    first = freeze_snapshot(task, SEGMENTATION)
    future = task.snapshot("snap-20991231T235959Z-0000")
    first.folder.rename(future)
    label_cases(task, range(4, 6))
    assert freeze_snapshot(task, SEGMENTATION).id.startswith("snap-21000101T000000Z-")


def test_what_a_killed_freeze_left_behind_is_cleared(tmp_path: Path) -> None:
    task = make_task(tmp_path)
    label_cases(task, range(4))
    rest = task.snapshots / ".staging" / "snap-20200101T000000Z-0000.1" / "labels"
    rest.mkdir(parents=True)
    freeze_snapshot(task, SEGMENTATION)
    assert not rest.exists()


def test_a_manifest_cannot_point_outside_its_task(tmp_path: Path) -> None:
    task = make_task(tmp_path)
    label_cases(task, range(4))
    frozen = freeze_snapshot(task, SEGMENTATION)
    manifest = frozen.folder / "manifest.json"
    text = manifest.read_text().replace('"cases/', '"../../../etc/', 1)
    manifest.chmod(0o644)
    manifest.write_text(text)
    with pytest.raises(SnapshotError, match="inside"):
        load_snapshot(frozen.folder)


def test_fold_zero_is_the_split_of_the_manifest(tmp_path: Path) -> None:
    task = make_task(tmp_path)
    label_cases(task, range(30))
    frozen = freeze_snapshot(task, SEGMENTATION)
    first, *others = read_json(frozen.folder / "folds.json")["folds"]
    assert first["validation"] == [case.case for case in frozen.of("validation")]
    assert first["train"] == [case.case for case in frozen.of("train")]
    assert len(others) == 4


def test_a_share_without_hard_links_gets_copies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(source: Path, target: Path) -> None:
        raise OSError("not supported")

    monkeypatch.setattr(os, "link", refuse)
    task = make_task(tmp_path)
    label_cases(task, range(4))
    freeze_snapshot(task, SEGMENTATION)
    label_cases(task, range(4, 6))
    assert problems_of(freeze_snapshot(task, SEGMENTATION)) == []
