"""The files of one case as a snapshot names them: looked up, hashed and checked.

Images stay where they are and are named by their hash; label maps are written into the snapshot,
or linked from the one before when nothing about the case has changed.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from imaging.dataset.annotations import AnnotationRecord
from imaging.dataset.base import files_behind
from imaging.dataset.cases import CaseRecord
from imaging.dataset.manifest import AnswerFile, ImageFile, Snapshot, SnapshotCase
from imaging.dataset.truth import Truth
from imaging.errors import SnapshotError
from imaging.io.nifti import SUFFIX, write_label_volume
from imaging.io.picture import write_label_map
from imaging.layout import TaskFolder
from imaging.publish import MANIFEST, link_or_copy, read_json, sha256_of

LABELS = "labels"


@dataclass
class CaseFiles:
    """Makes the entries of one snapshot, in its staging folder."""

    task: TaskFolder
    staging: Path
    newest: Snapshot | None  # whose files need not be read again

    def __post_init__(self) -> None:
        cases = self.newest.cases if self.newest else ()
        self.hashed = {file.path: file.sha256 for case in cases for file in case.images}
        self.hashed_ns = _modified_ns(self.newest.folder / MANIFEST) if self.newest else 0

    def answers(self, case_id: str, records: Sequence[AnnotationRecord]) -> tuple[AnswerFile, ...]:
        """The landed files that the truth of a case is made from, with their hashes now.

        Args:
            case_id: the case.
            records: the newest revision of every annotation of it.

        Raises:
            SnapshotError: a label map is not beside its record.
        """
        folder = self.task.case_annotations(case_id)
        paths = [folder / name for name in files_behind(records)]
        lost = [path.name for path in paths if path.name.endswith(SUFFIX) and not path.is_file()]
        if lost:
            raise SnapshotError(f"the imported label map {lost[0]} is gone")
        return tuple(
            AnswerFile(path.relative_to(self.task.root).as_posix(), sha256_of(path))
            for path in paths
        )

    def unchanged(
        self, known: SnapshotCase, case: CaseRecord, answers: tuple[AnswerFile, ...]
    ) -> SnapshotCase | None:
        """The case as the newest snapshot has it, if nothing about it has changed."""
        if known.answers != answers:
            return None
        images = self._images(case)
        if known.images != images:
            return None
        entry = replace(known, patient=case.patient, split="train")
        if known.labels is None:
            return entry
        labels = self._labels(case)
        if not _has_hash(known.labels, str(known.labels_sha256)):
            return None
        link_or_copy(known.labels, labels)
        return replace(entry, labels=labels)

    def made(self, case: CaseRecord, answers: tuple[AnswerFile, ...], truth: Truth) -> SnapshotCase:
        """The case with its truth, which is written where it is a label map."""
        first, *more = self._images(case)
        labels = self._written(case, truth)
        return SnapshotCase(
            case=case.case,
            patient=case.patient,
            split="train",  # until everybody is assigned
            image=first.path,
            image_sha256=first.sha256,
            labels=labels,
            classes=truth.classes,
            labels_sha256=None if labels is None else sha256_of(labels),
            present=truth.present,
            answers=answers,
            more_images=tuple(more),
            interpolated=truth.interpolated,
        )

    def _written(self, case: CaseRecord, truth: Truth) -> Path | None:
        if truth.labels_XYZ is not None and case.volume is not None:
            write_label_volume(self._labels(case), truth.labels_XYZ, case.volume.grid)
        elif truth.labels_HW is not None:
            write_label_map(self._labels(case), truth.labels_HW)
        else:
            return None
        return self._labels(case)

    def _labels(self, case: CaseRecord) -> Path:
        folder = self.staging / LABELS
        folder.mkdir(exist_ok=True)
        return folder / f"{case.case}{'.png' if case.volume is None else SUFFIX}"

    def _images(self, case: CaseRecord) -> tuple[ImageFile, ...]:
        """The images of a case, each as it was taken in.

        Raises:
            SnapshotError: one is gone, has changed, or was never listed.
        """
        folder = self.task.case(case.case)
        hashes = read_json(folder / MANIFEST).get("files", {})
        names = (case.image,) if case.volume is None else case.volume.images
        for name in names:
            if name not in hashes:
                raise SnapshotError(f"the manifest of {case.case} does not list {name}")
            self._check_image(folder / name, str(hashes[name]))
        return tuple(ImageFile(folder / name, str(hashes[name])) for name in names)

    def _check_image(self, image: Path, expected: str) -> None:
        """Make sure that an image is as it was taken in: else nobody could load the snapshot.

        One that the newest snapshot has and nobody wrote to since is not read again: all images
        of a large task take minutes.

        Raises:
            SnapshotError: it is gone or has changed.
        """
        try:
            is_old = self.hashed.get(image) == expected and _modified_ns(image) < self.hashed_ns
            is_whole = is_old or sha256_of(image) == expected
        except OSError as error:
            raise SnapshotError(f"its image cannot be read: {error}") from error
        if not is_whole:
            raise SnapshotError(f"its image {image.name} has changed since it was taken in")


def _modified_ns(path: Path) -> int:
    return path.stat().st_mtime_ns


def _has_hash(path: Path, expected: str) -> bool:
    try:
        return sha256_of(path) == expected
    except OSError:
        return False
