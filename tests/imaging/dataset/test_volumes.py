"""Volumes in snapshots and in data/; what people said about slices is in test_truth."""

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from imaging.dataset import snapshot as snapshot_module
from imaging.dataset import truth as truth_module
from imaging.dataset.cases import load_case
from imaging.dataset.snapshot import freeze_snapshot, load_snapshot, newest_snapshot
from imaging.dataset.verify import problems_of
from imaging.dataset.view import show_snapshot
from imaging.errors import CorruptFolderError
from imaging.io.nifti import read_label_volume, read_nifti
from imaging.labels import label_scheme
from imaging.publish import read_json, sha256_of
from imaging.task import AnnotationPolicy
from tests.imaging.dataset.lab import (
    LPS,
    SEGMENTATION,
    SHAPE_XYZ,
    VOLUMES,
    block,
    import_label_map,
    label_cases,
    make_task,
    make_volume,
    publish_record,
)


def label_volumes(task, numbers, **fields):  # type: ignore[no-untyped-def]
    cases = []
    for number in numbers:
        cases.append(make_volume(task, number, **fields))
        import_label_map(task, cases[-1], block(1 + number % 4))
    return cases


def test_a_volumes_label_map_lies_on_the_images_own_grid(tmp_path: Path) -> None:
    task = make_task(tmp_path)
    cases = label_volumes(task, range(6))
    frozen = freeze_snapshot(task, VOLUMES)
    assert load_snapshot(frozen.folder) == frozen == newest_snapshot(task)
    assert problems_of(frozen) == []
    for number, name in enumerate(cases):
        case = next(one for one in frozen.cases if one.case == name)
        assert case.is_volume and case.labels is not None and case.present == ("liver",)
        assert case.labels.name == f"{name}.nii.gz"
        image = read_nifti(case.image)
        assert np.array_equal(read_label_volume(case.labels, image.grid), block(1 + number % 4))
        stored = read_nifti(case.labels).grid
        assert stored.stored_shape == SHAPE_XYZ
        assert np.array_equal(stored.stored_affine, LPS.astype(np.float32))  # as NIfTI has it


def test_the_imported_label_map_is_one_of_the_files_that_an_answer_is_made_of(
    tmp_path: Path,
) -> None:
    task = make_task(tmp_path)
    (case, *_) = label_volumes(task, range(4))
    frozen = freeze_snapshot(task, VOLUMES)
    files = {one.file: one.sha256 for one in _case(frozen, case).answers}
    folder = task.case_annotations(case)
    assert files == {
        path.relative_to(task.root).as_posix(): sha256_of(path) for path in folder.iterdir()
    }
    assert sorted(Path(file).suffix for file in files) == [".gz", ".json"]


def test_every_channel_is_named_and_checked(tmp_path: Path) -> None:
    task = make_task(tmp_path)
    (case, *_) = label_volumes(task, range(4), channels=("T1", "T2", "FLAIR"))
    frozen = freeze_snapshot(task, VOLUMES)
    one = _case(frozen, case)
    names = [image.path.name for image in one.images]
    assert names == [f"image_{number:04d}.nii.gz" for number in range(3)]
    assert all(image.sha256 == sha256_of(image.path) for image in one.images)
    one.images[2].path.write_bytes(b"another")
    with pytest.raises(CorruptFolderError, match=case):
        load_snapshot(frozen.folder)
    again = freeze_snapshot(task, VOLUMES)
    assert "image_0002.nii.gz has changed" in again.left_out[0].reason


def test_unchanged_label_maps_are_taken_over_and_an_equal_snapshot_is_not_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = make_task(tmp_path)
    label_volumes(task, range(4))
    first = freeze_snapshot(task, VOLUMES)
    read: list[str] = []
    truth_of = snapshot_module.truth_of
    monkeypatch.setattr(
        snapshot_module,
        "truth_of",
        lambda answers, case, *rest, **named: (
            read.append(case.case) or truth_of(answers, case, *rest, **named)
        ),
    )
    assert freeze_snapshot(task, VOLUMES).id == first.id and read == []
    (added,) = label_volumes(task, [9])
    second = freeze_snapshot(task, VOLUMES)
    assert read == [added] and second.id != first.id
    # Other rules for slices nobody drew: every label map is made again, and comes out the same.
    between = replace(VOLUMES, annotation=AnnotationPolicy(fill="between"))
    read.clear()
    assert freeze_snapshot(task, between).id == second.id and len(read) == 5


def test_a_label_map_that_changed_or_vanished_after_it_landed_is_left_out(tmp_path: Path) -> None:
    task = make_task(tmp_path)
    changed, gone, *_ = label_volumes(task, range(6))
    next(task.case_annotations(changed).glob("*.nii.gz")).write_bytes(b"other bytes")
    next(task.case_annotations(gone).glob("*.nii.gz")).unlink()
    frozen = freeze_snapshot(task, VOLUMES)
    reasons = {one.case: one.reason for one in frozen.left_out}
    assert "has changed since it landed" in reasons[changed] and "is gone" in reasons[gone]
    assert len(frozen.cases) == 4 and problems_of(frozen) == []


def test_a_label_map_follows_its_labels_names_when_their_order_changes(tmp_path: Path) -> None:
    task = make_task(tmp_path)
    cases = [make_volume(task, number) for number in range(4)]
    for case in cases:
        import_label_map(task, case, block(2), label_names=("liver", "kidney"))
    swapped = replace(VOLUMES, scheme=label_scheme(["kidney", "liver"]))
    frozen = freeze_snapshot(task, swapped)
    labels = frozen.cases[0].labels
    assert labels is not None and frozen.cases[0].present == ("liver",)
    grid = read_nifti(frozen.cases[0].image).grid
    assert np.array_equal(read_label_volume(labels, grid), block(2, index=2))
    import_label_map(task, cases[0], block(2, index=7), number=2)
    (left_out,) = freeze_snapshot(task, swapped).left_out
    assert "'number 7'" in left_out.reason and "kidney, liver" in left_out.reason


def test_pictures_and_volumes_do_not_train_together(tmp_path: Path) -> None:
    task = make_task(tmp_path)
    volumes = label_volumes(task, range(4))
    pictures = label_cases(task, range(4))
    reasons = {one.case: one.reason for one in freeze_snapshot(task, VOLUMES).left_out}
    assert reasons.keys() == set(pictures)
    assert "it is a picture" in reasons[pictures[0]] and "modality: CT" in reasons[pictures[0]]
    reasons = {one.case: one.reason for one in freeze_snapshot(task, SEGMENTATION).left_out}
    assert reasons.keys() == set(volumes) and "it is a volume" in reasons[volumes[0]]


def test_the_manifest_of_a_picture_says_nothing_of_volumes(tmp_path: Path) -> None:
    task = make_task(tmp_path)
    label_cases(task, range(4))
    frozen = freeze_snapshot(task, SEGMENTATION)
    record = read_json(frozen.folder / "manifest.json")
    assert "fill" not in record and "interpolated" not in record["cases"][0]


def test_the_view_shows_volumes_their_channels_and_what_people_noted(tmp_path: Path) -> None:
    task = make_task(tmp_path)
    cases = [
        *label_volumes(task, range(3)),
        *label_volumes(task, range(3, 6), channels=("T1", "T2")),
    ]
    for number, case in enumerate(cases[:4]):
        noted = {"age": str(40 + number), "split": "site A"}
        publish_record(task, replace(load_case(task.case(case)), metadata=noted))
    frozen = freeze_snapshot(task, VOLUMES)
    show_snapshot(task, frozen)
    with (task.data / "labels.csv").open(newline="") as stream:
        rows = {row["case"]: row for row in csv.DictReader(stream)}
    for number, name in enumerate(cases):
        case, row = _case(frozen, name), rows[name]
        ends = [""] if number < 3 else ["_0000", "_0001"]
        images = [f"{case.split}/images/{name}{end}.nii.gz" for end in ends]
        assert row["image"] == "|".join(images) and row["classes"] == "liver"
        assert row["mask"] == f"{case.split}/masks/{name}.nii.gz"
        for image, place in zip(case.images, images, strict=True):
            assert (task.data / place).read_bytes() == image.path.read_bytes()
        assert (task.data / row["mask"]).read_bytes() == case.labels.read_bytes()  # type: ignore[union-attr]
        assert row["age"] == (str(40 + number) if number < 4 else "")
        assert row["split"] == case.split
        assert row["split (cases.csv)"] == ("site A" if number < 4 else "")


def test_verify_finds_a_label_map_on_another_grid_and_other_channels(tmp_path: Path) -> None:
    task = make_task(tmp_path)
    label_volumes(task, range(4), channels=("T1", "T2"))
    frozen = freeze_snapshot(task, VOLUMES)
    moved, fewer = frozen.cases[:2]
    record = load_case(moved.image.parent)
    assert record.volume is not None
    affine = LPS.copy()
    affine[0, 3] += 1
    grid = replace(record.volume.grid, stored_affine=tuple(map(tuple, affine.tolist())))
    publish_record(task, replace(record, volume=replace(record.volume, grid=grid)))
    record = load_case(fewer.image.parent)
    assert record.volume is not None
    only_one = replace(record.volume, images=record.volume.images[:1])
    publish_record(task, replace(record, volume=only_one))
    problems = problems_of(frozen)
    assert len(problems) == 2
    assert moved.case in problems[0] and "image_0000.nii.gz, in the manifest" in problems[1]


def _case(frozen, name):  # type: ignore[no-untyped-def]
    return next(one for one in frozen.cases if one.case == name)


def test_a_library_that_is_not_installed_is_no_fault_of_the_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = make_task(tmp_path)
    label_volumes(task, range(4))

    def lacking(*_: object, **__: object) -> None:
        raise ModuleNotFoundError("No module named 'scipy'", name="scipy")

    monkeypatch.setattr(truth_module, "_volume_truth", lacking)
    with pytest.raises(ModuleNotFoundError):
        freeze_snapshot(task, VOLUMES)
    assert newest_snapshot(task) is None
