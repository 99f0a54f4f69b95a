"""Resampling a volume to another spacing: ours beside MONAI's Spacing, which it replaces.

    python -m bench.resample [--rounds 5]

Processor time of one thread, interleaved, medians; and the largest difference between the two, of
values between 0 and 1. A synthetic volume: smooth structures and noise.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import Spacing
from scipy import ndimage

from imaging.resample import resample, to_spacing
from imaging.volume import Grid, grid_of

CASES = (
    ("brain, 2 to 1.5 mm", (98, 116, 94), (2.0, 2.0, 2.0), (1.5, 1.5, 1.5)),
    ("CT, 0.8 × 0.8 × 5 to 1.5 × 1.5 × 3 mm", (512, 512, 60), (0.8, 0.8, 5.0), (1.5, 1.5, 3.0)),
    ("MR, 1 to 1 mm, thick to 2 mm", (256, 256, 80), (1.0, 1.0, 3.0), (1.0, 1.0, 2.0)),
)


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench.resample", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    print(f"{'volume':40} {'ours ms':>8} {'Spacing ms':>11} {'ratio':>6} {'difference':>11}")
    for name, shape, spacing_mm, planned_mm in CASES:
        grid = grid_of(shape, np.diag([*spacing_mm, 1.0]))
        volume = _volume(shape)
        affine = torch.from_numpy(grid.affine)
        monai = Spacing(planned_mm, mode="bilinear")

        def theirs(
            volume: np.ndarray = volume, affine: torch.Tensor = affine, monai: Spacing = monai
        ) -> np.ndarray:
            return monai(MetaTensor(torch.from_numpy(volume)[None], affine=affine))[0].numpy()

        def ours(
            volume: np.ndarray = volume,
            grid: Grid = grid,
            planned_mm: tuple[float, float, float] = planned_mm,
        ) -> np.ndarray:
            return resample(volume, to_spacing(grid, planned_mm))

        found, expected = ours(), theirs()
        difference = float(np.abs(found - expected).max())
        times = [(_seconds(ours), _seconds(theirs)) for _ in range(rounds)]
        own, other = (statistics.median(one) * 1e3 for one in zip(*times, strict=True))
        print(f"{name:40} {own:8.1f} {other:11.1f} {own / other:6.2f} {difference:11.1e}")


def _volume(shape: tuple[int, int, int]) -> np.ndarray:
    random = np.random.default_rng(0)
    coarse = random.random([max(2, side // 16) for side in shape])
    smooth = ndimage.zoom(
        coarse, [n / m for n, m in zip(shape, coarse.shape, strict=True)], order=1
    )
    return (0.8 * smooth + 0.2 * random.random(shape)).astype(np.float32)


def _seconds(call: Callable[[], np.ndarray]) -> float:
    began = time.process_time()
    call()
    return time.process_time() - began


if __name__ == "__main__":
    main()
