"""How good a model for volumes gets on two cores: hippocampi, beside a plain MONAI script.

    python -m bench.hippocampus [--budget-s 600] [--threads 2] [--only labloop]

The Decathlon's hippocampus set (`hippocampus_mr`): two labels, 150 volumes. Runs of consecutive
case numbers count as one patient, since neighbours may be two volumes of one person; patients are
split into training, validation and test, and both sides get the same test patients and the same
time. Ours is the recipe that the trainer plans, its loop and its bundle; the plain script gets the
validation patients for training, too.

With `--clock cpu` the budget is processor time divided by the threads: what the wall clock would
have said on a machine with nothing else to do.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch

from imaging.dataset.folds import assign
from imaging.dataset.snapshot import Snapshot, SnapshotCase
from imaging.dataset.volumes import read_case_labels, read_case_volume
from imaging.io.nifti import read_nifti, write_label_volume
from imaging.labels import label_scheme
from imaging.model.bundle import describe_model, write_bundle
from imaging.model.metrics import dice_by_label, score_masks
from imaging.model.predict import load_predictor
from imaging.recipes.plan import plan_for
from imaging.task import RecipeChoice, SplitPolicy, TaskConfig
from services.trainer.loop import Surroundings, train
from services.trainer.settings import let_threads_sleep
from services.trainer.work import postprocessing_for, prepare_data
from stack.demo.dataset import neighbours

DATA = Path(os.environ.get("LABLOOP_DATA", Path(__file__).parents[2] / "shared" / "data"))
FOLDER = DATA / "hippocampus_mr"
SCHEME = label_scheme(["anterior", "posterior"])
REQUIRED = 0.88
Clock = Callable[[], float]


class Quiet:
    """A board that shows nothing."""

    def start(self, *_: object) -> None: ...

    def training(self, *_: object) -> None: ...

    def validation(self, iteration: int, found: object) -> None:
        print(f"  iteration {iteration}: validation {found.score:.4f}", flush=True)  # type: ignore[attr-defined]


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench.hippocampus", description=__doc__)
    parser.add_argument("--budget-s", type=float, default=600.0, help="training time of each")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--clock", choices=["wall", "cpu"], default="wall")
    parser.add_argument("--seed", type=int, default=0, help="of the split of the patients")
    parser.add_argument("--only", choices=["labloop", "plain"], help="leave the other one out")
    parser.add_argument("--number", action="append", default=[], help="KEY=VALUE of the recipe")
    chosen = parser.parse_args()
    if not FOLDER.is_dir():
        raise SystemExit(f"{FOLDER} is absent; LABLOOP_DATA names the sets' folder")
    let_threads_sleep(os.environ)  # for both: the comparison is about the models
    torch.set_num_threads(chosen.threads)
    scores: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory(prefix="labloop-hippocampus-") as folder:
        snapshot = split_snapshot(chosen.seed, Path(folder))
        counts = ", ".join(f"{len(snapshot.of(s))} {s}" for s in ("train", "validation", "test"))
        print(f"hippocampus: {counts}; {chosen.budget_s:.0f} s each; load {os.getloadavg()[0]:.1f}")
        if chosen.only != "plain":
            scores["labloop"] = ours(snapshot, chosen, Path(folder))
        if chosen.only != "labloop":
            scores["plain MONAI"] = plain(snapshot, chosen, Path(folder))
    for name, dice in scores.items():
        by_label = "  ".join(f"{n} {d:.4f}" for n, d in zip(SCHEME.names, dice, strict=True))
        print(f"{name:12} mean Dice {np.mean(dice):.4f}   {by_label}")
    print(f"asked: at least {REQUIRED}, within 1200 s")
    return 0 if np.mean(scores.get("labloop", [1.0])) >= REQUIRED else 1


def split_snapshot(seed: int, folder: Path) -> Snapshot:
    """The set as a snapshot: patients split as the loop does, label maps as it keeps them."""
    images = sorted((FOLDER / "images").glob("*.nii.gz"))
    patient_of = neighbours([image.name for image in images])
    patients = [patient_of[image.name] for image in images]
    sides = assign(dict.fromkeys(patients, ()), {}, SplitPolicy(seed=seed))
    cases = tuple(
        SnapshotCase(
            case=image.name.removesuffix(".nii.gz"),
            patient=who,
            split=sides[who],
            image=image,
            image_sha256="",
            labels=_as_kept(image, folder / f"truth-{image.name}"),
            classes=None,
        )
        for image, who in zip(images, patients, strict=True)
    )
    return Snapshot(
        "snap-1", "Task004_hippocampus", "segmentation", False, SCHEME, cases, FOLDER, ""
    )


def _as_kept(image: Path, kept: Path) -> Path:
    """The label map of an image, which the set stores as numbers of many types, as bytes."""
    labels_XYZ = read_nifti(FOLDER / "labels" / image.name).voxels_CXYZ[0].astype(np.uint8)
    write_label_volume(kept, labels_XYZ, read_nifti(image).grid)
    return kept


def ours(snapshot: Snapshot, chosen: argparse.Namespace, folder: Path) -> list[float]:
    """Plan, prepare, train, export; the bundle's answers on the test volumes' own grids."""
    numbers = dict(_number(text) for text in chosen.number)
    config = TaskConfig(
        kind="segmentation",
        scheme=SCHEME,
        modality="MR",
        recipe=RecipeChoice("auto", chosen.budget_s, numbers),
    )
    recipe = plan_for(config, snapshot)
    clock: Clock = time.monotonic
    if chosen.clock == "cpu":
        clock = lambda: time.process_time() / chosen.threads  # noqa: E731
    trained = train(
        recipe,
        prepare_data(snapshot, recipe),
        Surroundings(
            checkpoint=folder / "last.pt",
            board=Quiet(),
            report=_now_and_then(),
            device=torch.device("cpu"),
            clock=clock,
        ),
    )
    record = describe_model(folder / "model-1", "run-1", recipe, snapshot, {})
    bundle = write_bundle(
        record, trained.weights, choose=lambda one: postprocessing_for(one, snapshot)
    )
    print(
        f"{trained.iterations} iterations; postprocessing {dict(bundle.postprocessing) or 'none'}"
    )
    predictor = load_predictor(bundle.folder, threads=chosen.threads)
    cases = snapshot.of("test")
    answers = [predictor.predict([read_case_volume(case)])[0].labels_XYZ for case in cases]
    return _dice(cases, answers)


def plain(snapshot: Snapshot, chosen: argparse.Namespace, folder: Path) -> list[float]:
    """The plain script's answers on the same volumes."""
    import json

    split = folder / "split.json"
    training = [*snapshot.of("train"), *snapshot.of("validation")]
    record = {
        "labels": len(SCHEME.labels),
        "train": [{"image": str(one.image), "label": str(one.labels)} for one in training],
        "test": [{"image": str(one.image)} for one in snapshot.of("test")],
    }
    split.write_text(json.dumps(record))
    script = Path(__file__).with_name("plain_volumes.py")
    arguments = [str(split), str(chosen.budget_s), str(folder), str(chosen.threads), chosen.clock]
    subprocess.run([sys.executable, "-W", "ignore", str(script), *arguments], check=True)
    cases = snapshot.of("test")
    answers = [
        read_nifti(folder / f"{number}.nii.gz").voxels_CXYZ[0].astype(np.uint8)
        for number in range(len(cases))
    ]
    return _dice(cases, answers)


def _dice(cases: Sequence[SnapshotCase], answers: Sequence[np.ndarray]) -> list[float]:
    found = []
    for case, labels_XYZ in zip(cases, answers, strict=True):
        truth_XYZ = read_case_labels(case, read_nifti(case.image).grid)
        found.append(dice_by_label(score_masks(truth_XYZ, labels_XYZ, SCHEME)))
    return [float(np.mean([one[name] for one in found])) for name in SCHEME.names]


def _now_and_then(every_s: float = 60.0) -> Callable[[float, str], None]:
    told = [0.0]

    def report(share: float, text: str) -> None:
        if time.monotonic() - told[0] >= every_s:
            told[0] = time.monotonic()
            print(f"  {share:.0%} {text}; load {os.getloadavg()[0]:.1f}", flush=True)

    return report


def _number(text: str) -> tuple[str, str | int | float]:
    key, _, value = text.partition("=")
    for kind in (int, float):
        try:
            return key, kind(value)
        except ValueError:
            continue
    return key, value


if __name__ == "__main__":
    sys.exit(main())
