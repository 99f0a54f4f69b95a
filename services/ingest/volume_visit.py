"""What a visit does with a task of volumes: NIfTI and NRRD files here, DICOM in `dicom_visit`."""

import logging
import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath

from imaging.dataset.cases import CaseRecord
from imaging.io.sniff import DICOM, NIFTI, NRRD
from imaging.io.volumes import read_volume
from imaging.layout import TaskFolder
from services.ingest.attempt import Attempts
from services.ingest.dicom_visit import IN_A_VISIT_S, DicomVisit
from services.ingest.errors import RefusedError
from services.ingest.formats import Formats
from services.ingest.inside import held_paths
from services.ingest.ledger import Row
from services.ingest.settle import Settling
from services.ingest.sync import TaskSync
from services.ingest.take import Intake, land_classes, refused_links
from services.ingest.take_labels import land_labels
from services.ingest.take_volume import is_whole, take_files
from services.ingest.tree import is_contest_input, place_of
from services.ingest.units import Role, Roles, Unit, units_of

log = logging.getLogger(__name__)

AT_ONCE = 200  # cases in a visit: a large drop must not keep other tasks waiting


class VolumeVisit:
    """What ingest remembers of one task of volumes between visits."""

    def __init__(
        self, task: TaskFolder, attempts: Attempts, formats: Formats, sync: TaskSync
    ) -> None:
        self.task, self.attempts, self.formats, self.sync = task, attempts, formats, sync
        self.tools, self.desk = attempts.tools, attempts.desk
        self.dicom = DicomVisit(task, attempts, sync)
        self.has_more = False
        self._arrivals: dict[str, float] = {}  # newest file of a folder and of its partner

    def take_all(self, intake: Intake, *, is_whole: bool) -> None:
        """Take what has settled.

        Args:
            intake: the task.
            is_whole: whether all folders could be listed, so that what is not there is missing.
        """
        self.dicom.notice()
        items = [i for i in self.desk.items.values() if not i.found.trouble]
        self._pass_over(i for i in items if is_contest_input(i.found.path))
        quiet = [i for i in self.desk.quiet(self.tools.clock()) if not i.found.trouble]
        files, dicom = [], []
        until_s = self.tools.clock() + IN_A_VISIT_S
        for item in quiet:
            if self.tools.clock() > until_s:  # what was looked at is remembered
                self.has_more = True
                return
            found = self.formats.of(item)
            if found in (NIFTI, NRRD):
                files.append(item)
            elif found == DICOM:
                dicom.append(item)
            else:
                self.attempts.one(item, self._refuse_stranger)
        self.formats.keep(set(self.desk.items))
        visit = _Files(self, intake, files, is_whole=is_whole)
        visit.take_all()
        self.dicom.take_all(intake, dicom)
        self.has_more = visit.has_more or self.dicom.has_more

    def _pass_over(self, items: Iterable[Settling]) -> None:
        """A challenge's test cases stay where they are, for `labloop submit`."""
        passed = list(items)
        if passed:
            rows = [Row(item.found.path, item.found.stamp, "passed") for item in passed]
            self.attempts.done(passed, rows)
            log.info(
                "task %s: %d files of a test set are no cases; they stay in rawdata",
                self.task.name,
                len(passed),
            )

    def _refuse_stranger(self, item: Settling) -> Row | None:
        found = self.formats.of(item)
        if found is None:
            with refused_links(), held_paths(self.task.rawdata, [item.found.path]) as (file,):
                read_volume(file)  # knows what it seems to be
        raise RefusedError("not-a-volume", f"a {found} picture")

    def newest_s(self, key: str) -> float:
        """When the last new file came to the folders of a case."""
        return self._arrivals.get(key.rpartition("/")[0], -math.inf)

    def note_arrival(self, key: str, since_s: float) -> None:
        folder = key.rpartition("/")[0]
        self._arrivals[folder] = max(self._arrivals.get(folder, since_s), since_s)


class _Files:
    """The NIfTI and NRRD files of one visit."""

    def __init__(
        self, desk: VolumeVisit, intake: Intake, quiet: Sequence[Settling], *, is_whole: bool
    ) -> None:
        self.owner, self.intake, self.is_whole = desk, intake, is_whole
        self.attempts, self.tools = desk.attempts, desk.tools
        self.roles = Roles(intake.config.volume.channels, intake.sheet)
        self.has_more = False
        self.images: dict[str, Settling] = {}
        self.labels: dict[str, list[Settling]] = defaultdict(list)  # by key, to be taken now
        self.labels_there: dict[str, int] = defaultdict(int)  # by key, on the desk at all
        self.coming: set[str] = set()  # keys of label maps that have not settled
        self.expected: set[str] = set()  # keys of images that are on their way
        self.found: list[tuple[str, Role]] = []
        ready = {item.found.path for item in quiet}
        for item in sorted(desk.desk.items.values(), key=lambda one: one.found.path):
            path = item.found.path
            if not item.found.trouble and (path in ready or not self._is_other(item)):
                self._sort_in(item, path in ready)
        folders = {item.found.path.rpartition("/")[0] for item in desk.desk.items.values()}
        self.expected.update(key for folder in folders for key in _keys_of_folder(folder))

    def _is_other(self, item: Settling) -> bool:
        """Whether a file that waits is known to be no single volume."""
        return item.tries > 0 and self.owner.formats.of(item) not in (NIFTI, NRRD)

    def _sort_in(self, item: Settling, is_ready: bool) -> None:
        try:
            role = self.roles.of(item.found.path)
        except RefusedError as refusal:
            if is_ready:
                self.attempts.refuse([item], refusal)
            return
        self.owner.note_arrival(role.key, item.since_s)
        if role.part == "image":
            self.expected.add(role.key)
            if is_ready:
                self.images[item.found.path] = item
                self.found.append((item.found.path, role))
            return
        self.labels_there[role.key] += 1
        if is_ready:
            self.labels[role.key].append(item)
        elif not item.tries:
            self.coming.add(role.key)

    def take_all(self) -> None:
        units = units_of(self.found, self.roles.count)
        taken, until_s = 0, self.tools.clock() + IN_A_VISIT_S
        for unit in units:
            keys = self.roles.label_keys(unit.key)
            if self.coming.intersection(keys):
                continue  # together with its label map, a case becomes one import
            if taken == AT_ONCE or self.tools.clock() > until_s:
                self.has_more = True
                return
            taken += 1
            self._take_unit(unit)
            for label in [item for key in keys for item in self.labels.pop(key, [])]:
                self._take_label(label)
        for label in [item for items in self.labels.values() for item in items]:
            if self.tools.clock() > until_s:
                self.has_more = True
                return
            self._take_label(label)

    def _take_unit(self, unit: Unit) -> None:
        own = {unit.key} if self.roles.count > 1 else set()
        paths = [path for path, role in self.found if role.key in own] or unit.in_order()
        items = [self.images[path] for path in paths]

        def take() -> Sequence[Row] | None:
            if unit.rivals:
                raise RefusedError("channel-twice", "two files for one channel of a case")
            self._add_known(unit)
            missing = self.roles.count - len(unit.paths)
            if missing and not (len(unit.paths) == 1 and is_whole(self.intake, unit.first)):
                since_s = self.owner.newest_s(unit.key)
                if self._may_come(since_s) or not self.is_whole:
                    return None
                names = [self.intake.config.volume.channels[at] for at in sorted(unit.paths)]
                raise RefusedError(
                    "channel-missing", f"{', '.join(names)}, but {missing} channels did not come"
                )
            name = self.roles.patient_name(unit.key)
            record = take_files(self.intake, unit.in_order(), name)
            self._label_by_folder(unit, record)
            return [
                Row(i.found.path, i.found.stamp, "picture", record.case, unit.key) for i in items
            ]

        self.attempts.together(items, take)

    def _add_known(self, unit: Unit) -> None:
        """Channels that were taken before, when another channel of their case was replaced."""
        if self.roles.count == 1:
            return
        for row in self.attempts.partners(unit.key, "picture", but=list(unit.paths.values())):
            unit.paths.setdefault(self.roles.of(row.path).channel, row.path)

    def _label_by_folder(self, unit: Unit, record: CaseRecord) -> None:
        landed = land_classes(self.intake, unit.first, record.case)
        self.owner.sync.add(record.case, labelled=landed)

    def _take_label(self, item: Settling) -> None:
        self.attempts.one(item, self._label_row)

    def _label_row(self, item: Settling) -> Row | None:
        """The row of a label map that was dealt with; None while its image may still come."""
        path, key = item.found.path, self.roles.of(item.found.path).key
        if self.labels_there[key] > 1 or self.attempts.partners(key, "mask", but=[path]):
            raise RefusedError("mask-ambiguous", "one of several label maps for one image")
        keys = self.roles.image_keys(key)
        images = [row for one in keys for row in self.attempts.partners(one, "picture")]
        cases = {row.case for row in images if row.case} or self._cases_of_folder(keys)
        if not cases and (held := self._held_in_folder(keys)):
            return Row(path, item.found.stamp, "held", held, key)  # it comes back with its series
        if not cases:
            since_s = max(item.since_s, self.owner.newest_s(key))
            if self.expected.intersection(keys) or self._may_come(since_s) or not self.is_whole:
                return None
            raise RefusedError("mask-without-picture", "a label map without an image")
        if len(cases) > 1:
            raise RefusedError("mask-ambiguous", "a label map that fits several cases")
        case = cases.pop()
        landed = land_labels(self.intake, path, case)
        self.owner.sync.add(case, labelled=landed)
        if not landed and self.tools.ledger.find(self.owner.task.name, path) is not None:
            log.warning("case %s: its label map changed; correct it in Label Studio", case)
        return Row(path, item.found.stamp, "mask", case, key)

    def _cases_of_folder(self, keys: Sequence[str]) -> set[str]:
        """Cases of DICOM series in a folder called like a label map: `images/x/` of `labels/x`."""
        return {
            case
            for folder, case in self.tools.ledger.series_folders(self.owner.task.name)
            if _keys_of_folder(folder).intersection(keys)
        }

    def _held_in_folder(self, keys: Sequence[str]) -> str | None:
        """What the ledger calls a series of such a folder that waits in quarantine."""
        rows = self.tools.ledger.held(self.owner.task.name)
        folders = {row.path.rpartition("/")[0]: row.case for row in rows}
        for folder, case in folders.items():
            if _keys_of_folder(folder).intersection(keys):
                return case
        return None

    def _may_come(self, since_s: float) -> bool:
        return self.tools.clock() < since_s + self.tools.tempo.orphan_wait_s


def _keys_of_folder(folder: str) -> set[str]:
    """The keys of label maps that may be meant for a DICOM series in a folder."""
    ways = (folder, *map(str, PurePosixPath(folder).parents))
    return {pair for way in ways if (pair := place_of(way).pair) is not None}
