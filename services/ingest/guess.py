"""Whether a task is one of pictures or of volumes, when no task.yaml says what it is."""

from collections.abc import Callable, Iterable

from imaging.errors import VolumeError
from imaging.io.casesheet import CaseSheet
from imaging.io.sniff import DICOM
from imaging.io.volumes import read_volume
from imaging.layout import TaskFolder
from imaging.task import TaskConfig
from services.ingest.dicom_head import read_head
from services.ingest.formats import VOLUMES, Formats
from services.ingest.infer_volumes import VolumeFiles, can_be_read, infer_volume_task
from services.ingest.inferred import begins_well, infer_task
from services.ingest.inside import held_paths
from services.ingest.settle import Settling
from services.ingest.take import refused_links


class Guess:
    """What the files on the desk of one task are; all of them have settled."""

    def __init__(
        self,
        task: TaskFolder,
        formats: Formats,
        items: Iterable[Settling],
        beat: Callable[[], None],
    ) -> None:
        self.task = task
        paths: dict[str, str | None] = {
            item.found.path: formats.of(item)
            for item in sorted(items, key=lambda one: one.found.path)
            if not item.found.trouble
        }
        pictures = [path for path, found in paths.items() if found and found not in VOLUMES]
        files = [path for path, found in paths.items() if found in VOLUMES and found != DICOM]
        dicom = [path for path, found in paths.items() if found == DICOM]
        # Not guessed from files that are about to be refused.
        self.pictures = pictures if begins_well(task, pictures) else []
        volumes = VolumeFiles(files, dicom, beat)
        self.volumes = volumes if can_be_read(task, volumes) else VolumeFiles((), ())
        self._likely = {*self.pictures, *self.volumes.files, *self.volumes.dicom}

    @property
    def can_be_made(self) -> bool:
        return bool(self._likely)

    def is_useless(self, item: Settling) -> bool:
        """Whether a file tells nothing about its task, as it is no image or a broken one."""
        return not item.found.trouble and item.found.path not in self._likely

    def make(self, sheet: CaseSheet | None) -> tuple[TaskConfig, str]:
        """The task as it seems to be, and why. What there is more of decides.

        Raises:
            HoldError: there are only masks, or what is there cannot be used.
        """
        if len(self.volumes.files) + len(self.volumes.dicom) > len(self.pictures):
            return infer_volume_task(self.task, self.volumes, sheet)
        return infer_task(self.task, self.pictures, sheet)


def check_volume(task: TaskFolder, path: str, found: str | None) -> None:
    """Refuse a file that begins like a volume and is none.

    Raises:
        VolumeError: it is damaged.
        OSError: it cannot be read.
    """
    if found == DICOM:
        head = read_head(task.rawdata, path)
        if head is None or not (head.is_image or head.is_label or head.is_directory):
            raise VolumeError("a DICOM file without an image", reason="not-a-volume")
        return
    with refused_links(), held_paths(task.rawdata, [path]) as (file,):
        read_volume(file)
