"""Reading volumes beside nibabel and SimpleITK: `python -m bench.nifti [--quick]`.

The three read the same .nii.gz files in turn, in one process pinned to one core, files in the page
cache; the table shows medians of processor time. Each hands over voxels as stored
types in memory; nibabel is asked for its fastest way, not for `get_fdata`. Voxels and affines are
compared before. Real volumes lie under LABLOOP_DATA; a CT-like one is made here.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import SimpleITK
from isal import igzip
from numpy.typing import NDArray

from imaging.io.nifti import read_nifti
from imaging.volume import to_stored

REQUIRED = 0.6  # of nibabel's time
ROUNDS = 5
DATA = Path(os.environ.get("LABLOOP_DATA", Path(__file__).parents[2] / "shared" / "data"))
REAL = (
    "mni152_template/mni_icbm152_t1_tal_nlin_sym_09a_converted.nii.gz",
    "multiorgan_ct_mr/example_ct.nii.gz",
    "ms_brain_t1_t2_flair/patient07/*.nii.gz",
    "hippocampus_mr/images/*.nii.gz",
)
FILES_OF_A_SET = 40


def ours(path: Path) -> tuple[Any, Any]:
    volume = read_nifti(path)
    return to_stored(volume.voxels_CXYZ[0], volume.grid), np.array(volume.grid.stored_affine)


def by_nibabel(path: Path) -> tuple[Any, Any]:
    image: Any = nibabel.load(path)  # type: ignore[attr-defined]
    return np.asanyarray(image.dataobj), image.affine


def by_simpleitk(path: Path) -> tuple[Any, Any]:
    image = SimpleITK.ReadImage(str(path))
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
    affine[:3, 3] = image.GetOrigin()
    return SimpleITK.GetArrayViewFromImage(image).T, np.diag([-1, -1, 1, 1]) @ affine


READERS: dict[str, Callable[[Path], tuple[Any, Any]]] = {
    "nibabel": by_nibabel,
    "SimpleITK": by_simpleitk,
    "Labloop": ours,
}


def ct_like(depth: int) -> NDArray[np.int16]:
    """HU with the grain of a scanner: air, a body, organs. It compresses as real CTs do, to 0.5."""
    rng = np.random.default_rng(0)
    rows, columns = np.indices((512, 512)) / 512 - 0.5
    body = np.hypot(rows / 0.8, columns) < 0.45
    organs = 60 * np.sin(9 * rows) * np.cos(7 * columns)
    slices = [
        np.where(body, 40 + organs, -1000) + rng.normal(0, np.where(body, 12, 4)).round()
        for _ in range(depth)
    ]
    return np.stack(slices, axis=-1).astype(np.int16)


def sets(folder: Path, is_quick: bool) -> Iterator[tuple[str, list[Path]]]:
    depth = 60 if is_quick else 300
    path = folder / "ct.nii.gz"
    image = nibabel.Nifti1Image(ct_like(depth), np.diag([-0.8, -0.8, 1.0, 1.0]))  # type: ignore[attr-defined]
    path.write_bytes(igzip.compress(image.to_bytes(), compresslevel=1))
    yield f"CT-like, 512 × 512 × {depth}", [path]
    for pattern in REAL:
        found = sorted(DATA.glob(pattern))[:FILES_OF_A_SET]
        if found:
            yield pattern, found


def compare(path: Path) -> None:
    (expected, affine), (voxels, found) = by_nibabel(path), ours(path)
    same = np.array_equal(voxels, np.asarray(expected, dtype=voxels.dtype))
    if not same or not np.allclose(found, affine, atol=1e-4):
        raise SystemExit(f"{path}: Labloop read something else than nibabel")


def measure(files: list[Path], rounds: int) -> dict[str, float]:
    """Median processor seconds of each reader for all files; what they read is compared."""
    times = defaultdict(list)
    for path in files:
        compare(path)
    for _ in range(rounds):
        for name, reader in READERS.items():
            begun = time.process_time()
            for path in files:
                reader(path)
            times[name].append(time.process_time() - begun)
    return {name: statistics.median(taken) for name, taken in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer slices and rounds")
    args = parser.parse_args()
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    SimpleITK.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    print(f"{'set':34} {'files':>5}  " + "  ".join(f"{name:>10}" for name in READERS) + "   ratio")
    slowest = 0.0
    with tempfile.TemporaryDirectory() as folder:
        for name, files in sets(Path(folder), args.quick):
            taken = measure(files, 3 if args.quick else ROUNDS)
            ratio = taken["Labloop"] / taken["nibabel"]
            slowest = max(slowest, ratio)
            cells = "  ".join(f"{1000 * taken[reader]:7.1f} ms" for reader in READERS)
            print(f"{name.split('/')[0]:34} {len(files):5}  {cells}  {ratio:6.2f}")
    print(f"worst: {slowest:.2f} of nibabel's time; wanted at most {REQUIRED}")


if __name__ == "__main__":
    main()
