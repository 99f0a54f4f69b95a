"""From logits at the planned spacing to a cleaned label map on a CT's own grid: time and memory.

    python -m bench.volume_inverse [--shape 512 512 320] [--peer-shape 512 512 320]

Sixteen classes, invented organs with stray pieces. Ours beside MONAI's stock post-processing
(`Invertd`, `AsDiscreted(argmax)`, `KeepLargestConnectedComponentd` of all labels) on the very same
logits, each in a process of its own, whose peak memory the kernel tells (VmHWM). MONAI holds all
classes on the CT's grid in double precision, about 200 bytes per voxel: where the machine has less
than that, both are also measured on a smaller CT, and only those two are compared.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

CLASSES = 16
SPACING_MM = (0.75, 0.75, 1.6)
PLANNED_MM = (1.5, 1.5, 2.0)
PEER_BYTES = 210  # per voxel of the CT, measured
SLAB = 48  # planes of the planned grid at a time, as the sliding window hands them on


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench.volume_inverse", description=__doc__)
    parser.add_argument("--shape", type=int, nargs=3, default=[512, 512, 320])
    parser.add_argument("--peer-shape", type=int, nargs=3, help="as large as memory allows")
    parser.add_argument("--side", choices=["ours", "monai"], help=argparse.SUPPRESS)
    parser.add_argument("--logits", type=Path, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.side:
        print(json.dumps(measure(chosen.side, tuple(chosen.shape), chosen.logits)))
        return 0
    shape = tuple(chosen.shape)
    peer_shape = tuple(chosen.peer_shape or _affordable(shape))
    found: dict[tuple[str, tuple[int, ...]], dict[str, float]] = {}
    with tempfile.TemporaryDirectory(prefix="labloop-inverse-") as folder:
        for size in dict.fromkeys((shape, peer_shape)):
            path = Path(folder) / "logits.npy"
            np.save(path, invent_logits(size))
            for side in ("ours", "monai") if size == peer_shape else ("ours",):
                found[side, size] = _apart(side, size, path)
                _say(side, size, found[side, size])
            if size == peer_shape:
                _compare(Path(folder))
    own, other = found["ours", peer_shape], found["monai", peer_shape]
    print(f"wall time {own['seconds'] / other['seconds']:.3f} of MONAI's, memory "
          f"{own['peak_MB'] / other['peak_MB']:.3f}, on {peer_shape}")  # fmt: skip
    print("asked: at most 0.5 of the time, at most 2048 MB")
    good = own["seconds"] <= 0.5 * other["seconds"] and found["ours", shape]["peak_MB"] <= 2048
    return 0 if good else 1


def invent_logits(shape: tuple[int, ...]) -> np.ndarray:
    """Logits KXYZ on the planned grid: ellipsoids, a stray piece of each, noise at the borders."""
    planned = _planned(shape)
    random = np.random.default_rng(0)
    logits = np.zeros((CLASSES, *planned), dtype=np.float32)
    places = np.ogrid[tuple(slice(0, side) for side in planned)]
    for k in range(1, CLASSES):
        centre = [random.uniform(0.2, 0.8) * side for side in planned]
        radii = [random.uniform(0.03, 0.15) * side for side in planned]
        stray = [random.uniform(0.1, 0.9) * side for side in planned]
        for middle, scale in ((centre, 1.0), (stray, 0.1)):
            distance = np.zeros(planned, dtype=np.float32)
            for place, at, radius in zip(places, middle, radii, strict=True):
                distance += (((place - at) / (radius * scale)) ** 2).astype(np.float32)
            np.sqrt(distance, out=distance)
            blob = 8 * (1 - distance) * scale**0.5
            logits[k] = blob if scale == 1 else np.maximum(logits[k], blob)
        logits[k] += random.normal(0, 0.3, planned).astype(np.float32)
    return logits


def measure(side: str, shape: tuple[int, int, int], path: Path) -> dict[str, float]:
    """One side in this process: seconds of wall clock and of processors, peak memory."""
    call = _ours(shape, path) if side == "ours" else _monai(shape, path)
    began, worked = time.monotonic(), time.process_time()
    labels_XYZ = call()
    seconds, cpu = time.monotonic() - began, time.process_time() - worked
    peak = _peak_mb()
    np.save(path.parent / f"{side}.npy", labels_XYZ)
    return {"seconds": seconds, "cpu_s": cpu, "peak_MB": peak}


def _peak_mb() -> float:
    """Of this very process; getrusage would also tell of the one that started it."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))


def _ours(shape: tuple[int, int, int], path: Path):
    from imaging.labels import label_scheme
    from imaging.model.cleaning import Cleaning
    from imaging.model.inverse import labels_from_slabs
    from imaging.model.pieces import clean
    from imaging.resample import from_spacing
    from imaging.volume import grid_of

    grid = grid_of(shape, np.diag([*SPACING_MM, 1.0]))
    scheme = label_scheme([f"organ {k}" for k in range(1, CLASSES)])
    cleanings = {name: Cleaning(pieces=1) for name in scheme.names}

    def call() -> np.ndarray:
        logits = np.load(path, mmap_mode="r")
        slabs = (logits[:, x : x + SLAB] for x in range(0, logits.shape[1], SLAB))
        labels_XYZ = labels_from_slabs(slabs, from_spacing(grid, PLANNED_MM))
        clean(labels_XYZ, cleanings, scheme, float(np.prod(SPACING_MM)))
        return labels_XYZ

    return call


def _monai(shape: tuple[int, int, int], path: Path):
    import torch
    from monai.data import MetaTensor
    from monai.transforms import (
        AsDiscreted,
        Compose,
        Invertd,
        KeepLargestConnectedComponentd,
        Spacingd,
    )

    before = Compose([Spacingd("image", PLANNED_MM, mode="bilinear")])
    affine = torch.diag(torch.tensor([*SPACING_MM, 1.0], dtype=torch.float64))
    item = before({"image": MetaTensor(torch.zeros(1, *shape), affine=affine)})
    after = Compose(
        [
            Invertd("pred", before, "image", nearest_interp=False),
            AsDiscreted("pred", argmax=True),
            KeepLargestConnectedComponentd("pred", list(range(1, CLASSES))),
        ]
    )
    item["pred"] = MetaTensor(torch.from_numpy(np.load(path)), affine=item["image"].affine)
    return lambda: after(item)["pred"][0].numpy().astype(np.uint8)


def _planned(shape: tuple[int, ...]) -> tuple[int, int, int]:
    from imaging.resample import to_spacing
    from imaging.volume import grid_of

    return to_spacing(grid_of(shape, np.diag([*SPACING_MM, 1.0])), PLANNED_MM).target_XYZ


def _affordable(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape, halved until MONAI's memory fits into two thirds of what is free."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    free = next(int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable"))
    while np.prod(shape, dtype=float) * PEER_BYTES > free * 2 / 3:
        shape = tuple(side // 2 if side == max(shape) else side for side in shape)
    return shape


def _apart(side: str, shape: tuple[int, ...], path: Path) -> dict[str, float]:
    command = [sys.executable, "-W", "ignore", "-m", "bench.volume_inverse", "--side", side]
    command += ["--shape", *map(str, shape), "--logits", str(path)]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    if answer.returncode:
        raise SystemExit(f"{side} failed:\n{answer.stderr[-2000:]}")
    found: dict[str, float] = json.loads(answer.stdout.splitlines()[-1])
    return found


def _say(side: str, shape: tuple[int, ...], one: dict[str, float]) -> None:
    size = " × ".join(map(str, shape))
    print(f"{side:6} {size:16} {one['seconds']:7.1f} s wall {one['cpu_s']:7.1f} s of processors "
          f"{one['peak_MB']:8.0f} MB", flush=True)  # fmt: skip


def _compare(folder: Path) -> None:
    ours, theirs = (np.load(folder / f"{side}.npy") for side in ("ours", "monai"))
    print(f"the same label in {(ours == theirs).mean():.6%} of the voxels")


if __name__ == "__main__":
    sys.exit(main())
