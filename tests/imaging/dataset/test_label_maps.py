from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from imaging.dataset.annotations import current_answers, newest_revisions
from imaging.dataset.base import read_base
from imaging.dataset.label_maps import land_label_map, shown_results
from imaging.errors import CodecError, GridMismatchError, RecordError
from imaging.labelstudio.stack import label_volume_from_results
from imaging.labelstudio.tasks import task_payload
from tests.imaging.dataset.lab import SEGMENTATION, answer, make_task
from tests.imaging.dataset.volume_lab import SIDES, drawn_volume, make_volume_case

SCHEME = SEGMENTATION.scheme


def test_a_label_map_lands_as_a_file_and_comes_back_as_it_was(tmp_path: Path) -> None:
    task = make_task(tmp_path)
    case = make_volume_case(task)
    record = land_label_map(task, case, drawn_volume(), SCHEME)
    folder = task.case_annotations(case.case)
    assert sorted(path.name for path in folder.iterdir()) == [
        f"{record.key}.json",
        f"{record.key}.nii.gz",
    ]
    (back,) = current_answers(task, case.case)
    assert back.label_names == SCHEME.names
    assert back == record and back.results == () and back.readable and back.counts
    assert np.array_equal(read_base(task, back, case, SCHEME), drawn_volume())


def test_landing_a_label_map_twice_keeps_the_first_record_and_another_map_is_another(
    tmp_path: Path,
) -> None:
    task = make_task(tmp_path)
    case = make_volume_case(task)
    first = land_label_map(task, case, drawn_volume(), SCHEME)
    assert land_label_map(task, case, drawn_volume(), SCHEME) == first
    other = land_label_map(task, case, drawn_volume(last=7), SCHEME)
    assert other.key != first.key and other.digest != first.digest
    assert len(newest_revisions(task, case.case)) == 2


def test_label_studio_gets_the_label_map_on_the_offered_slices_only(tmp_path: Path) -> None:
    task = make_task(tmp_path)
    case = make_volume_case(task, most=4)
    assert case.volume is not None and case.volume.key_slices == (0, 4, 7, 11)
    record = land_label_map(task, case, drawn_volume(), SCHEME)
    shown = shown_results(task, record, case, SCHEME)
    plane = case.volume.plane
    seen_XYZ = label_volume_from_results(shown, SCHEME, plane, case.volume.key_slices)
    for index in range(SIDES[2]):
        expected = drawn_volume()[..., index] if index in (4, 7) else 0
        assert np.array_equal(seen_XYZ[..., index], np.zeros(SIDES[:2]) + expected)
    repeated = replace(record, results=tuple(shown), label_map=None)
    assert repeated.digest == record.shown_digest != record.digest

    payload = task_payload(
        task.name, case, [record], results_of=lambda one: shown_results(task, one, case, SCHEME)
    )
    assert payload["annotations"][0]["result"] == shown
    with pytest.raises(CodecError, match="is a label map"):
        task_payload(task.name, case, [record])


def test_results_in_a_record_are_shown_as_they_are(tmp_path: Path) -> None:
    task = make_task(tmp_path)
    case = make_volume_case(task)
    answer(task, case.case, [{"id": "a"}])
    (record,) = current_answers(task, case.case)
    assert shown_results(task, record, case, SCHEME) == [{"id": "a"}]


def test_what_is_no_label_map_of_the_volume_does_not_land(tmp_path: Path) -> None:
    task = make_task(tmp_path)
    case = make_volume_case(task, most=2)
    beyond = drawn_volume()
    beyond[4, 4, 4] = 3  # on a slice that is not shown
    for labels_XYZ, error in (
        (beyond, CodecError),
        (drawn_volume().astype(np.uint16), CodecError),
        (drawn_volume()[:-1], GridMismatchError),
    ):
        with pytest.raises(error):
            land_label_map(task, case, labels_XYZ, SCHEME)
    with pytest.raises(RecordError, match="is a picture"):
        land_label_map(task, replace(case, volume=None), drawn_volume(), SCHEME)
    assert newest_revisions(task, case.case) == []
