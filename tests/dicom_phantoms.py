"""Invented DICOM series, written as a scanner would: for tests of whatever reads or ships DICOM."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, MRImageStorage, generate_uid

STUDY = "1.2.826.0.1.3680043.10.1"


@dataclass(frozen=True, slots=True)
class Scan:
    """What a phantom series looks like. Positions are LPS+ mm, as DICOM has them."""

    stored_DHW: NDArray[Any]
    spacing_HW_mm: tuple[float, float] = (0.8, 0.7)
    step_mm: float = 2.5
    origin: tuple[float, float, float] = (-20.0, -30.0, 40.0)
    directions: tuple[float, ...] = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
    stacking: tuple[float, float, float] | None = None  # None: along the normal
    modality: str = "CT"
    patient: str = "P-1"
    series: str = "1"
    slope: float = 1.0
    intercept: float = -1024.0
    bits: int = 12

    @property
    def normal(self) -> NDArray[np.float64]:
        return np.cross(self.directions[:3], self.directions[3:])


def ramp(shape_DHW: tuple[int, int, int] = (5, 6, 7)) -> NDArray[np.uint16]:
    """Every voxel another value, so that no flip goes unnoticed."""
    return np.arange(np.prod(shape_DHW), dtype=np.uint16).reshape(shape_DHW)


def small_scan(**changes: Any) -> Scan:
    return replace(Scan(ramp()), **changes)


def write_scan(
    folder: Path, scan: Scan, change: Callable[[int, Dataset], None] = lambda k, dataset: None
) -> list[Path]:
    """Write one file per slice; `change` may spoil each dataset before it is written."""
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for k in range(scan.stored_DHW.shape[0]):
        dataset = slice_of(scan, k)
        change(k, dataset)
        path = folder / f"{scan.series}-{k:03}.dcm"
        dataset.save_as(path, enforce_file_format=True)
        files.append(path)
    return files


def slice_of(scan: Scan, k: int) -> Dataset:
    """Slice k as a dataset that can be saved."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID = CTImageStorage if scan.modality == "CT" else MRImageStorage
    dataset.SOPInstanceUID = generate_uid(entropy_srcs=[scan.series, str(k), scan.patient])
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.StudyInstanceUID = STUDY
    dataset.SeriesInstanceUID = f"{STUDY}.{scan.series}"
    dataset.FrameOfReferenceUID = f"{STUDY}.9"
    dataset.Modality = scan.modality
    dataset.PatientID = dataset.PatientName = scan.patient
    dataset.PatientBirthDate = dataset.PatientSex = dataset.StudyID = ""
    dataset.StudyDate, dataset.StudyTime = "20260102", "101500"
    dataset.AccessionNumber = dataset.ReferringPhysicianName = dataset.Manufacturer = ""
    dataset.InstanceNumber, dataset.SeriesNumber = k + 1, 1
    stacking = scan.normal if scan.stacking is None else np.array(scan.stacking)
    position = np.array(scan.origin) + k * scan.step_mm * stacking
    dataset.ImagePositionPatient = [round(float(x), 6) for x in position]
    dataset.ImageOrientationPatient = list(scan.directions)
    dataset.PixelSpacing = list(scan.spacing_HW_mm)
    dataset.SliceThickness = scan.step_mm
    dataset.RescaleSlope, dataset.RescaleIntercept = scan.slope, scan.intercept
    set_pixels(dataset, scan.stored_DHW[k], scan.bits)
    return dataset


def set_pixels(dataset: Dataset, pixels_HW: NDArray[Any], bits: int = 12) -> None:
    """Uncompressed grey pixels, of 8 or 16 bits."""
    dataset.Rows, dataset.Columns = pixels_HW.shape
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated = pixels_HW.dtype.itemsize * 8
    dataset.BitsStored = min(bits, dataset.BitsAllocated)
    dataset.HighBit = dataset.BitsStored - 1
    dataset.PixelRepresentation = int(pixels_HW.dtype.kind == "i")
    dataset["PixelData"] = _pixel_element(pixels_HW)


def _pixel_element(pixels_HW: NDArray[Any]) -> Any:
    from pydicom.dataelem import DataElement

    data = pixels_HW.astype(pixels_HW.dtype.newbyteorder("<")).tobytes()
    return DataElement("PixelData", "OW", data + b"\0" * (len(data) % 2))
