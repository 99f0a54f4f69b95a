"""How good the champion gets through the whole stack: `python -m bench.loop_quality SET`.

Nothing is taken by a short cut: a stack is started in a fresh home, the pictures are dropped in
rawdata/, and the labels arrive as they would in a lab. `cardiac`: every heart is submitted through
Label Studio's API by a scripted annotator. `chest`: class folders. `hippocampus`: 20 volumes are
submitted slice by slice through Label Studio, the label maps of the other 130 lie beside them. The
watchdog freezes and requests, the trainer trains, the gate promotes. Then a plain MONAI script gets
the same snapshot and the same wall-clock time (for volumes: `python -m bench.hippocampus`).

The pseudonym key is fixed, so that the same patients are held out each time; `--seed` draws others.
The sets lie under LABLOOP_DATA (default ../shared/data).
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from bench.quality import BENCHMARKS, DATA, Benchmark, plain
from imaging.dataset.snapshot import load_snapshot
from imaging.labels import label_scheme
from imaging.publish import read_json
from imaging.runs import load_request
from imaging.task import RecipeChoice, TaskConfig
from services.trainer.settings import let_threads_sleep
from stack.bootstrap import Wishes
from stack.control import start_detached, stop, wait_until_healthy
from stack.credentials import LABEL_STUDIO_TOKEN, PSEUDONYM_KEY
from stack.demo.annotator import Annotator
from stack.demo.dataset import DemoSet, cardiac_set, chest_set, hippocampus_set
from stack.demo.narrator import Narrator
from stack.demo.story import Round, Story
from stack.home import Home
from stack.runtime.label_studio import LabelStudio

HEALTHY_S = 300.0
SETS: Mapping[str, Callable[[], DemoSet]] = {
    "cardiac": lambda: cardiac_set(DATA),
    "chest": lambda: chest_set(DATA, given_share=1.0),
    "hippocampus": lambda: hippocampus_set(DATA),
}
HIPPOCAMPUS = Benchmark(
    folder="hippocampus_mr",
    measure="mean Dice",
    required=0.88,
    budget_s=600.0,
    config=TaskConfig(kind="segmentation", scheme=label_scheme(["anterior", "posterior"])),
    plain="plain_volumes.py",
)


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench.loop_quality", description=__doc__)
    parser.add_argument("set", choices=SETS)
    parser.add_argument("--budget-s", type=float, help="training time of each, in seconds")
    parser.add_argument("--seed", type=int, default=0, help="of the split of the patients")
    parser.add_argument("--only", choices=["labloop"], help="leave the plain script out")
    chosen = parser.parse_args()
    let_threads_sleep(os.environ)  # for both: the comparison is about the models
    bench = BENCHMARKS.get(chosen.set, HIPPOCAMPUS)
    budget_s = chosen.budget_s or bench.budget_s
    demo = _one_round(SETS[chosen.set](), budget_s, chosen.seed)
    with tempfile.TemporaryDirectory(prefix="labloop-loop-quality-") as folder:
        home = Home(Path(folder).resolve() / "home")
        made = turn_once(home, demo)
        record = read_json(home.nas.model(demo.task).version(str(made.version)) / "labloop.json")
        request = load_request(home.nas.run(demo.task, made.run))
        snapshot = load_snapshot(home.nas.task(demo.task).snapshot(request.snapshot))
        counts = [f"{len(snapshot.of(s))} {s}" for s in ("train", "validation", "test")]
        patients = len({case.patient for case in snapshot.of("test")})
        print(f"{bench.folder}: {', '.join(counts)}, {patients} patients held out")
        print(f"labloop: {record['training']}, {record['metrics']}")
        scores = {"labloop": float(record["metrics"][bench.measure])}
        if chosen.only is None and chosen.set in BENCHMARKS:
            scores["plain MONAI"] = plain(snapshot, bench, budget_s, Path(folder))
    for name, score in scores.items():
        print(f"{name:12} {bench.measure} {score:.4f}")
    print(f"asked: at least {bench.required}, and not below the plain script; promoted by the gate")
    is_good = scores["labloop"] >= max(bench.required, scores.get("plain MONAI", 0.0))
    return 0 if is_good and made.promoted else 1


def turn_once(home: Home, demo: DemoSet) -> Round:
    """Run the stack until the first verdict on the set."""
    home.secrets.mkdir(parents=True)
    home.secret(PSEUDONYM_KEY).write_text("a key for a benchmark\n", encoding="utf-8")
    try:
        start_detached(home, Wishes(), tied=True)
        status = wait_until_healthy(home, HEALTHY_S)
        url = next(one.url for one in status.services if one.name == "label-studio")
        token = home.secret(LABEL_STUDIO_TOKEN).read_text(encoding="utf-8").strip()
        with LabelStudio(str(url), token, timeout_s=60.0) as client:
            story = Story(home, demo, client, Narrator(print))
            project = story.arrive()
            annotator = Annotator(client, project.id, story.folder, demo.truths)
            story.annotate(annotator, demo.rounds[0])
            return story.train(turn=1)
    finally:
        stop(home)


def _one_round(demo: DemoSet, budget_s: float, seed: int) -> DemoSet:
    """The set with all its labels in one run."""
    config = replace(
        demo.config,
        recipe=RecipeChoice("auto", budget_s),
        split=replace(demo.config.split, seed=seed),
        retrain=replace(demo.config.retrain, min_new_labels=len(demo.items), quiet_s=10.0),
    )
    return replace(demo, config=config, rounds=(len(demo.items) - demo.given, 0))


if __name__ == "__main__":
    sys.exit(main())
