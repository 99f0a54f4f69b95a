"""What every visit of ingest works with; the same for all tasks."""

from collections.abc import Callable
from dataclasses import dataclass

from imaging.deid.burned_in import find_burned_in
from imaging.io.picture import PictureLimits
from imaging.io.volumes import LIMITS, VolumeLimits
from imaging.layout import Nas, TaskFolder
from imaging.task import TaskConfig
from services.ingest.airlock import FindText
from services.ingest.ledger import Ledger
from services.ingest.tempo import Tempo
from stack.runtime.label_studio import LabelStudio, ProjectRef


@dataclass(frozen=True, slots=True)
class Tools:
    """Where files lie, how long things wait, and whom to tell."""

    nas: Nas
    ledger: Ledger
    client: LabelStudio
    ensure: Callable[[TaskFolder, TaskConfig], ProjectRef]
    pseudonym_key: str
    limits: PictureLimits
    tempo: Tempo
    clock: Callable[[], float]  # monotonic seconds
    beat: Callable[[], None]  # says that the loop is alive
    is_stopping: Callable[[], bool]
    volume_limits: VolumeLimits = LIMITS
    find_text: FindText = find_burned_in  # in the pixels of a DICOM series
