"""How good the models get: `python -m bench.quality cardiac|chest [--budget-s N] [--seed N]`.

Takes a real set through ingest's own code, freezes a snapshot with patients held out, lets the
trainer work on it as it would in the lab, then gives a plain MONAI script the same cases and the
same wall-clock time. Both answers are scored by the same function on the same held-out cases.

The sets lie under LABLOOP_DATA (default ../shared/data).
"""

import argparse
import csv
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from imaging.dataset.cases import load_case
from imaging.dataset.request import freeze_and_request
from imaging.dataset.snapshot import Snapshot, load_snapshot
from imaging.errors import ImagingError
from imaging.io.casesheet import SHEET_NAME, parse_case_sheet
from imaging.io.picture import PictureLimits, read_label_map
from imaging.labels import label_scheme
from imaging.layout import MARKER, Nas
from imaging.model.metrics import score_classes, score_masks, summarise_masks
from imaging.publish import read_json
from imaging.runs import load_request, load_state
from imaging.task import RecipeChoice, SplitPolicy, TaskConfig, save_task
from services.ingest.errors import RefusedError
from services.ingest.take import Intake, land_classes, land_mask, take_picture
from services.trainer.claims import claim, this_process
from services.trainer.settings import TrainerSettings, let_threads_sleep
from services.trainer.supervise import supervise

TASK = "Task001_bench"
DATA = Path(os.environ.get("LABLOOP_DATA", Path(__file__).parents[2] / "shared" / "data"))


@dataclass(frozen=True, slots=True)
class Benchmark:
    """A set, what is asked of a model of it, and how long it may train."""

    folder: str
    measure: str  # the figure of an evaluation's summary
    required: float
    budget_s: float
    config: TaskConfig
    plain: str


CARDIAC = Benchmark(
    folder="cardiac_lv_sunnybrook",
    measure="mean Dice",
    required=0.87,
    budget_s=600.0,
    config=TaskConfig(kind="segmentation", scheme=label_scheme(["lv"])),
    plain="plain_segmentation.py",
)
CHEST = Benchmark(
    folder="chest_xray_pneumonia",
    measure="AUROC",
    required=0.98,
    budget_s=240.0,
    config=TaskConfig(kind="classification", scheme=label_scheme(["normal", "pneumonia"])),
    plain="plain_classification.py",
)
BENCHMARKS = {"cardiac": CARDIAC, "chest": CHEST}


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench.quality", description=__doc__)
    parser.add_argument("set", choices=BENCHMARKS)
    parser.add_argument("--budget-s", type=float, help="training time of each, in seconds")
    parser.add_argument("--seed", type=int, default=0, help="of the split of the patients")
    parser.add_argument("--only", choices=["labloop", "plain"], help="leave the other one out")
    parser.add_argument("--number", action="append", default=[], help="KEY=VALUE of the recipe")
    chosen = parser.parse_args()
    let_threads_sleep(os.environ)  # for both: the comparison is about the models
    bench = BENCHMARKS[chosen.set]
    budget_s = chosen.budget_s or bench.budget_s
    if not (DATA / bench.folder).is_dir():
        raise SystemExit(f"{DATA / bench.folder} is absent; LABLOOP_DATA names the sets' folder")
    recipe = RecipeChoice("auto", budget_s, dict(_number(text) for text in chosen.number))
    config = _changed(bench.config, recipe, chosen.seed)
    with tempfile.TemporaryDirectory(prefix="labloop-quality-") as folder:
        nas = fill_nas(Path(folder) / "nas", bench, config)
        snapshot, run = _freeze(nas, config)
        counts = ", ".join(f"{len(snapshot.of(s))} {s}" for s in ("train", "validation", "test"))
        print(f"{bench.folder}: {counts}; {budget_s:.0f} s each; load {os.getloadavg()[0]:.1f}")
        scores: dict[str, float] = {}
        if chosen.only != "plain":
            scores["labloop"] = ours(nas, run, bench)
        if chosen.only != "labloop":
            scores["plain MONAI"] = plain(snapshot, bench, budget_s, Path(folder))
    for name, score in scores.items():
        print(f"{name:12} {bench.measure} {score:.4f}")
    is_good = scores.get("labloop", 1.0) >= max(bench.required, scores.get("plain MONAI", 0.0))
    print(f"asked: at least {bench.required}, and not below the plain script")
    return 0 if is_good else 1


def fill_nas(root: Path, bench: Benchmark, config: TaskConfig) -> Nas:
    """A NAS with the set dropped in rawdata and taken in, labels and all."""
    root.mkdir()
    (root / MARKER).touch()
    nas = Nas(root)
    task = nas.task(TASK)
    source = DATA / bench.folder
    masks = config.kind == "segmentation"
    with (source / ("cases.csv" if masks else "labels.csv")).open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    sheet = ["file,patient"]
    places: list[tuple[str, str]] = []  # picture and, if there is one, its mask
    for row in rows:
        name = row["file"]
        place = f"images/{name}" if masks else f"{row['label']}/{name}"
        mask = f"masks/{name}" if masks else ""
        for path in filter(None, (place, mask)):
            (task.rawdata / path).parent.mkdir(parents=True, exist_ok=True)
            folder = "masks" if path == mask else "images"
            shutil.copy(source / folder / name, task.rawdata / path)
        sheet.append(f"{place},{row['patient']}")
        places.append((place, mask))
    text = "\n".join(sheet)
    (task.rawdata / SHEET_NAME).write_text(text)
    save_task(task.config, config)
    limits = PictureLimits()
    intake = Intake(task, config, parse_case_sheet(text.encode()), "a key for a benchmark", limits)
    for place, mask in places:
        try:
            case = take_picture(intake, place).case
        except RefusedError as error:  # the same pixels under two names
            print(f"left out a picture: {error}")
            continue
        if mask:
            land_mask(intake, mask, place, case)
        else:
            land_classes(intake, place, case)
    return nas


def ours(nas: Nas, run_id: str, bench: Benchmark) -> float:
    """The score of a run that the trainer does as it would in the lab."""
    run = nas.run(TASK, run_id)
    settings = TrainerSettings.from_env(
        {"NAS_ROOT": str(nas.root), "HEARTBEAT_FILE": str(nas.root.parent / "heartbeat")}
    )
    lease = claim(run, this_process(), settings.lease_stale_s)
    if lease is None:
        raise SystemExit("the benchmark's own run is claimed by somebody else")
    with _environment(nas):
        supervise(lease, settings, threading.Event(), lambda: None)
    state = load_state(run)
    if state.state != "judged" or state.version is None:
        raise SystemExit(f"the run did not end well: {state.message}")
    record = read_json(nas.model(TASK).version(state.version) / "labloop.json")
    print(f"labloop: {record['training']}")
    print(f"labloop: {record['metrics']}")
    print(f"labloop: {state.message}")
    return float(record["metrics"][bench.measure])


def plain(snapshot: Snapshot, bench: Benchmark, budget_s: float, folder: Path) -> float:
    """The score of the plain script on the same cases."""
    out = folder / "plain"
    out.mkdir()
    scheme, test = snapshot.scheme, snapshot.of("test")
    masks = snapshot.kind == "segmentation"
    train = []
    for case in snapshot.of("train"):
        entry: dict[str, object] = {"image": str(case.image)}
        if masks:
            entry["label"] = str(case.labels)
        else:
            entry["class"] = scheme.names.index((case.classes or ("",))[0])
        train.append(entry)
    split = folder / "split.json"
    count = "labels" if masks else "classes"
    tests = [{"image": str(case.image)} for case in test]
    split.write_text(json.dumps({count: len(scheme.labels), "train": train, "test": tests}))
    script = Path(__file__).parent / bench.plain
    began = time.monotonic()
    answer = subprocess.run(
        [sys.executable, str(script), str(split), str(budget_s), str(out)],
        stdout=subprocess.PIPE, text=True, check=True,
    )  # fmt: skip
    took_s = time.monotonic() - began
    print(f"plain MONAI: {answer.stdout.strip().splitlines()[-1]}, {took_s:.0f} s in all")
    if not masks:
        odds = np.array(json.loads((out / "probabilities.json").read_text()))
        report = score_classes([case.classes or () for case in test], odds, scheme)
        return float(report.auroc or 0.0)
    found = []
    for number, case in enumerate(test):
        if case.labels is None:
            raise SystemExit(f"{case.case} has no label map")
        shape_HW = load_case(case.image.parent).shape_HW
        truth_HW = read_label_map(case.labels, shape_HW)
        pred_HW = read_label_map(out / f"{number}.png", shape_HW)
        found.append(score_masks(truth_HW, pred_HW, scheme))
    return float(summarise_masks(found).overall["dice"].value or 0.0)


def _freeze(nas: Nas, config: TaskConfig) -> tuple[Snapshot, str]:
    task = nas.task(TASK)
    try:
        run = freeze_and_request(nas, task, config, requested_by="person", reason="a benchmark")
    except ImagingError as error:
        raise SystemExit(f"{error}. {error.hint}") from error
    return load_snapshot(task.snapshot(load_request(run).snapshot)), run.run_id


def _changed(config: TaskConfig, recipe: RecipeChoice, seed: int) -> TaskConfig:
    split = SplitPolicy(seed=seed)
    return TaskConfig(kind=config.kind, scheme=config.scheme, recipe=recipe, split=split)


def _number(text: str) -> tuple[str, str | float | bool]:
    key, _, value = text.partition("=")
    try:
        return key, json.loads(value)
    except ValueError:
        return key, value


@contextmanager
def _environment(nas: Nas) -> Iterator[None]:
    """What the trainer's child process reads; ours is as it was afterwards."""
    before = dict(os.environ)
    heartbeat = nas.root.parent / "heartbeat"
    own = {"NAS_ROOT": str(nas.root), "HEARTBEAT_FILE": str(heartbeat), "TRAINER_NICE": "0"}
    os.environ.update(own)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


if __name__ == "__main__":
    sys.exit(main())
