"""What it costs to watch a rawdata folder in which nothing happens.

    python bench/watch.py [FILES …]

In one run, on the same files: ingest's rounds (folder times at every poll, every file at each
full look), and the polling observer of the `watchdog` library at its default tempo and at ours.
Files lie 100 to a folder, on whatever disk the temporary folder is on; caches are warm.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from watchdog.events import FileSystemEventHandler
from watchdog.observers.polling import PollingObserver

from imaging.io.picture import PictureLimits
from imaging.layout import Nas
from services.ingest.ledger import Ledger, Row, Stamp
from services.ingest.service import Ingest, Pulse
from services.ingest.tempo import Tempo
from services.ingest.tools import Tools
from stack.runtime.heartbeat import Heartbeat
from stack.runtime.label_studio import LabelStudio, ProjectRef

TASK = "Task001_bench"
PER_FOLDER = 100
POLL_S, FULL_SCAN_S, QUIET_S = 5.0, 1800.0, 5.0
ROUNDS, FULL_LOOKS = 40, 3
OBSERVED_S = 15.0


class EmptyLabelStudio(LabelStudio):
    """A project without tasks: nothing is there to be told."""

    def tasks(self, *_: Any, **__: Any) -> Iterator[dict[str, Any]]:
        return iter(())


class Clock:
    """Seconds that pass only between rounds."""

    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def fill(nas: Nas, ledger: Ledger, count: int) -> None:
    """So many files that ingest has dealt with."""
    nas.root.mkdir(parents=True)
    nas.marker.touch()
    task = nas.task(TASK)
    rows = []
    for number in range(count):
        path = f"batch{number // PER_FOLDER:05}/{number:06}.png"
        file = task.rawdata / path
        if number % PER_FOLDER == 0:
            file.parent.mkdir(parents=True)
        file.touch()
        status = file.stat()
        rows.append(Row(path, Stamp(status.st_size, status.st_mtime_ns), "picture", "case"))
    ledger.record(TASK, rows)
    task.config.write_text("kind: segmentation\nlabels: [x]\n")


def watch_with_ingest(nas: Nas, ledger: Ledger, state: Path) -> tuple[float, float]:
    """CPU seconds of one round in between, and of one with a full look."""
    clock = Clock()
    pulse = Pulse(Heartbeat(state / "heartbeat"), clock)
    tools = Tools(
        nas=nas,
        ledger=ledger,
        client=EmptyLabelStudio("http://127.0.0.1:9", ""),
        ensure=lambda *_: ProjectRef(1, "", ""),
        pseudonym_key="key",
        limits=PictureLimits(),
        tempo=Tempo.steady(QUIET_S, FULL_SCAN_S),
        clock=clock,
        beat=pulse.beat,
        is_stopping=lambda: False,
    )
    ingest = Ingest(tools, pulse)
    spent: dict[bool, list[float]] = {True: [], False: []}
    for full in [True, *[False] * ROUNDS, *[True, False] * (FULL_LOOKS - 1)]:
        clock.now_s += FULL_SCAN_S + 1 if full else POLL_S
        started = time.process_time()
        ingest.round()
        spent[full].append(time.process_time() - started)
    visitor = ingest.visitors[TASK]
    if visitor.desk.items or pulse.trouble:
        raise SystemExit(f"not steady: {len(visitor.desk)} files, {pulse.trouble!r}")
    return statistics.median(spent[False][2:]), statistics.median(spent[True])


def watch_with_observer(folder: Path, every_s: float) -> float:
    """CPU seconds per second of watchdog's PollingObserver."""
    observer = PollingObserver(timeout=every_s)
    observer.schedule(FileSystemEventHandler(), str(folder), recursive=True)
    observer.start()
    try:
        wall, cpu = time.monotonic(), time.process_time()
        time.sleep(OBSERVED_S)
        return (time.process_time() - cpu) / (time.monotonic() - wall)
    finally:
        observer.stop()
        observer.join()


def measure(count: int) -> Mapping[str, float]:
    """Shares of a core, by way of watching."""
    with tempfile.TemporaryDirectory(prefix="labloop-watch-") as name:
        root = Path(name)
        nas, ledger = Nas(root / "nas"), Ledger(root / "state")
        fill(nas, ledger, count)
        between_s, full_s = watch_with_ingest(nas, ledger, root / "state")
        print(f"  one round {1000 * between_s:.2f} ms, with a full look {full_s:.2f} s of CPU")
        rawdata = nas.task(TASK).rawdata
        shares = {
            f"ingest, every {POLL_S:g} s": between_s / POLL_S + full_s / FULL_SCAN_S,
            f"PollingObserver, every {POLL_S:g} s": watch_with_observer(rawdata, POLL_S),
            "PollingObserver, every 1 s": watch_with_observer(rawdata, 1.0),
        }
        ledger.close()
    return shares


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", type=int, nargs="*", default=[10_000, 100_000])
    for count in parser.parse_args().files:
        print(f"{count} files, nothing happens:")
        shares = measure(count)
        best = next(iter(shares.values()))
        for way, share in shares.items():
            print(f"  {way:32} {100 * share:8.3f} % of a core   {share / best:7.0f} ×")


if __name__ == "__main__":
    main()
