"""Pictures that share a bare name, so that a name in cases.csv without its folder means none."""

import unicodedata
from collections import defaultdict
from collections.abc import Iterable
from functools import cached_property

from imaging.layout import TaskFolder
from imaging.task import Kind
from services.ingest.inside import may_be_there
from services.ingest.ledger import Ledger
from services.ingest.names import composed
from services.ingest.settle import Settling
from services.ingest.tree import place_of


class Namesakes:
    """The pictures of one task by bare name: those taken, and those on their way in."""

    def __init__(
        self, task: TaskFolder, ledger: Ledger, coming: Iterable[Settling], kind: Kind
    ) -> None:
        self.task, self.ledger, self.coming, self.kind = task, ledger, coming, kind

    def of(self, path: str) -> list[str]:
        """The other pictures that have the bare name of a picture."""
        name = _bare(path)
        # The ledger holds names as the disk spells them: Macs decompose letters.
        spellings = {name, unicodedata.normalize("NFD", name), path.rsplit("/", 1)[-1]}
        taken = [row.path for one in spellings for row in self.ledger.named(self.task.name, one)]
        there = [one for one in taken if may_be_there(self.task.rawdata, one)]
        return sorted({*there, *self._coming[name]} - {path})

    @cached_property
    def _coming(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = defaultdict(list)
        for item in self.coming:
            path = item.found.path
            is_mask = self.kind == "segmentation" and place_of(path).is_mask
            if not item.found.trouble and not is_mask:
                found[_bare(path)].append(path)
        return found


def _bare(path: str) -> str:
    return composed(path.rsplit("/", 1)[-1])
