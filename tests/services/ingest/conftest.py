"""A lab in a temporary folder: a NAS, a Label Studio in memory and a clock that tests turn."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydicom import Dataset

from imaging.dataset.cases import CaseRecord, list_cases
from imaging.deid.burned_in import BurnedIn
from imaging.io.mask import PixelArray
from imaging.io.picture import PictureLimits
from imaging.layout import Nas, TaskFolder
from imaging.task import TaskConfig
from services.ingest.airlock import FindText
from services.ingest.ledger import Ledger
from services.ingest.service import Ingest, Pulse
from services.ingest.tempo import Tempo
from services.ingest.tools import Tools
from stack.runtime.heartbeat import Heartbeat
from stack.runtime.label_studio import LabelStudioDownError, ProjectRef
from tests.fakes.label_studio import FakeLabelStudio

QUIET_S = 5.0
TASK = "Task001_heart"


def file_bytes(pixels: PixelArray, form: str = "PNG", **options: Any) -> bytes:
    stream = BytesIO()
    Image.fromarray(pixels).save(stream, form, **options)
    return stream.getvalue()


def picture(seed: int, shape: tuple[int, ...] = (24, 32)) -> PixelArray:
    """Pixels that differ for every seed."""
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def see_no_text(
    _headers: Sequence[Dataset], slices: Iterable[PixelArray], _beat: Callable[[], None]
) -> BurnedIn | None:
    """In place of the text reader, which takes seconds to start: looks and sees nothing."""
    assert all(one.ndim == 2 and one.dtype == np.uint8 for one in slices)
    return None


class Lab:
    """What a test does with it: drop files, let time pass, look."""

    def __init__(self, root: Path) -> None:
        self.nas = Nas(root / "nas")
        self.state = root / "state"
        self.now_s = 1000.0
        self.label_studio = FakeLabelStudio()
        self.stopping = False
        self.find_text: FindText = see_no_text
        self.tempo = Tempo.steady(QUIET_S, full_scan_s=1800.0)
        self.nas.root.mkdir()
        self.nas.marker.touch()
        self.task.rawdata.mkdir(parents=True)
        self.start()

    @property
    def task(self) -> TaskFolder:
        return self.nas.task(TASK)

    def start(self) -> None:
        """A fresh process with the same files."""
        self.ledger = Ledger(self.state)
        self.pulse = Pulse(Heartbeat(self.state / "heartbeat"), lambda: self.now_s)
        self.ingest = Ingest(self._tools(), self.pulse)

    def restart(self) -> None:
        self.ledger.close()
        self.start()

    def _tools(self) -> Tools:
        return Tools(
            nas=self.nas,
            ledger=self.ledger,
            client=self.label_studio,
            ensure=self._ensure,
            pseudonym_key="key",
            limits=PictureLimits(max_pixels=4_000_000, max_bytes=32 << 20),
            tempo=self.tempo,
            clock=lambda: self.now_s,
            beat=self.pulse.beat,
            is_stopping=lambda: self.stopping,
            find_text=lambda headers, slices, beat: self.find_text(headers, slices, beat),
        )

    def _ensure(self, task: TaskFolder, config: TaskConfig) -> ProjectRef:
        if self.label_studio.down:
            raise LabelStudioDownError("down")
        found = self.label_studio.find_project(task.name)
        return found or ProjectRef(self.label_studio.add_project(task.name), config.title, "")

    # --- doing --------------------------------------------------------------------------------

    def drop(self, path: str, data: bytes) -> Path:
        """A file in rawdata."""
        target = self.task.rawdata / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
        return target

    def drop_picture(self, path: str, seed: int, shape: tuple[int, ...] = (24, 32)) -> Path:
        return self.drop(path, file_bytes(picture(seed, shape)))

    def configure(self, text: str) -> None:
        self.task.config.write_text(text)

    def round(self, pass_s: float = 0.0) -> None:
        self.now_s += pass_s
        self.ingest.round()

    def settle(self, pass_s: float = 90.0) -> None:
        """Rounds every few seconds, for long enough that everything has been decided."""
        self.ingest.round()
        end_s = self.now_s + pass_s
        while self.now_s < end_s:
            self.round(QUIET_S)

    # --- looking ------------------------------------------------------------------------------

    def cases(self) -> dict[str, CaseRecord]:
        """Source path → case."""
        return {case.source.path: case for case in list_cases(self.task)}

    def refusals(self) -> dict[str, str]:
        """Keyword of the reason → text of reason.txt."""
        texts = [path.read_text() for path in self.task.rejected.glob("rej-*/reason.txt")]
        return {text.split()[1]: text for text in texts}

    def left(self) -> list[str]:
        """What lies in rawdata."""
        return sorted(
            path.relative_to(self.task.rawdata).as_posix()
            for path in self.task.rawdata.rglob("*")
            if not path.is_dir()
        )


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lab]:
    monkeypatch.setattr("os.fsync", lambda _: None)  # no power is cut here; it is half the time
    lab = Lab(tmp_path)
    yield lab
    lab.ledger.close()
    lab.label_studio.close()
