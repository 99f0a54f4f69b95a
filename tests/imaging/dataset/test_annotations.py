from pathlib import Path

from imaging.dataset.annotations import (
    AnnotationRecord,
    as_results,
    current_answers,
    land,
    newest_revisions,
)
from tests.imaging.dataset.lab import answer, make_case, make_task


def test_what_people_did_supersedes_the_label_that_came_with_the_image(tmp_path: Path) -> None:
    task = make_task(tmp_path)
    case = make_case(task, 1)
    answer(task, case, "normal", key="import-0123456789ab", origin="import", annotator="import")
    assert [one.key for one in current_answers(task, case)] == ["import-0123456789ab"]
    answer(task, case, "pneumonia", key="1-2")
    assert [one.key for one in current_answers(task, case)] == ["1-2"]
    answer(task, case, [], key="1-2", revision=2, deleted=True)
    assert current_answers(task, case) == []


def test_a_skip_leaves_the_label_that_came_with_the_image_as_it_is(tmp_path: Path) -> None:
    task = make_task(tmp_path)
    case = make_case(task, 1)
    answer(task, case, "normal", key="import-0123456789ab", origin="import", annotator="import")
    answer(task, case, [], key="5-5", skipped=True)
    assert [one.key for one in current_answers(task, case)] == ["import-0123456789ab"]
    answer(task, case, "pneumonia", key="5-6", annotator="4")
    assert [one.key for one in current_answers(task, case)] == ["5-6"]


def test_the_tenth_revision_is_newer_than_the_second(tmp_path: Path) -> None:
    task = make_task(tmp_path)
    case = make_case(task, 1)
    for revision in range(1, 12):
        answer(task, case, [{"id": str(revision)}], revision=revision)
    assert [one.revision for one in newest_revisions(task, case)] == [11]


def test_landing_twice_keeps_the_first_file(tmp_path: Path) -> None:
    task = make_task(tmp_path)
    case = make_case(task, 1)
    path = answer(task, case, "normal")
    before = path.read_bytes()
    assert answer(task, case, "pneumonia") == path
    assert path.read_bytes() == before


def test_half_a_surrogate_pair_and_a_payload_that_is_no_list_land_and_come_back(
    tmp_path: Path,
) -> None:
    task = make_task(tmp_path)
    case = make_case(task, 1)
    for number, payload in enumerate([[{"text": "\ud800"}], {"a": [1]}, None, ["x"], 7]):
        record = AnnotationRecord(
            case, f"1-{number}", "label_studio", str(number), "2026-01-01T00:00:00Z",
            as_results(payload),
        )  # fmt: skip
        land(task, record)
        back = next(one for one in newest_revisions(task, case) if one.key == record.key)
        assert back == record and back.digest == record.digest
        assert back.readable == (number == 0)


def test_a_digest_is_about_the_answer_and_not_about_who_gave_it(tmp_path: Path) -> None:
    one, other, skipped = (
        AnnotationRecord("case-1", "1-1", "label_studio", who, when, ({"a": 1, "b": 2},), **more)
        for who, when, more in (
            ("3", "2026-01-01T00:00:00Z", {}),
            ("4", "2026-01-02T00:00:00Z", {"revision": 2}),
            ("3", "2026-01-01T00:00:00Z", {"skipped": True}),
        )
    )
    assert one.digest == other.digest != skipped.digest
