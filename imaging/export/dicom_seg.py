"""DICOM-SEG: each case's label map beside the series that it was drawn on, de-identified.

    <split>/<case>/series/0001.dcm …   the images as they lie in rawdata, headers de-identified
    <split>/<case>/seg.dcm             one binary segment for each label; refers to those images

The series are found in rawdata by the hashes that ingest wrote into the case, and their voxels are
compared with the case's: where text was blanked after quarantine, rawdata still shows it, and
nothing is exported. What is left out stands in the manifest with its reason.
"""

import itertools
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage, MRImageStorage

from imaging.dataset.quarantine import series_key
from imaging.deid.identity import remapped_uid
from imaging.deid.profile import deidentify
from imaging.errors import ExportError, ImagingError
from imaging.export.folder import Export, ExportCase, Progress
from imaging.io.dicom.header import DAMAGE, quiet, text_of, whole_dataset
from imaging.io.dicom.read import read_series
from imaging.io.dicom.series import Series, sort_dicom
from imaging.io.dicom.write import write_seg
from imaging.io.nifti import read_label_volume, read_nifti
from imaging.publish import sha256_of

NOT_DICOM = (".nii", ".nii.gz", ".nrrd", ".csv", ".json", ".yaml", ".txt", ".md", ".png", ".jpg")
SEG = "seg.dcm"


def fill_dicom_seg(rawdata: Path, secret: str) -> Callable[..., None]:
    """What `export_snapshot` calls to write the cases of a task.

    Args:
        rawdata: the task's folder of the files as they were dropped.
        secret: the lab's pseudonym key, as ingest used it.
    """

    def fill(export: Export, cases: Sequence[ExportCase], progress: Progress) -> None:
        sources = _Sources(rawdata, lambda: progress(0, len(cases)))
        for done, case in enumerate(cases, start=1):
            try:
                _write(export, case, sources.of(case), secret)
            except (ImagingError, OSError) as error:
                export.leave_out(case, str(error))
            progress(done, len(cases))
        if len(export.left_out) == len(cases):
            reasons = "; ".join(sorted(set(export.left_out.values())))
            raise ExportError(f"no case can be written: {reasons:.500}")

    return fill


class _Sources:
    """The series in rawdata, by the hashes of their files."""

    def __init__(self, rawdata: Path, beat: Callable[[], None]) -> None:
        files = list(_candidates(rawdata))
        self._by_patient: dict[str, list[tuple[Series, list[str]]]] = defaultdict(list)
        for series in sort_dicom(files, beat).series:
            digests = []
            for file in series.files:
                digests.append(sha256_of(file))
                beat()
            self._by_patient[series.patient].append((series, digests))

    def of(self, case: ExportCase) -> tuple[Series, ...]:
        """The series of a case, one for each channel, in any order.

        Raises:
            ExportError: it did not come from DICOM, or its files are no longer there.
        """
        volume = case.record.volume
        if volume is None or not volume.headers:
            raise ExportError("it did not come from DICOM")
        for found in self._by_patient.values():
            for some in itertools.combinations(found, len(volume.images)):
                digests = [digest for _, mine in some for digest in mine]
                if series_key(digests) == case.record.source.sha256:
                    return tuple(series for series, _ in some)
        raise ExportError("its DICOM files are no longer in rawdata")


def _candidates(rawdata: Path) -> Iterator[Path]:
    for path in sorted(rawdata.rglob("*")):
        parts = path.relative_to(rawdata).parts
        is_other = path.name.casefold().endswith(NOT_DICOM)
        is_hidden = any(part.startswith(".") for part in parts)
        if not (is_other or is_hidden or path.is_symlink()) and path.is_file():
            yield path


def _write(export: Export, case: ExportCase, found: Sequence[Series], secret: str) -> None:
    volume = case.record.volume
    if volume is None:
        raise ExportError("it did not come from DICOM")
    labels_XYZ = read_label_volume(case.labels, volume.grid)
    if not labels_XYZ.any():
        raise ExportError("its label map is empty, which a DICOM segmentation cannot say")
    series = _first_channel(case, found)
    place = f"{case.frozen.split}/{case.name}"
    headers = []
    for number, source in enumerate(zip(series.files, series.headers, strict=True), start=1):
        name = f"{place}/series/{number:04d}.dcm"
        headers.append(_write_image(source, export.place(name), case.name, secret))
        export.add(name)
    target = export.place(f"{place}/{SEG}")
    try:
        # The label map lies on the case's grid; the series' own is the same, as was just compared.
        write_seg(target, labels_XYZ, export.snapshot.scheme, volume.grid, headers)
    except DAMAGE as error:
        text = f"its headers are not fit to be referred to ({type(error).__name__})"
        raise ExportError(text) from error
    export.add(f"{place}/{SEG}")


def _first_channel(case: ExportCase, found: Sequence[Series]) -> Series:
    """The series that shows what the case's first channel shows, voxel by voxel.

    Raises:
        ExportError: none does: something was blanked on the way.
    """
    expected = read_nifti(case.frozen.image)
    for series in found:
        volume = read_series(series)
        if volume.grid.is_same(expected.grid) and np.array_equal(
            volume.voxels_CXYZ, expected.voxels_CXYZ
        ):
            return series
    raise ExportError(
        "its pixels in rawdata are not the case's: text was blanked on the way in, and would show"
    )


def _write_image(source: tuple[Path, Dataset], target: Path, case: str, secret: str) -> Dataset:
    """Write one de-identified file; its header without the pixels.

    The header that was read before knows the transfer syntax where the file does not say it.

    Raises:
        ExportError: pydicom cannot write it. Its words may name the patient, so they are not told.
    """
    try:
        with quiet():
            made = deidentify(whole_dataset(*source), secret)
            _complete(made, case, sha256_of(source[0]), secret)
            made.save_as(target, enforce_file_format=True)
    except DAMAGE as error:
        raise ExportError(f"a DICOM file cannot be written ({type(error).__name__})") from error
    if "PixelData" in made:
        del made.PixelData
    return made


def _complete(made: Dataset, case: str, sha256: str, secret: str) -> None:
    """Give a file the identifiers that an anonymiser took away: a segmentation refers to them."""
    if not text_of(made, "SOPClassUID"):
        made.SOPClassUID = MRImageStorage if made.get("Modality") == "MR" else CTImageStorage
    if not text_of(made, "SOPInstanceUID"):
        made.SOPInstanceUID = remapped_uid(secret, sha256)
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID"):
        if not text_of(made, keyword):
            setattr(made, keyword, remapped_uid(secret, f"{keyword} of {case}"))
    made.file_meta.MediaStorageSOPClassUID = made.SOPClassUID
    made.file_meta.MediaStorageSOPInstanceUID = made.SOPInstanceUID
