"""A submission: what is written passes, and whatever a challenge would turn down is refused."""

import gzip
import struct
import warnings
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy as np
import pytest
from numpy.typing import NDArray

from imaging.errors import SubmissionError
from imaging.export.challenge import ChallengeVolume, find_test_volumes, grid_of_file
from imaging.export.submission import check_submission, write_submission
from imaging.io.nifti import read_label_volume, write_nifti
from imaging.labels import LabelScheme
from imaging.volume import Volume
from tests.imaging.export.lab import SCHEME, truth_of, volume_of

NAMES = ("amos_0008.nii.gz", "amos_0011.nii.gz")


@dataclass(frozen=True)
class Drawn:
    labels_XYZ: NDArray[np.uint8]


class Painter:
    """Draws what it is told, one volume at a time."""

    def __init__(self, labels_XYZ: NDArray[np.uint8] | None = None) -> None:
        self.labels_XYZ = labels_XYZ
        self.asked: list[int] = []

    @property
    def scheme(self) -> LabelScheme:
        return SCHEME

    def predict(self, images: Sequence[Volume]) -> list[Drawn]:
        self.asked.append(len(images))
        labels_XYZ = truth_of(1, images[0].grid) if self.labels_XYZ is None else self.labels_XYZ
        return [Drawn(labels_XYZ)]


@pytest.fixture
def tests(tmp_path: Path) -> Sequence[ChallengeVolume]:
    (tmp_path / "raw" / "imagesTs").mkdir(parents=True)
    for number, name in enumerate(NAMES):
        volume = volume_of(number)
        write_nifti(tmp_path / "raw" / "imagesTs" / name, volume.voxels_CXYZ[0], volume.grid)
    return find_test_volumes(tmp_path / "raw", 1)


@pytest.fixture
def made(tmp_path: Path, tests: Sequence[ChallengeVolume]) -> Path:
    write_submission(tmp_path / "answers.zip", tests, Painter())
    return tmp_path / "answers.zip"


def check(path: Path, tests: Sequence[ChallengeVolume]) -> None:
    grids = {one.answer: grid_of_file(one.files[0]) for one in tests}
    check_submission(path, grids, SCHEME)


def changed(path: Path, name: str, image: nibabel.Nifti1Image | bytes | None) -> Path:
    """The zip with one file replaced, added or, for None, left out."""
    target = path.with_name("changed.zip")
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(target, "w") as new:
        for other in old.namelist():
            if other != name:
                new.writestr(other, old.read(other))
        if isinstance(image, nibabel.Nifti1Image):
            file = path.with_name("one.nii.gz")
            nibabel.save(image, file)
            new.writestr(name, file.read_bytes())
        elif image is not None:
            new.writestr(name, image)
    return target


def one_of(path: Path) -> nibabel.Nifti1Image:
    with zipfile.ZipFile(path) as archive:
        archive.extract(NAMES[0], path.parent / "unpacked")
    return nibabel.load(path.parent / "unpacked" / NAMES[0])


def test_the_zip_is_flat_and_holds_the_answers_on_the_images_grids(
    made: Path, tests: Sequence[ChallengeVolume]
) -> None:
    check(made, tests)
    with zipfile.ZipFile(made) as archive:
        assert archive.namelist() == list(NAMES)
        archive.extractall(made.parent / "out")
    for test in tests:
        image = nibabel.load(test.files[0])
        answer = nibabel.load(made.parent / "out" / test.answer)
        assert answer.shape == image.shape and answer.get_data_dtype() == np.uint8
        assert np.allclose(answer.affine, image.affine, atol=1e-6)
        grid = grid_of_file(test.files[0])
        labels_XYZ = read_label_volume(made.parent / "out" / test.answer, grid)
        assert np.array_equal(labels_XYZ, truth_of(1, grid))


def test_simpleitk_sees_image_and_answer_on_one_grid(
    made: Path, tests: Sequence[ChallengeVolume]
) -> None:
    """Most challenges evaluate with it, and it reads other header fields than nibabel."""
    sitk = pytest.importorskip("SimpleITK")
    with zipfile.ZipFile(made) as archive:
        archive.extractall(made.parent / "out")
    for test in tests:
        image = sitk.ReadImage(str(test.files[0]))
        answer = sitk.ReadImage(str(made.parent / "out" / test.answer))
        assert answer.GetSize() == image.GetSize()
        for what in ("GetSpacing", "GetOrigin", "GetDirection"):
            assert np.allclose(getattr(answer, what)(), getattr(image, what)(), atol=1e-5)


def test_volumes_are_answered_one_at_a_time_and_told(
    tmp_path: Path, tests: Sequence[ChallengeVolume]
) -> None:
    painter, told = Painter(), []
    write_submission(
        tmp_path / "a.zip", tests, painter, lambda name, done, of: told.append((name, done, of))
    )
    assert painter.asked == [1, 1]
    assert told == [("amos_0008", 0, 2), ("amos_0011", 1, 2), ("", 2, 2)]


def test_a_zip_that_is_there_is_not_replaced(made: Path, tests: Sequence[ChallengeVolume]) -> None:
    before = made.read_bytes()
    with pytest.raises(SubmissionError, match="exists"):
        write_submission(made, tests, Painter())
    assert made.read_bytes() == before


@pytest.mark.parametrize(
    ("labels_XYZ", "words"),
    [
        (np.zeros((2, 3, 4), np.uint8), "answered uint8"),
        (np.full((6, 7, 5), 3, np.uint8), r"values 3, expected 0 to 2"),
    ],
)
def test_a_model_that_draws_what_it_may_not_leaves_no_zip(
    tmp_path: Path, tests: Sequence[ChallengeVolume], labels_XYZ: NDArray[np.uint8], words: str
) -> None:
    with pytest.raises(SubmissionError, match=words):
        write_submission(tmp_path / "a.zip", tests, Painter(labels_XYZ))
    assert {path.name for path in tmp_path.iterdir()} == {"raw"}


def test_a_missing_a_strange_and_a_nested_file_are_refused(
    made: Path, tests: Sequence[ChallengeVolume]
) -> None:
    with pytest.raises(SubmissionError, match="missing: amos_0008"):
        check(changed(made, NAMES[0], None), tests)
    with pytest.raises(SubmissionError, match=r"not asked for: proof\.json"):
        check(changed(made, "proof.json", b"{}"), tests)
    with pytest.raises(SubmissionError, match="expected a flat zip: results/"):
        check(changed(made, f"results/{NAMES[0]}", b"x"), tests)


def test_a_file_that_is_there_twice_is_refused(
    made: Path, tests: Sequence[ChallengeVolume]
) -> None:
    with warnings.catch_warnings(), zipfile.ZipFile(made, "a") as archive:
        warnings.simplefilter("ignore")
        archive.writestr(NAMES[0], b"x")
    with pytest.raises(SubmissionError, match="twice: amos_0008"):
        check(made, tests)


def test_another_shape_is_refused(made: Path, tests: Sequence[ChallengeVolume]) -> None:
    image = one_of(made)
    short = np.asarray(image.dataobj)[:-1]
    with pytest.raises(SubmissionError, match="shape 6 × 6 × 5, its image has 7 × 6 × 5"):
        check(changed(made, NAMES[0], nibabel.Nifti1Image(short, image.affine)), tests)


@pytest.mark.parametrize("change", ["moved", "mirrored", "turned"])
def test_another_affine_is_refused(
    made: Path, tests: Sequence[ChallengeVolume], change: str
) -> None:
    image = one_of(made)
    stored, affine = np.asarray(image.dataobj), image.affine.copy()
    if change == "moved":
        affine[0, 3] += 0.1
    elif change == "mirrored":  # the same places, but stored the other way round
        affine = affine @ np.array([[-1, 0, 0, 6], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
        stored = stored[::-1]
    else:
        affine[:3, :3] = np.diag([0.9, 0.8, 2.5])
    other = changed(made, NAMES[0], nibabel.Nifti1Image(stored, affine))
    with pytest.raises(SubmissionError, match=r"amos_0008\.nii\.gz: affine"):
        check(other, tests)


def test_an_affine_that_is_no_number_is_refused(
    made: Path, tests: Sequence[ChallengeVolume]
) -> None:
    with zipfile.ZipFile(made) as archive:
        plain = bytearray(gzip.decompress(archive.read(NAMES[0])))
    plain[280:284] = struct.pack("<f", np.nan)  # srow_x[0]
    with pytest.raises(SubmissionError, match=r"amos_0008\.nii\.gz: affine"):
        check(changed(made, NAMES[0], gzip.compress(bytes(plain))), tests)


@pytest.mark.parametrize("change", ["label", "float", "scaled"])
def test_other_values_are_refused(
    made: Path, tests: Sequence[ChallengeVolume], change: str
) -> None:
    image = one_of(made)
    stored = np.asarray(image.dataobj).copy()
    if change == "label":
        stored[3, 3, 3] = 9
    elif change == "float":
        stored = stored.astype(np.float32)
    other = nibabel.Nifti1Image(stored, image.affine)
    if change == "scaled":
        other.header.set_slope_inter(0.5, 0)
    with pytest.raises(SubmissionError, match=r"values 9|whole numbers"):
        check(changed(made, NAMES[0], other), tests)


@pytest.mark.parametrize("content", [b"", b"no volume", b"\x1f\x8b\x08\x00broken", bytes(400)])
def test_what_is_no_volume_is_refused(
    made: Path, tests: Sequence[ChallengeVolume], content: bytes
) -> None:
    with pytest.raises(SubmissionError, match="no NIfTI file that can be read"):
        check(changed(made, NAMES[0], content), tests)


def test_a_truncated_volume_is_refused(made: Path, tests: Sequence[ChallengeVolume]) -> None:
    with zipfile.ZipFile(made) as archive:
        whole = archive.read(NAMES[0])
    with pytest.raises(SubmissionError, match=r"amos_0008\.nii\.gz"):
        check(changed(made, NAMES[0], whole[:-30]), tests)


def test_a_file_far_too_large_is_not_even_unpacked(
    made: Path, tests: Sequence[ChallengeVolume]
) -> None:
    with pytest.raises(SubmissionError, match="bytes are too many for 7 × 6 × 5 voxels"):
        check(changed(made, NAMES[0], bytes(2 << 20)), tests)


def test_what_is_no_zip_is_refused(tmp_path: Path, tests: Sequence[ChallengeVolume]) -> None:
    (tmp_path / "a.zip").write_text("no zip")
    for name in ("a.zip", "gone.zip"):
        with pytest.raises(SubmissionError, match="no zip that can be read"):
            check(tmp_path / name, tests)
