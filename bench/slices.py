"""From DICOM files to windowed PNGs: `python -m bench.slices [--quick]`.

Uncompressed 512 × 512 CT slices, pinned to one core, files in the page cache. In turns, so that a
busy machine slows all three: what a script with pydicom and Pillow does by default; Labloop end to
end, which sorts the files by geometry, checks them, makes a volume, finds its window, hangs it and
writes PNGs; and the floor, which reads, looks up and writes, and knows nothing of geometry. The
slices are invented; where LABLOOP_DATA has real ones, their pixels are measured too, written anew
as an even uncompressed series.
"""

import argparse
import io
import os
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pydicom
from numpy.typing import NDArray
from PIL import Image
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.pixels import apply_modality_lut, apply_voi_lut
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid
from scipy.ndimage import gaussian_filter

from imaging.io.dicom.read import read_series
from imaging.io.dicom.series import sort_dicom
from imaging.io.png import png_grey
from imaging.labelstudio.plane import plane_of
from imaging.preview import render, window_of
from imaging.task import VolumePolicy
from imaging.windows import CT_PRESETS

SIDE = 512
WANTED_PER_S = 200.0
REAL = ("ct_head_gantry_tilt_dicom", "multiorgan_ct_mr")
DATA = os.environ.get("LABLOOP_DATA", "/work/shared/data")


def invented_slice(random: np.random.Generator) -> NDArray[np.int16]:
    """A body with organs and the grain of a CT, stored as scanners do: HU + 1024."""
    rows, columns = np.indices((SIDE, SIDE)) / SIDE - 0.5
    body = (rows / 0.32) ** 2 + (columns / 0.44) ** 2 < 1
    organs = gaussian_filter(random.standard_normal((SIDE, SIDE)), 18)
    grain = gaussian_filter(random.standard_normal((SIDE, SIDE)), 0.8)
    hu = np.where(body, 40 + 900 * organs + 45 * grain, -1000 + 8 * grain)
    return (hu + 1024).clip(0, 4095).astype(np.int16)


def write_ct(folder: Path, slices: Iterable[NDArray[np.int16]]) -> list[Path]:
    """An uncompressed series of slices that hold HU + 1024."""
    study, series, frame = (generate_uid() for _ in range(3))
    paths = []
    for number, stored_HW in enumerate(slices):
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID = CTImageStorage
        meta.MediaStorageSOPInstanceUID = generate_uid()
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        path = folder / f"{number:04}.dcm"
        one = FileDataset(str(path), {}, file_meta=meta, preamble=bytes(128))
        one.SOPClassUID, one.SOPInstanceUID = CTImageStorage, meta.MediaStorageSOPInstanceUID
        one.StudyInstanceUID, one.SeriesInstanceUID, one.FrameOfReferenceUID = study, series, frame
        one.Modality, one.PatientID, one.BodyPartExamined = "CT", "bench", "ABDOMEN"
        one.InstanceNumber = number + 1
        one.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        one.ImagePositionPatient = [-179.0, -179.0, 2.5 * number]
        one.PixelSpacing, one.SliceThickness = [0.7, 0.7], 2.5
        one.Rows = one.Columns = SIDE
        one.SamplesPerPixel, one.PhotometricInterpretation = 1, "MONOCHROME2"
        one.BitsAllocated, one.BitsStored, one.HighBit, one.PixelRepresentation = 16, 12, 11, 0
        one.RescaleSlope, one.RescaleIntercept, one.RescaleType = 1, -1024, "HU"
        one.WindowCenter, one.WindowWidth = 40, 400
        one.PixelData = stored_HW.tobytes()
        one.save_as(path, enforce_file_format=True)
        paths.append(path)
    return paths


def by_default(paths: list[Path]) -> int:
    """pydicom's own windowing and Pillow's PNG writer; bytes written."""
    size = 0
    for path in paths:
        one = pydicom.dcmread(path)
        shown = apply_voi_lut(apply_modality_lut(one.pixel_array, one), one)
        low, high = shown.min(), shown.max()
        grey = ((shown - low) / max(high - low, 1) * 255).astype(np.uint8)
        stream = io.BytesIO()
        Image.fromarray(grey).save(stream, "PNG")
        size += len(stream.getvalue())
    return size


def ours(paths: list[Path], note: Callable[[str, float], None] = lambda *_: None) -> int:
    """What ingest does with a series; bytes written."""

    def since(name: str, started: float) -> float:
        now = time.perf_counter()
        note(name, now - started)
        return now

    now = time.perf_counter()
    sorted_files = sort_dicom(paths)
    if len(sorted_files.series) != 1 or sorted_files.refused:
        raise SystemExit(f"expected one series, found {sorted_files}")
    now = since("sort and check", now)
    volume = read_series(sorted_files.series[0])
    now = since("read pixels", now)
    window = window_of(volume, VolumePolicy(), body_part="ABDOMEN")
    plane = plane_of(volume.grid)
    now = since("find the window", now)
    shown = list(render(volume, plane, window))
    now = since("window and hang", now)
    size = sum(len(png_grey(one)) for one in shown)
    since("write PNG", now)
    return size


def floor(paths: list[Path]) -> int:
    """Nothing but decoding, a table and the PNG; bytes written."""
    size = 0
    window = CT_PRESETS["abdomen"]
    for path in paths:
        one = pydicom.dcmread(path)
        stored = np.frombuffer(one.PixelData, dtype="<u2").reshape(one.Rows, one.Columns)
        if not size:
            hu = np.arange(65536) * float(one.RescaleSlope) + float(one.RescaleIntercept)
            ramp = (hu - window.low) / (window.high - window.low)
            table = np.rint(255 * ramp.clip(0, 1)).astype(np.uint8)
        size += len(png_grey(table.take(stored, mode="wrap")))
    return size


def measure(paths: list[Path], rounds: int) -> dict[str, float]:
    """Median slices per second of each way; prints the table."""
    ways = {"pydicom + Pillow": by_default, "Labloop": ours, "floor": floor}
    times: dict[str, list[float]] = defaultdict(list)
    sizes = {}
    for _ in range(rounds):
        for name, way in ways.items():
            started = time.process_time()
            sizes[name] = way(paths)
            times[name].append(time.process_time() - started)
    per_s = {name: len(paths) / statistics.median(found) for name, found in times.items()}
    for name, rate in per_s.items():
        ratio = rate / per_s["pydicom + Pillow"]
        kib = sizes[name] / len(paths) / 1024
        print(f"{name:<20}{rate:>8.0f} slices/s{ratio:>7.1f} x{kib:>8.0f} KiB each")
    steps: dict[str, float] = {}
    ours(paths, steps.__setitem__)
    total = sum(steps.values())
    print("of ours: " + ", ".join(f"{name} {took / total:.0%}" for name, took in steps.items()))
    return per_s


def real_slices() -> list[NDArray[np.int16]]:
    """Pixels of 512 × 512 CT slices, if the data is there."""
    slices = []
    for name in REAL:
        for path in sorted((Path(DATA) / name).rglob("*.dcm")):
            one = pydicom.dcmread(path)
            if one.get("Modality") == "CT" and (one.Rows, one.Columns) == (SIDE, SIDE):
                hu = apply_modality_lut(one.pixel_array, one)
                slices.append((hu + 1024).clip(0, 4095).astype(np.int16))
    return slices


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.slices", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer slices and rounds")
    quick = parser.parse_args().quick
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    count, rounds = (40, 3) if quick else (200, 5)
    random = np.random.default_rng(0)
    with tempfile.TemporaryDirectory(prefix="bench-slices-") as folder:
        print(f"{count} invented slices, processor time on one core, median of {rounds} rounds")
        invented = (invented_slice(random) for _ in range(count))
        per_s = measure(write_ct(Path(folder), invented), rounds)
    with tempfile.TemporaryDirectory(prefix="bench-slices-") as folder:
        if paths := write_ct(Path(folder), real_slices()):
            print(f"{len(paths)} real slices ({', '.join(REAL)})")
            measure(paths, rounds)
    verdict = "met" if per_s["Labloop"] >= WANTED_PER_S else "NOT met"
    print(f"Labloop: {per_s['Labloop']:.0f} slices/s, wanted {WANTED_PER_S:.0f}: {verdict}")
    return 0 if per_s["Labloop"] >= WANTED_PER_S else 1


if __name__ == "__main__":
    raise SystemExit(main())
