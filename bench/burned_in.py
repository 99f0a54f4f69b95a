"""Text in pixels: how much is found, and how long it takes: `python -m bench.burned_in [--quick]`.

Names, numbers and dates are written over real slices of LABLOOP_DATA: 10 to 24 px high, bright,
grey and dark, in corners and over the body, on one slice of a series. They are looked for as ingest
does, with the series as short (slice by slice) and as long as 600 slices (blocks of four). Contrast
is the mean difference between the letters and what they cover, of 255.

Speed is compared with what one would write first: RapidOCR with its defaults on every slice, same
engine and models, in the same run.
"""

import argparse
import itertools
import os
import random
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pydicom
import rapidocr
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from pydicom import Dataset
from rapidocr import EngineType

from imaging.deid.burned_in import LOOKS, find_burned_in

DATA = Path(os.environ.get("LABLOOP_DATA", Path(__file__).parents[2] / "shared" / "data"))
SETS = {  # folder → window, or percentiles
    "multiorgan_ct_mr/example_ct_dicom": (-160.0, 240.0),
    "ct_head_gantry_tilt_dicom": (0.0, 80.0),
    "mr_brain_t1_t2_dicom/patient07/T1": None,
    "mr_brain_t1_t2_dicom/patient19/T2": None,
}
TEXTS = (
    "Mustermann^Erika", "Testperson Alma Q", "EX-4471902", "19610314", "DOB 14.03.1961",
    "Example General Hospital", "SMITH, JOHN", "Kim", "P. Li 45Y", "0012345",
)  # fmt: skip
SIZES, VALUES = (10, 12, 14, 18, 24), (255, 200, 128, 64, 0)
BANDS = ((20, 60), (60, 120), (120, 256))
BLOCK = 4  # of a series of 600 slices
Stack = NDArray[np.uint8]


def stacks() -> dict[str, Stack]:
    """The sets' slices in their order, 8 bits."""
    return {name: stack(DATA / name, window) for name, window in SETS.items()}


def stack(folder: Path, window: tuple[float, float] | None) -> Stack:
    files = [pydicom.dcmread(path) for path in sorted(folder.glob("*.dcm"))]
    files.sort(key=lambda one: float(one.ImagePositionPatient[2]))
    values = np.stack([one.pixel_array.astype(np.float32) for one in files])
    values = values * float(files[0].get("RescaleSlope", 1)) + float(
        files[0].get("RescaleIntercept", 0)
    )
    low, high = window or np.percentile(values, [0.5, 99.5])
    return np.clip((values - low) / (high - low) * 255, 0, 255).astype(np.uint8)


def header() -> Dataset:
    made = Dataset()
    made.Modality = "CT"
    return made


def written(pixels: NDArray[np.uint8], chance: random.Random) -> tuple[NDArray[np.uint8], float]:
    """A slice with one text on it, and the contrast of the text."""
    page = Image.fromarray(pixels)
    draw = ImageDraw.Draw(page)
    text, value = chance.choice(TEXTS), chance.choice(VALUES)
    font = ImageFont.load_default(chance.choice(SIZES))
    width, height = (int(side) for side in draw.textbbox((0, 0), text, font=font)[2:])
    rows, columns = pixels.shape
    left = chance.choice((2, max(0, columns - width - 3), max(0, (columns - width) // 2)))
    top = chance.choice((2, rows - height - 3, chance.randrange(rows // 4, rows * 3 // 4)))
    covered = pixels[top : top + height, left : left + width].astype(np.float32)
    draw.text((left, top), text, fill=value, font=font)
    return np.asarray(page), float(np.abs(covered - value).mean())


def recall(trials: int) -> None:
    """Print the share found, by contrast, read singly and in blocks."""
    chance = random.Random(7)
    sets = list(stacks().values())
    found: dict[tuple[int, int], list[tuple[bool, bool]]] = defaultdict(list)
    while sum(map(len, found.values())) < trials:
        slices = chance.choice(sets)
        number = chance.randrange(len(slices))
        page, contrast = written(slices[number], chance)
        band = next((one for one in BANDS if one[0] <= contrast < one[1]), None)
        if band is None:
            continue
        first = min(max(0, number - chance.randrange(BLOCK)), len(slices) - BLOCK)
        block = slices[first : first + BLOCK].copy()
        block[number - first] = page
        singly = find_burned_in([header()], [page])
        together = find_burned_in([header()] * BLOCK, block, looks=2)
        found[band].append((singly is not None, together is not None))
    print(f"\n{'contrast':12}{'texts':>7}{'slice by slice':>16}{'blocks of 4':>13}")
    for band in BANDS:
        hits = np.array(found[band])
        share = hits.mean(axis=0)
        print(f"{band[0]:3} to {band[1]:3}  {len(hits):6}{share[0]:15.0%} {share[1]:12.0%}")


def speed(count: int) -> None:
    """Print seconds for a CT without text, ours and slice by slice with the reader's defaults."""
    slices = stacks()["multiorgan_ct_mr/example_ct_dicom"]
    endless = itertools.cycle(slices)

    def series() -> Iterator[NDArray[np.uint8]]:
        return itertools.islice(endless, count)

    def ours() -> None:
        find_burned_in([header()] * count, series(), looks=max(2, LOOKS * count // 600))

    reader = rapidocr.RapidOCR(params=defaults())

    def plain() -> None:
        for pixels in series():
            reader(np.repeat(pixels[..., None], 3, axis=2))

    find_burned_in([header()], [slices[0]])  # models loaded
    reader(np.repeat(slices[0][..., None], 3, axis=2))
    ours_s, plain_s = seconds(ours), seconds(plain)
    print(f"\n{count} slices of 512 × 512: ours {ours_s:.1f} s, every slice {plain_s:.1f} s")
    print(f"for 600: ours {ours_s * 600 / count:.1f} s, {plain_s / ours_s:.1f} times as fast")


def defaults() -> dict[str, object]:
    """The reader as it comes, on OpenVINO, with its models named by their files."""
    models = Path(rapidocr.__file__).parent / "models"
    names = {
        "Det": "PP-OCRv6_det_small.onnx",
        "Rec": "PP-OCRv6_rec_small.onnx",
        "Cls": "ch_ppocr_mobile_v2.0_cls_mobile.onnx",
    }
    chosen: dict[str, object] = {"Global.log_level": "critical"}
    for stage, name in names.items():
        chosen[f"{stage}.engine_type"] = EngineType.OPENVINO
        chosen[f"{stage}.model_path"] = str(models / name)
    return chosen


def seconds(act: Callable[[], None]) -> float:
    begun = time.perf_counter()
    act()
    return time.perf_counter() - begun


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    quick = parser.parse_args().quick
    speed(60 if quick else 600)
    recall(60 if quick else 600)


if __name__ == "__main__":
    main()
