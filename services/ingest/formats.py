"""What the files on the desk are, by their first bytes: names and endings decide nothing."""

from imaging.io.sniff import DICOM, NIFTI, NRRD, picture_format, volume_format
from imaging.layout import TaskFolder
from services.ingest.inside import opened_file
from services.ingest.ledger import Stamp
from services.ingest.settle import Settling

HEAD_BYTES = 512
VOLUMES = frozenset({DICOM, NIFTI, NRRD})


class Formats:
    """The formats of one task's files; each file is looked into once, until it changes."""

    def __init__(self, task: TaskFolder) -> None:
        self.task = task
        self._known: dict[str, tuple[Stamp, str | None]] = {}

    def of(self, item: Settling) -> str | None:
        """`NIfTI`, `NRRD`, `DICOM`, `PNG`, `JPEG`, `TIFF`; None for anything else and for files
        that cannot be read, which says so itself when they are taken."""
        path, stamp = item.found.path, item.found.stamp
        known = self._known.get(path)
        if known is None or known[0] != stamp:
            known = self._known[path] = (stamp, self._look(path))
        return known[1]

    def keep(self, paths: set[str]) -> None:
        """Forget all files but these."""
        if len(self._known) > 2 * len(paths) + 1000:
            self._known = {path: self._known[path] for path in paths & self._known.keys()}

    def _look(self, path: str) -> str | None:
        try:
            with opened_file(self.task.rawdata, path) as stream:
                head = stream.read(HEAD_BYTES)
        except OSError:
            return None
        return picture_format(head) or volume_format(head)
