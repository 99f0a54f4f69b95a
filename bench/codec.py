"""The brush codec beside Label Studio's SDK: `python -m bench.codec [--quick]`.

Both code the same masks in turn, in one process, so that a busy machine slows both; the table
shows medians. Every round also compares what they return: the SDK's bytes, the SDK's alpha.
"""

import argparse
import importlib.util
import statistics
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter

from imaging.labelstudio.brush import decode_rle, encode_rle

Mask = npt.NDArray[np.bool_]

REQUIRED = 8.0  # times the SDK's speed, on ragged masks of 512 × 512
ROUNDS, FEWEST_ROUNDS, SECONDS_PER_MASK = 15, 3, 8.0


@dataclass(frozen=True, slots=True)
class Timing:
    """Median times of one codec on one mask."""

    encode_ms: float
    decode_ms: float


def sdk_brush() -> ModuleType:
    """`label_studio_sdk.converter.brush` alone; its package imports pandas and OpenCV."""
    package = importlib.util.find_spec("label_studio_sdk")
    if package is None or package.origin is None:
        raise SystemExit("label-studio-sdk is not installed; `make setup` installs it")
    path = Path(package.origin).parent / "converter" / "brush.py"
    spec = importlib.util.spec_from_file_location("sdk_brush", path)
    if spec is None or spec.loader is None:
        raise SystemExit(f"{path} cannot be loaded")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def masks(side: int) -> dict[str, Mask]:
    """What segmentations look like, from none to nonsense; the same in every run."""
    rng = np.random.default_rng(side)
    rows, columns = np.indices((side, side)) / side

    def disc(row: float, column: float, radius: float) -> Mask:
        inside: Mask = np.hypot(rows - row, columns - column) < radius
        return inside

    places, radii = rng.uniform(0.1, 0.9, (20, 2)), rng.uniform(0.02, 0.08, 20)
    blobs = [disc(row, column, radius) for (row, column), radius in zip(places, radii, strict=True)]
    grain = gaussian_filter(rng.standard_normal((side, side)), 2.4)
    return {
        "empty": np.zeros((side, side), dtype=bool),
        "organ": disc(0.5, 0.45, 0.2),
        "20 blobs": np.logical_or.reduce(blobs),
        "ragged": grain > np.quantile(grain, 0.6),
        "noise": rng.random((side, side)) < 0.5,
    }


class Stopwatch:
    """Times calls under a name, and tells the median of each name in milliseconds."""

    def __init__(self) -> None:
        self.times_ms: dict[str, list[float]] = defaultdict(list)

    def time(self, name: str, call: Callable[..., Any], *arguments: Any) -> Any:
        started = time.perf_counter()
        result = call(*arguments)
        self.times_ms[name].append(1000 * (time.perf_counter() - started))
        return result

    def median(self, name: str) -> float:
        return statistics.median(self.times_ms[name])


def compare(sdk: ModuleType, mask_HW: Mask, rounds: int) -> tuple[Timing, Timing, int]:
    """Ours, the SDK's, and how many bytes the mask takes."""
    height, width = mask_HW.shape
    alpha_HW = mask_HW.astype(np.uint8) * 255
    watch = Stopwatch()
    deadline = time.perf_counter() + SECONDS_PER_MASK
    for number in range(rounds):
        if number >= FEWEST_ROUNDS and time.perf_counter() > deadline:
            break
        rle = watch.time("encode", encode_rle, mask_HW)
        sdk_rle = watch.time("SDK encode", sdk.mask2rle, alpha_HW)
        decoded_HW = watch.time("decode", decode_rle, rle, (height, width))
        sdk_words = watch.time("SDK decode", sdk.decode_rle, rle)
        sdk_HW = sdk_words.reshape(height, width, 4)[..., 3]
        if rle != sdk_rle or not np.array_equal(decoded_HW, sdk_HW):
            raise SystemExit("the two codecs disagree")
    ours = Timing(watch.median("encode"), watch.median("decode"))
    return ours, Timing(watch.median("SDK encode"), watch.median("SDK decode")), len(rle)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.codec", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="512 × 512 and few rounds only")
    quick = parser.parse_args().quick
    sdk = sdk_brush()
    print(f"{'mask':<16}{'RLE bytes':>10}  {'encode: ours, SDK, ratio':>28}{'decode':>28}")
    ragged = (0.0, 0.0)
    for side in (512,) if quick else (512, 1024):
        for name, mask_HW in masks(side).items():
            ours, theirs, size = compare(sdk, mask_HW, FEWEST_ROUNDS if quick else ROUNDS)
            encode = theirs.encode_ms / ours.encode_ms
            decode = theirs.decode_ms / ours.decode_ms
            if (side, name) == (512, "ragged"):
                ragged = (encode, decode)
            print(
                f"{side:>4} {name:<11}{size:>10,}"
                f"  {ours.encode_ms:>8.2f} {theirs.encode_ms:>9.1f} ms {encode:>5.1f}x"
                f"  {ours.decode_ms:>8.2f} {theirs.decode_ms:>9.1f} ms {decode:>5.1f}x",
                flush=True,
            )
    for verb, ratio in zip(("encode", "decode"), ragged, strict=True):
        verdict = "met" if ratio >= REQUIRED else "NOT met"
        print(f"ragged 512 × 512, {verb}: {ratio:.1f} times, wanted {REQUIRED:.0f}: {verdict}")
    return 0 if min(ragged) >= REQUIRED else 1


if __name__ == "__main__":
    raise SystemExit(main())
