"""What a visit does with DICOM files: whole series become cases, others rejected/ or quarantine.

A series is told by its UID, wherever its files lie, and is looked at once nothing has come to the
top folders of its files for a while: a slow copy must not be cut in two. Names of DICOM files and
their folders often tell a patient's name, so none of them gets into a record, a reason or a log.
"""

import logging
import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from imaging.dataset.cases import CaseSource
from imaging.dataset.quarantine import QuarantineEntry, decision_for, is_gone, series_key
from imaging.deid.headers import safe_headers
from imaging.deid.identity import patient_of
from imaging.deid.pseudonym import keyed
from imaging.errors import DeidentificationError, PictureError, RecordError
from imaging.io.dicom.read import read_series
from imaging.io.dicom.series import RefusedFiles, Series, sort_dicom
from imaging.layout import TaskFolder
from imaging.publish import sha256_of
from imaging.volume import Volume
from services.ingest.airlock import merged, passes_airlock, slices_of
from services.ingest.attempt import Attempts, refusal_of
from services.ingest.dicom_head import DicomHead, read_head
from services.ingest.dicom_labels import land_objects, series_of
from services.ingest.errors import HoldError, RefusedError
from services.ingest.inside import held_paths
from services.ingest.ledger import Row, Stamp, State
from services.ingest.scan import Found
from services.ingest.settle import Settling
from services.ingest.sync import TaskSync
from services.ingest.take import SERIES, Intake, land_classes, refused_links, row_of
from services.ingest.take_volume import Origin, check_modality, shown_window, take_volumes
from services.ingest.units import Roles

log = logging.getLogger(__name__)

IN_A_VISIT_S = 20.0  # no case is begun after that: other tasks wait, and Label Studio for these


@dataclass(frozen=True, slots=True, eq=False)
class Channel:
    """One series, read and through the airlock."""

    volume: Volume
    headers: Mapping[str, str]  # what may be told of them
    patient: str
    digests: Sequence[str]  # SHA-256 of each file
    size_bytes: int


class DicomVisit:
    """What ingest remembers of one task's DICOM files between visits."""

    def __init__(self, task: TaskFolder, attempts: Attempts, sync: TaskSync) -> None:
        self.task, self.attempts, self.sync = task, attempts, sync
        self.tools, self.desk = attempts.tools, attempts.desk
        self.has_more = False
        self._heads: dict[str, tuple[Stamp, DicomHead | None]] = {}
        self._unreadable: set[str] = set()  # keys whose records in quarantine are damaged
        self._newest: dict[str, float] = {}  # when the last new file came to a top folder

    def take_all(self, intake: Intake, quiet: Sequence[Settling]) -> None:
        """Take the series that are whole.

        Args:
            intake: the task.
            quiet: its DICOM files that may be taken now.
        """
        self.has_more = False
        ready = [item for item in quiet if self._is_still(item.found.path)]
        groups: dict[str, list[Settling]] = defaultdict(list)
        until_s = self.tools.clock() + IN_A_VISIT_S
        for item in ready:
            if self.tools.is_stopping():
                return
            if self.tools.clock() > until_s:  # heads that were read are remembered
                self.has_more = True
                return
            groups[self._group(item)].append(item)
        self._pass_over(groups.pop("directory", []))
        labels = groups.pop("labels", [])
        until_s = self.tools.clock() + IN_A_VISIT_S
        for key, items in sorted(self._cases(intake, groups).items()):
            if self.tools.clock() > until_s:
                self.has_more = True
                return
            self._take_case(intake, key, items)
        self._take_labels(intake, labels, until_s)

    def notice(self) -> None:
        """Note when files came to each folder, and bring back what a person has decided about."""
        for item in self.desk.items.values():
            top = _top(item.found.path)
            self._newest[top] = max(self._newest.get(top, -math.inf), item.since_s)
        if len(self._heads) > 2 * len(self.desk) + 1000:
            self._heads = {p: head for p, head in self._heads.items() if p in self.desk.items}
        decided: dict[str, bool] = {}
        rows = self.tools.ledger.held(self.task.name)
        for row in rows:
            key = row.case or ""
            if key not in decided:
                decided[key] = self._is_decided(key)
        back = [row for row in rows if decided[row.case or ""]]
        if back:
            self.tools.ledger.forget(self.task.name, [row.path for row in back])
            self.desk.see([Found(row.path, row.stamp) for row in back], -math.inf)

    def _is_decided(self, key: str) -> bool:
        """Whether somebody has decided about what is in quarantine under a key, or deleted it."""
        try:
            return decision_for(self.task, key) is not None or is_gone(self.task, key)
        except RecordError as error:  # written by hand, perhaps; the rest of the task goes on
            if key not in self._unreadable:
                self._unreadable.add(key)
                log.error("task %s: quarantine cannot be read: %s", self.task.name, error)
            return False

    # --- what belongs together ----------------------------------------------------------------

    def _is_still(self, path: str) -> bool:
        newest_s = self._newest.get(_top(path), -math.inf)
        return self.tools.clock() >= newest_s + self.tools.tempo.folder_wait_s

    def _is_any_moving(self) -> bool:
        """Whether files still come to some folder: its series may be anywhere."""
        newest_s = max(self._newest.values(), default=-math.inf)
        return self.tools.clock() < newest_s + self.tools.tempo.folder_wait_s

    def _head(self, path: str, stamp: Stamp) -> DicomHead | None:
        known = self._heads.get(path)
        if known is None or known[0] != stamp:
            known = self._heads[path] = (stamp, read_head(self.task.rawdata, path))
            self.tools.beat()
        return known[1]

    def _group(self, item: Settling) -> str:
        path = item.found.path
        head = self._head(path, item.found.stamp)
        if head is not None and head.is_directory:
            return "directory"
        if head is not None and head.is_label:
            return "labels"
        if head is None:
            return f"file:{path}"
        return self._key(head.series_uid or f"folder:{path.rpartition('/')[0]}")

    def _key(self, uid: str) -> str:
        """A series as the ledger knows it."""
        digest = keyed(self.tools.pseudonym_key, b"\0series\0" + uid.encode(errors="replace"))
        return f"series:{digest.hex()[:24]}"

    def _cases(
        self, intake: Intake, groups: Mapping[str, list[Settling]]
    ) -> dict[str, list[tuple[str, list[Settling]]]]:
        """Series by case, in the order of its channels; without channels each is a case."""
        if len(intake.config.volume.channels) <= 1:
            return {key: [(key, items)] for key, items in groups.items()}
        roles = Roles(intake.config.volume.channels, intake.sheet)
        found: dict[str, dict[tuple[int, str], list[Settling]]] = defaultdict(dict)
        for key, items in groups.items():
            row = row_of(intake, items[0].found.path)
            try:
                if row is None or not row.case:
                    text = "a series that cases.csv makes no channel of a case"
                    raise RefusedError("channel-missing", text)
                role = roles.by_sheet(row)
                if role.part != "image":
                    text = "a series of images that cases.csv calls a label map"
                    raise RefusedError("channel-unknown", text)
            except RefusedError as refusal:
                self.attempts.refuse(items, refusal, nameless=True)
                continue
            found[row.case][role.channel, key] = items
        for case in [case for case, channels in found.items() if _has_rivals(channels)]:
            every = [item for items in found.pop(case).values() for item in items]
            twice = RefusedError("channel-twice", "several series for one channel of a case")
            self.attempts.refuse(every, twice, nameless=True)
        return {
            case: [(key, channels[channel, key]) for channel, key in sorted(channels)]
            for case, channels in found.items()
        }

    def _pass_over(self, items: Sequence[Settling]) -> None:
        """A DICOMDIR only lists other files."""
        if items:
            self.attempts.done(
                items, [Row(item.found.path, item.found.stamp, "passed") for item in items]
            )

    # --- one case -----------------------------------------------------------------------------

    def _take_case(
        self, intake: Intake, case: str, groups: Sequence[tuple[str, list[Settling]]]
    ) -> None:
        items = [item for _, part in groups for item in part]
        wanted = max(1, len(intake.config.volume.channels))

        def take() -> Sequence[Row] | None:
            if len(groups) != wanted:
                newest_s = max(item.since_s for item in items)
                if self.tools.clock() < newest_s + self.tools.tempo.orphan_wait_s:
                    return None
                raise RefusedError("channel-missing", f"{len(groups)} series of {wanted}")
            if wanted > 1:
                return self._take_channels(intake, groups)
            return self._take_series(intake, *groups[0])

        self.attempts.together(items, take, nameless=True)

    def _take_series(
        self, intake: Intake, key: str, items: Sequence[Settling]
    ) -> Sequence[Row] | None:
        """The rows of one series' files; those of files that were refused are not among them."""
        self._refuse_late(key, items)
        with self._held(items) as (held, item_of):
            found = sort_dicom(held, self.tools.beat, intake.volume_limits)
            if any(self.attempts.is_patient(items, one.reason) for one in found.refused):
                return None
            self._refuse_files(found.refused, item_of)
            rows = [_row(item_of[file], "passed") for file in found.passed_over]
            for series in found.series:
                mine = [item_of[file] for file in dict.fromkeys((*series.files, *series.repeated))]
                try:
                    rows += self._one(intake, key, series, mine)
                except (PictureError, RefusedError) as error:
                    refusal = refusal_of(error)
                    if self.attempts.is_patient(items, refusal.reason):
                        return None
                    self.attempts.refuse(mine, refusal, nameless=True)
        # A file of several volumes has one row: it comes back when the one that waits is decided.
        return sorted(rows, key=lambda row: row.state == "held")

    def _one(
        self, intake: Intake, key: str, series: Series, items: Sequence[Settling]
    ) -> list[Row]:
        """One volume of a series: a case, or held in quarantine."""
        channel = self._read(intake, series, items)
        if isinstance(channel, str):
            return [_row(item, "held", channel, key) for item in items]
        case = self._make(intake, [channel], key + series.part, items)
        return [_row(item, "series", case, key) for item in items]

    def _take_channels(
        self, intake: Intake, groups: Sequence[tuple[str, list[Settling]]]
    ) -> list[Row]:
        """The rows of several series that are the channels of one case: all taken, or none."""
        channels = []
        every = [(key, item) for key, items in groups for item in items]
        for key, items in groups:
            self._refuse_late(key, items)
            with self._held(items) as (held, item_of):
                found = sort_dicom(held, self.tools.beat, intake.volume_limits)
                for bad in found.refused:
                    raise RefusedError(bad.reason, bad.text, bad.hint)
                if len(found.series) != 1:
                    text = f"a series of {len(found.series)} volumes for one channel"
                    raise RefusedError("channel-twice", text)
                mine = [item_of[file] for file in found.series[0].files]
                channel = self._read(intake, found.series[0], mine)
            if isinstance(channel, str):  # all wait for what is decided about one
                return [_row(item, "held", channel, key) for key, item in every]
            channels.append(channel)
        case = self._make(intake, channels, groups[0][0], [item for _, item in every])
        return [_row(item, "series", case, key) for key, item in every]

    def _read(self, intake: Intake, series: Series, items: Sequence[Settling]) -> Channel | str:
        """A series through the airlock; or its key in quarantine, where it waits."""
        check_modality(intake.config, series.modality)
        digests = []
        for file in series.files:
            digests.append(sha256_of(file))
            self.tools.beat()
        volume = read_series(series, intake.volume_limits)
        self.tools.beat()
        headers = safe_headers(series.headers, intake.pseudonym_key)
        # One file can hold several volumes; what is decided about one says nothing about others.
        key = series_key([*digests, series.part] if series.part else digests)
        entry = QuarantineEntry(key, tuple(sorted(item.found.path for item in items)), "")
        slices = slices_of(series, volume, shown_window(intake, volume, headers))
        find_text, beat = self.tools.find_text, self.tools.beat
        try:
            passes = passes_airlock(
                self.task,
                series,
                volume,
                entry,
                lambda: find_text(series.headers, slices, beat),
            )
        except DeidentificationError as error:
            raise HoldError(f"DICOM waits: {error}") from error
        if not passes:
            log.warning("task %s: a series may show a name: quarantine", self.task.name)
            return entry.key
        size_bytes = sum(file.stat().st_size for file in series.files)
        patient = patient_of(series.headers[0]) or series.uid
        return Channel(volume, headers, patient, digests, size_bytes)

    def _make(
        self,
        intake: Intake,
        channels: Sequence[Channel],
        place: str,
        items: Sequence[Settling],
    ) -> str:
        """The case of channels, with the class that their folder or cases.csv names."""
        paths = sorted(item.found.path for item in items)
        patients = {channel.patient for channel in channels}
        row = row_of(intake, paths[0])
        if len(patients) > 1 and not (row and row.patient):
            raise RefusedError("several-patients", f"{len(patients)} patients in one case")
        place = f"\0{place}\0{paths[0].rpartition('/')[0]}"
        shown = SERIES + keyed(intake.pseudonym_key, place.encode()).hex()[:16]
        digests = [digest for channel in channels for digest in channel.digests]
        source = CaseSource(
            shown, series_key(digests), sum(channel.size_bytes for channel in channels)
        )
        origin = Origin(
            paths=paths,
            shown=shown,
            patient=row.patient if row and row.patient else min(patients),
            about=paths[0],
            headers=merged(channel.headers for channel in channels),
        )
        record = take_volumes(intake, [channel.volume for channel in channels], origin, source)
        self.sync.add(record.case, labelled=land_classes(intake, paths[0], record.case))
        return record.case

    # --- label objects ------------------------------------------------------------------------

    def _take_labels(self, intake: Intake, items: Sequence[Settling], until_s: float) -> None:
        by_series: dict[str, list[Settling]] = defaultdict(list)

        def sort_in(item: Settling) -> Sequence[Row] | None:
            uid = series_of(intake, item.found.path)
            if not uid:
                raise RefusedError("mask-without-picture", "a label object that names no series")
            by_series[self._key(uid)].append(item)
            return None

        for item in items:
            self.attempts.together([item], partial(sort_in, item), nameless=True)
        for key, found in by_series.items():
            if self.tools.clock() > until_s:
                return  # they were postponed for a moment just now, and come again
            take = partial(self._label_rows, intake, key, found)
            self.attempts.together(found, take, nameless=True)

    def _label_rows(
        self, intake: Intake, key: str, items: Sequence[Settling]
    ) -> Sequence[Row] | None:
        """The rows of the label objects of one series; None while it may still come."""
        paths = [item.found.path for item in items]
        held = self.attempts.partners(key, "held")
        if held:  # they come back with their series
            return [_row(item, "held", held[0].case, key) for item in items]
        images = self.attempts.partners(key, "series")
        if not images:
            since_s = max(self._newest.get(_top(path), -math.inf) for path in paths)
            waited = self.tools.clock() >= since_s + self.tools.tempo.orphan_wait_s
            if not waited or self._is_any_moving():
                return None
            raise RefusedError("mask-without-picture", "a label object whose series is not here")
        if self.attempts.partners(key, "mask", but=paths):
            raise RefusedError("mask-ambiguous", "a label object of a series that has one")
        cases = sorted({row.case for row in images if row.case})
        case = land_objects(intake, paths, [row.path for row in images], cases)
        if case is not None:
            self.sync.add(case, labelled=True)
        return [_row(item, "mask", case or cases[0], key) for item in items]

    # --- what cannot be taken -----------------------------------------------------------------

    def _refuse_late(self, key: str, items: Sequence[Settling]) -> None:
        """Refuse slices that come after the rest of their series was taken.

        Raises:
            RefusedError: `late-slices`. A whole copy is no late slice: it is read, and then refused
                as a duplicate, or is a case if it has more than there was.
        """
        new = [item.found.path for item in items]
        partners = self.attempts.partners
        before = [*partners(key, "series", but=new), *partners(key, "held", but=new)]
        if not before:
            return
        known = {self._instance(row.path, row.stamp) for row in before}
        come = {self._instance(item.found.path, item.found.stamp) for item in items}
        if not known <= come:
            raise RefusedError(
                "late-slices",
                f"{len(items)} images of a series of which {len(before)} were taken before",
            )

    def _instance(self, path: str, stamp: Stamp) -> str:
        head = self._head(path, stamp)
        return head.instance_uid if head else path

    @contextmanager
    def _held(self, items: Sequence[Settling]) -> Iterator[tuple[list[Path], dict[Path, Settling]]]:
        """The files of a series as paths that no link can turn elsewhere; and whose each is."""
        with refused_links(), held_paths(self.task.rawdata, [i.found.path for i in items]) as held:
            yield held, dict(zip(held, items, strict=True))

    def _refuse_files(
        self, refused: Sequence[RefusedFiles], item_of: Mapping[Path, Settling]
    ) -> None:
        for bad in refused:
            items = [item_of[file] for file in bad.files]
            refusal = RefusedError(bad.reason, bad.text, bad.hint)
            self.attempts.refuse(items, refusal, nameless=True)


def _row(item: Settling, state: State, case: str | None = None, key: str | None = None) -> Row:
    return Row(item.found.path, item.found.stamp, state, case, key)


def _has_rivals(channels: Iterable[tuple[int, str]]) -> bool:
    """Whether several series claim to be the same channel."""
    numbers = [number for number, _ in channels]
    return len(set(numbers)) < len(numbers)


def _top(path: str) -> str:
    """The folder in rawdata that a file lies below; empty for rawdata itself."""
    return path.split("/")[0] if "/" in path else ""
