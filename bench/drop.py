"""From a dropped CT to a task: `python -m bench.drop [--slices 600]`.

Uncompressed 512 × 512 DICOM slices are put into rawdata at once, and ingest runs as the service
does: polling, with its default waits and the text reader of the airlock; Label Studio is a fake in
memory. Beside it, in the same run: a loop of pydicom and Pillow that makes the PNGs and no more.
"""

import argparse
import resource
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from bench.slices import SIDE, by_default, write_ct
from imaging.io.picture import PictureLimits
from imaging.layout import Nas, TaskFolder
from imaging.task import TaskConfig
from services.ingest import dicom_visit, take_volume
from services.ingest.ledger import Ledger
from services.ingest.service import Ingest, Pulse
from services.ingest.tempo import Tempo
from services.ingest.tools import Tools
from stack.runtime.heartbeat import Heartbeat
from stack.runtime.label_studio import LabelStudio, ProjectRef

TASK = "Task001_bench"
CONFIG = "kind: segmentation\nmodality: CT\nlabels: [liver]\n"
QUIET_S, POLL_S, FULL_SCAN_S = 5.0, 5.0, 1800.0
WANTED_S = 60.0
DISTINCT = 40  # invented slices; the others are shifted copies, which cost as much
STAGES = (
    (dicom_visit, "read_head", "whose is it"),
    (dicom_visit, "sort_dicom", "sort and check"),
    (dicom_visit, "sha256_of", "hash the files"),
    (dicom_visit, "read_series", "read pixels"),
    (dicom_visit, "passes_airlock", "look for text"),
    (take_volume, "case_id", "hash the voxels"),
    (take_volume, "shown_window", "find the window"),
    (take_volume, "write_slices", "write the slices"),
    (take_volume, "_to_disk", "bring them to disk"),
    (take_volume, "manifest_files", "hash the case"),
)


class FakeLabelStudio(LabelStudio):
    """An empty project that takes whatever is imported."""

    def __init__(self) -> None:
        self.made: list[dict[str, Any]] = []

    def tasks(self, *_: Any, **__: Any) -> Iterator[dict[str, Any]]:
        return iter(())

    def import_tasks(self, _project: int, tasks: list[dict[str, Any]]) -> list[int]:
        self.made += tasks
        return list(range(len(self.made)))


def timed(function: Callable[..., Any], name: str, spent: dict[str, float]) -> Callable[..., Any]:
    """The function, with its wall-clock time added up."""

    def call(*args: Any, **named: Any) -> Any:
        started = time.perf_counter()
        try:
            return function(*args, **named)
        finally:
            spent[name] += time.perf_counter() - started

    return call


def phantom(random: np.random.Generator, bend: float) -> NDArray[np.int16]:
    """A body with a spine, two kidneys and the grain of a CT: HU + 1024."""
    rows, columns = np.indices((SIDE, SIDE)) / SIDE - 0.5
    hu = np.full((SIDE, SIDE), -1000.0)
    for row, column, high, wide, value in (
        (0.0, 0.0, 0.32, 0.44, 50.0),
        (0.2, 0.0, 0.07, 0.07 + bend, 500.0),
        (0.08, -0.2, 0.08 + bend, 0.05, 180.0),
        (0.08, 0.2, 0.07, 0.05 + bend, 170.0),
    ):
        hu[((rows - row) / high) ** 2 + ((columns - column) / wide) ** 2 < 1] = value
    hu += 20 * gaussian_filter(random.standard_normal((SIDE, SIDE)), 0.8)
    return (hu + 1024).clip(0, 4095).astype(np.int16)


def slices(count: int) -> Iterator[NDArray[np.int16]]:
    random = np.random.default_rng(0)
    made = [phantom(random, 0.0004 * number) for number in range(min(count, DISTINCT))]
    for number in range(count):
        yield np.roll(made[number % DISTINCT], number // DISTINCT, axis=1)


def drop(root: Path, count: int) -> tuple[float, dict[str, float]]:
    """Seconds from the last file's arrival to the task, and what they went to."""
    nas, spent = Nas(root / "nas"), defaultdict[str, float](float)
    task = nas.task(TASK)
    task.rawdata.mkdir(parents=True)
    nas.marker.touch()
    task.config.write_text(CONFIG)
    label_studio = FakeLabelStudio()
    pulse = Pulse(Heartbeat(root / "heartbeat"))
    beats = [time.monotonic()]

    def beat() -> None:
        beats.append(time.monotonic())
        pulse.beat()

    def ensure(_task: TaskFolder, _config: TaskConfig) -> ProjectRef:
        return ProjectRef(1, TASK, "")

    tools = Tools(
        nas=nas,
        ledger=Ledger(root / "state"),
        client=label_studio,
        ensure=ensure,
        pseudonym_key="bench",
        limits=PictureLimits(),
        tempo=Tempo.steady(QUIET_S, FULL_SCAN_S),
        clock=time.monotonic,
        beat=beat,
        is_stopping=lambda: False,
    )
    for module, function, stage in STAGES:
        setattr(module, function, timed(getattr(module, function), stage, spent))
    ingest = Ingest(tools, pulse)
    ingest.round()
    (task.rawdata / "ct").mkdir()
    write_ct(task.rawdata / "ct", slices(count))
    started, busy_s = time.monotonic(), time.process_time()
    working_s = 0.0
    while not label_studio.made:
        before = time.monotonic()
        ingest.round()
        working_s += time.monotonic() - before
        if any(nas.task(TASK).quarantine.glob("q-*")):
            raise SystemExit("the invented CT was put in quarantine: it looks like text")
        if pulse.trouble or time.monotonic() - started > 10 * WANTED_S:
            raise SystemExit(f"no task was made: {pulse.trouble or 'too slow'}")
        if not label_studio.made:
            time.sleep(ingest.next_wait_s(POLL_S))
    whole_s = time.monotonic() - started
    spent["the rest"] = working_s - sum(spent.values())
    spent["wait until the folder is quiet"] = whole_s - working_s
    busy_s = time.process_time() - busy_s
    print(f"processor time: {busy_s:.1f} s; on a busy machine the rest of the work was waiting")
    gaps = np.diff([one for one in beats if one >= started])
    print(f"longest time without a heartbeat: {gaps.max():.1f} s")
    return whole_s, dict(spent)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.drop", description=__doc__)
    parser.add_argument("--slices", type=int, default=600)
    count = parser.parse_args().slices
    with tempfile.TemporaryDirectory(prefix="bench-drop-") as folder:
        whole_s, spent = drop(Path(folder), count)
        peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        started = time.perf_counter()
        by_default(sorted((Path(folder) / "nas" / "dataset" / TASK / "rawdata" / "ct").iterdir()))
        plain_s = time.perf_counter() - started
    for stage, took in sorted(spent.items(), key=lambda pair: -pair[1]):
        print(f"{stage:<32}{took:>7.1f} s")
    print(f"{count} slices from drop to task: {whole_s:.1f} s, peak memory {peak_mib:.0f} MiB")
    print(f"pydicom + Pillow, PNGs alone: {plain_s:.1f} s, {whole_s / plain_s:.1f} of ours")
    print(f"wanted {WANTED_S:.0f} s: {'met' if whole_s <= WANTED_S else 'NOT met'}")
    return 0 if whole_s <= WANTED_S else 1


if __name__ == "__main__":
    raise SystemExit(main())
