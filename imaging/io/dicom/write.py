"""Label maps as DICOM objects that refer to the series they were drawn on: SEG and RTSTRUCT.

highdicom writes segmentations; it knows what the standard asks of them. Nothing kept writes a
structure set whose outlines lead back to the very same voxels, so pydicom writes ours.
Patient and study come from the source's headers, de-identified or not: whoever passes them
decides what the object says.
"""

import copy
from collections.abc import Sequence
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path

import highdicom
import numpy as np
from highdicom.color import CIELabColor
from highdicom.seg import SegmentationTypeValues, SegmentDescription
from highdicom.sr import CodedConcept
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    CTImageStorage,
    EnhancedCTImageStorage,
    ExplicitVRLittleEndian,
    MRImageStorage,
    RTStructureSetStorage,
    generate_uid,
)

from imaging.errors import GridMismatchError, VolumeError
from imaging.io.dicom.geometry import TO_RAS
from imaging.io.dicom.header import quiet, text_of
from imaging.io.dicom.outline import outlines
from imaging.labels import Label, LabelScheme
from imaging.publish import write_bytes
from imaging.volume import FloatArray, Grid, to_stored

LabelArray = NDArray[np.uint8]
MAKER = "Labloop"
SCHEME = "99LABLOOP"  # private code strings begin with 99
CATEGORY = CodedConcept("91723000", "SCT", "Anatomical structure")
# What an object takes over from its source; type 2 of the patient and study modules.
PATIENT_AND_STUDY = (
    "PatientID", "PatientName", "PatientBirthDate", "PatientSex", "StudyInstanceUID", "StudyID",
    "StudyDate", "StudyTime", "AccessionNumber", "ReferringPhysicianName",
)  # fmt: skip


def write_seg(
    path: Path,
    labels_XYZ: LabelArray,
    scheme: LabelScheme,
    grid: Grid,
    source: Sequence[Dataset],
) -> None:
    """Write a DICOM segmentation, one binary segment for each label of the scheme.

    Args:
        path: where to; written in one step.
        labels_XYZ: one index per voxel.
        scheme: names and colours.
        grid: of the series, as `read_series` gave it; frames lie in its planes.
        source: the series' headers, in slice order.

    Raises:
        GridMismatchError: the label map does not lie on the grid.
        VolumeError: reason `label-values`: there is nothing in it; SEG cannot say that.
    """
    _check(labels_XYZ, grid)
    if not labels_XYZ.any():
        raise VolumeError(
            "a label map without any label, which a DICOM segmentation cannot hold",
            reason="label-values",
            hint="Export the cases that show a label, or as NIfTI.",
        )
    with quiet():
        headers = [_completed(header) for header in source]
        volume = highdicom.Volume(
            to_stored(labels_XYZ, grid).transpose(2, 1, 0),
            _slices_first(grid),
            coordinate_system="PATIENT",
            frame_of_reference_uid=headers[0].FrameOfReferenceUID,
        )
        made = highdicom.seg.Segmentation(
            source_images=headers,
            pixel_array=volume,
            segmentation_type=SegmentationTypeValues.BINARY,
            segment_descriptions=[_described(label) for label in scheme.labels],
            series_instance_uid=generate_uid(),
            series_number=1,
            sop_instance_uid=generate_uid(),
            instance_number=1,
            manufacturer=MAKER,
            manufacturer_model_name=MAKER,
            software_versions=MAKER,
            device_serial_number="1",
            content_label="LABELS",
        )
        _save(made, path)


def write_rtstruct(
    path: Path,
    labels_XYZ: LabelArray,
    scheme: LabelScheme,
    grid: Grid,
    source: Sequence[Dataset],
) -> None:
    """Write a structure set, one structure for each label of the scheme.

    Outlines run between pixels, so that reading them (a voxel belongs to a structure when its
    centre is inside) gives the same label map. Arguments and errors as `write_seg`; a label that
    nothing shows is a structure without contours.
    """
    _check(labels_XYZ, grid)
    header = _completed(source[0])
    dataset = _structure_set(header, source)
    by_slice = _source_of_slices(grid, source)
    to_world = TO_RAS @ np.array(grid.stored_affine)
    labels_KJI = np.ascontiguousarray(to_stored(labels_XYZ, grid).transpose(2, 1, 0))
    dataset.StructureSetROISequence, dataset.ROIContourSequence = [], []
    dataset.RTROIObservationsSequence = []
    for label in scheme.labels:
        contours = []
        for k in np.flatnonzero((labels_KJI == label.index).any(axis=(1, 2))).tolist():
            for points in outlines(labels_KJI[k] == label.index):
                contours.append(_contour(points, k, to_world, by_slice.get(k)))
        _add_structure(dataset, label, contours, header.FrameOfReferenceUID)
    with quiet():
        _save(dataset, path)


def _check(labels_XYZ: LabelArray, grid: Grid) -> None:
    if labels_XYZ.shape != grid.shape_XYZ:
        raise GridMismatchError(grid.shape_XYZ, labels_XYZ.shape)


def _save(dataset: Dataset, path: Path) -> None:
    buffer = BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    write_bytes(path, buffer.getvalue())


def _slices_first(grid: Grid) -> FloatArray:
    """(slice, row, column) → mm, LPS+."""
    affine = TO_RAS @ np.array(grid.stored_affine)
    ordered: FloatArray = affine[:, [2, 1, 0, 3]]
    return ordered


def _completed(header: Dataset) -> Dataset:
    """A source header with what references need, where an anonymiser took it away."""
    made = copy.copy(header)
    for keyword in PATIENT_AND_STUDY:
        if keyword not in made:
            setattr(made, keyword, "")
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"):
        if not text_of(made, keyword):
            setattr(made, keyword, generate_uid(entropy_srcs=[keyword, text_of(made, "StudyID")]))
    if not text_of(made, "FrameOfReferenceUID"):
        made.FrameOfReferenceUID = generate_uid(entropy_srcs=[made.SeriesInstanceUID])
    is_enhanced = "PerFrameFunctionalGroupsSequence" in made
    if is_enhanced:
        made.SharedFunctionalGroupsSequence = [_shared(made)]
    elif "SliceThickness" not in made:
        made.SliceThickness = None  # type 2: a scanner may leave it empty, highdicom asks for it
    if not text_of(made, "SOPClassUID"):
        is_mr = made.get("Modality") == "MR"
        classic = MRImageStorage if is_mr else CTImageStorage
        made.SOPClassUID = EnhancedCTImageStorage if is_enhanced and not is_mr else classic
    return made


def _shared(header: Dataset) -> Dataset:
    """The functional groups of all frames. highdicom looks for geometry only here; scanners may
    write what all frames share into every one of them.
    """
    shared: Dataset = copy.copy((header.get("SharedFunctionalGroupsSequence") or [Dataset()])[0])
    first = header.PerFrameFunctionalGroupsSequence[0]
    for keyword in ("PixelMeasuresSequence", "PlaneOrientationSequence"):
        if keyword not in shared and keyword in first:
            shared[keyword] = first[keyword]
    return shared


def _described(label: Label) -> SegmentDescription:
    return SegmentDescription(
        segment_number=label.index,
        segment_label=label.name[:64],
        segmented_property_category=CATEGORY,
        segmented_property_type=CodedConcept(str(label.index), SCHEME, label.name[:64]),
        algorithm_type="MANUAL",
        display_color=CIELabColor.from_rgb(*label.rgb),
    )


def _structure_set(header: Dataset, source: Sequence[Dataset]) -> Dataset:
    now = datetime.now(UTC)
    made = Dataset()
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made.file_meta.MediaStorageSOPClassUID = made.SOPClassUID = RTStructureSetStorage
    made.file_meta.MediaStorageSOPInstanceUID = made.SOPInstanceUID = generate_uid()
    for keyword in PATIENT_AND_STUDY:
        setattr(made, keyword, header[keyword].value)
    made.SpecificCharacterSet = "ISO_IR 192"
    made.Modality, made.Manufacturer = "RTSTRUCT", MAKER
    made.SeriesInstanceUID, made.SeriesNumber, made.InstanceNumber = generate_uid(), 1, 1
    made.FrameOfReferenceUID = header.FrameOfReferenceUID
    made.StructureSetLabel = "LABELS"
    made.StructureSetDate, made.StructureSetTime = now.strftime("%Y%m%d"), now.strftime("%H%M%S")
    made.OperatorsName = ""
    images = [_reference(_completed(one)) for one in source]
    series = Dataset()
    series.SeriesInstanceUID, series.ContourImageSequence = header.SeriesInstanceUID, images
    study = Dataset()
    study.ReferencedSOPClassUID = "1.2.840.10008.3.1.2.3.1"
    study.ReferencedSOPInstanceUID = header.StudyInstanceUID
    study.RTReferencedSeriesSequence = [series]
    frame = Dataset()
    frame.FrameOfReferenceUID = header.FrameOfReferenceUID
    frame.RTReferencedStudySequence = [study]
    made.ReferencedFrameOfReferenceSequence = [frame]
    return made


def _reference(header: Dataset) -> Dataset:
    made = Dataset()
    made.ReferencedSOPClassUID = header.SOPClassUID
    made.ReferencedSOPInstanceUID = header.SOPInstanceUID
    return made


def _source_of_slices(grid: Grid, source: Sequence[Dataset]) -> dict[int, Dataset]:
    """Slice → reference to the image that it was acquired as, where one lies in its plane."""
    to_index = np.linalg.inv(TO_RAS @ np.array(grid.stored_affine))
    found: dict[int, Dataset] = {}
    for header in source:
        position = header.get("ImagePositionPatient")
        if position is None:  # enhanced: one object for all
            return {k: _reference(_completed(header)) for k in range(grid.stored_shape[2])}
        depth = float((to_index @ [*(float(x) for x in position), 1.0])[2])
        if abs(depth - round(depth)) < 0.25:
            found[round(depth)] = _reference(_completed(header))
    return found


def _contour(
    points: FloatArray, k: int, to_world: FloatArray, reference: Dataset | None
) -> Dataset:
    rows, columns = points.T
    count = len(points)
    world = (to_world @ np.array([columns, rows, np.full(count, k), np.ones(count)]))[:3].T
    made = Dataset()
    if reference is not None:
        made.ContourImageSequence = [reference]
    made.ContourGeometricType = "CLOSED_PLANAR"
    made.NumberOfContourPoints = count
    made.ContourData = [f"{value:.4f}" for value in world.reshape(-1).tolist()]
    return made


def _add_structure(dataset: Dataset, label: Label, contours: list[Dataset], frame: str) -> None:
    structure = Dataset()
    structure.ROINumber, structure.ROIName = label.index, label.name[:64]
    structure.ReferencedFrameOfReferenceUID = frame
    structure.ROIGenerationAlgorithm = "MANUAL"
    dataset.StructureSetROISequence.append(structure)
    if contours:
        drawn = Dataset()
        drawn.ReferencedROINumber, drawn.ROIDisplayColor = label.index, list(label.rgb)
        drawn.ContourSequence = contours
        dataset.ROIContourSequence.append(drawn)
    observed = Dataset()
    observed.ObservationNumber = observed.ReferencedROINumber = label.index
    observed.RTROIInterpretedType, observed.ROIInterpreter = "", ""
    dataset.RTROIObservationsSequence.append(observed)
