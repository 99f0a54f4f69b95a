"""The test set of a challenge: which files make which volume."""

import json
from pathlib import Path

import nibabel
import numpy as np
import pytest

from imaging.errors import SubmissionError
from imaging.export.challenge import (
    find_test_volumes,
    grid_of_file,
    one_volume,
    read_channels,
)
from imaging.io.nifti import write_nifti
from imaging.volume import grid_of, to_stored
from tests.imaging.export.lab import volume_of


def drop(rawdata: Path, *names: str) -> Path:
    for number, name in enumerate(names):
        volume = volume_of(number)
        (rawdata / "imagesTs").mkdir(parents=True, exist_ok=True)
        write_nifti(rawdata / "imagesTs" / name, volume.voxels_CXYZ[0], volume.grid)
    return rawdata


def answers(rawdata: Path, channels: int = 1) -> dict[str, list[str]]:
    found = find_test_volumes(rawdata, channels)
    return {one.answer: [path.name for path in one.files] for one in found}


def test_four_digits_of_a_challenge_are_no_channel(tmp_path: Path) -> None:
    """AMOS numbers its volumes so; without the rule all would be channels of `amos`."""
    drop(tmp_path, "amos_0008.nii.gz", "amos_0000.nii.gz")
    assert set(answers(tmp_path)) == {"amos_0008.nii.gz", "amos_0000.nii.gz"}


def test_a_channel_that_every_file_names_is_taken_off(tmp_path: Path) -> None:
    drop(tmp_path, "amos_0008_0000.nii.gz", "amos_0009_0000.nii.gz")
    assert set(answers(tmp_path)) == {"amos_0008.nii.gz", "amos_0009.nii.gz"}


def test_channels_of_one_volume_are_one_answer(tmp_path: Path) -> None:
    drop(tmp_path, "a_0001.nii.gz", "a_0000.nii.gz", "b_0000.nii.gz", "b_0001.nii.gz")
    assert answers(tmp_path, 2) == {
        "a.nii.gz": ["a_0000.nii.gz", "a_0001.nii.gz"],
        "b.nii.gz": ["b_0000.nii.gz", "b_0001.nii.gz"],
    }


def test_channels_are_stacked_in_order(tmp_path: Path) -> None:
    drop(tmp_path, "a_0000.nii.gz", "a_0001.nii.gz")
    channels = read_channels(find_test_volumes(tmp_path, 2)[0])
    stacked = one_volume(channels).voxels_CXYZ
    assert np.array_equal(stacked[1], volume_of(1).voxels_CXYZ[0])
    assert one_volume(channels[:1]) is channels[0]


def test_a_file_that_holds_all_channels_is_one_volume(tmp_path: Path) -> None:
    first, second = (volume_of(number) for number in (0, 1))
    stored = [to_stored(one.voxels_CXYZ[0], first.grid) for one in (first, second)]
    image = nibabel.Nifti1Image(np.stack(stored, axis=3), np.array(first.grid.stored_affine))
    (tmp_path / "imagesTs").mkdir()
    nibabel.save(image, tmp_path / "imagesTs" / "BRATS_485.nii.gz")
    (test,) = find_test_volumes(tmp_path, 2)
    found = one_volume(read_channels(test))
    assert test.answer == "BRATS_485.nii.gz" and found.grid.is_same(first.grid)
    assert np.array_equal(found.voxels_CXYZ[1], second.voxels_CXYZ[0])
    assert grid_of_file(test.files[0]).is_same(first.grid)


@pytest.mark.parametrize(
    ("names", "channels", "words"),
    [
        (["a_0000.nii.gz", "b_0000.nii.gz", "b_0001.nii.gz"], 2, "a_0001 is missing"),
        (["a_0000.nii.gz", "a_0001.nii.gz", "c.nii.gz"], 2, "c.nii.gz: expected a channel"),
        (["a.nii.gz", "a.nii"], 1, "would have one answer"),
    ],
)
def test_what_does_not_fit_together_is_named(
    tmp_path: Path, names: list[str], channels: int, words: str
) -> None:
    with pytest.raises(SubmissionError, match=words):
        find_test_volumes(drop(tmp_path, *names), channels)


def test_a_stranger_is_refused_and_texts_are_passed_over(tmp_path: Path) -> None:
    drop(tmp_path, "a.nii.gz")
    for name in ("README.txt", ".DS_Store", "Thumbs.db", "list.csv"):
        (tmp_path / "imagesTs" / name).write_text("x")
    assert set(answers(tmp_path)) == {"a.nii.gz"}
    (tmp_path / "imagesTs" / "b.mha").write_text("x")
    (tmp_path / "imagesTs" / "more").mkdir()
    with pytest.raises(SubmissionError, match=r"(?s)b\.mha.*more"):
        find_test_volumes(tmp_path, 1)


def test_no_folder_and_an_empty_one_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SubmissionError, match="no such folder"):
        find_test_volumes(tmp_path, 1)
    (tmp_path / "imagesTs").mkdir()
    with pytest.raises(SubmissionError, match="no volumes"):
        find_test_volumes(tmp_path, 1)


@pytest.mark.parametrize("as_records", [False, True])
def test_a_volume_that_the_challenge_lists_must_be_there(tmp_path: Path, as_records: bool) -> None:
    drop(tmp_path, "a.nii.gz")
    names = ["./imagesTs/a.nii.gz", "./imagesTs/b.nii.gz"]
    listed = [{"image": name} for name in names] if as_records else names
    (tmp_path / "dataset.json").write_text(json.dumps({"test": listed}))
    with pytest.raises(SubmissionError, match=r"b\.nii\.gz is in dataset\.json") as error:
        find_test_volumes(tmp_path, 1)
    assert len(error.value.problems) == 1


def test_channels_on_two_grids_are_refused(tmp_path: Path) -> None:
    drop(tmp_path, "a_0000.nii.gz")
    volume = volume_of(1)
    moved = np.array(volume.grid.stored_affine) + np.diag([0, 0, 0.2, 0])
    path = tmp_path / "imagesTs" / "a_0001.nii.gz"
    write_nifti(path, volume.voxels_CXYZ[0], grid_of(volume.grid.stored_shape, moved))
    with pytest.raises(SubmissionError, match="a_0001"):
        read_channels(find_test_volumes(tmp_path, 2)[0])


def test_channels_whose_headers_were_rounded_are_one_volume(tmp_path: Path) -> None:
    """Ingest takes such channels to train on; a test set is not told by another measure."""
    drop(tmp_path, "a_0000.nii.gz")
    volume = volume_of(1)
    moved = np.array(volume.grid.stored_affine)
    moved[:3, 3] += 0.02  # mm, of voxels of 0.8
    path = tmp_path / "imagesTs" / "a_0001.nii.gz"
    write_nifti(path, volume.voxels_CXYZ[0], grid_of(volume.grid.stored_shape, moved))
    (test,) = find_test_volumes(tmp_path, 2)
    assert len(read_channels(test)) == 2


def test_a_header_says_the_grid_and_a_damaged_one_is_named(tmp_path: Path) -> None:
    drop(tmp_path, "a.nii.gz")
    path = tmp_path / "imagesTs" / "a.nii.gz"
    assert grid_of_file(path).is_same(volume_of(0).grid)
    path.write_bytes(b"no volume at all")
    with pytest.raises(SubmissionError, match=r"a\.nii\.gz"):
        grid_of_file(path)
