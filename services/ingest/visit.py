"""One visit to one task: look, let settle, take or refuse, tell Label Studio.

A visit may be cut off anywhere and repeated; whatever was done is met again as done.
"""

import logging
import math
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from imaging.errors import RecordError
from imaging.io.casesheet import SHEET_NAME
from imaging.io.picture import decode_picture
from imaging.layout import TaskFolder
from services.ingest.attempt import FULL, Attempts
from services.ingest.config import ConfigDesk
from services.ingest.errors import DiskFullError, HoldError, RefusedError
from services.ingest.formats import VOLUMES, Formats
from services.ingest.guess import Guess, check_volume
from services.ingest.late import apply_late, check_labels
from services.ingest.ledger import Row, Stamp
from services.ingest.namesakes import Namesakes
from services.ingest.pairs import Pairs
from services.ingest.reject import READ_ONLY, reject
from services.ingest.settle import Settling
from services.ingest.sheet import SheetDesk
from services.ingest.sync import TaskSync
from services.ingest.take import (
    Intake,
    contradicts_import,
    land_classes,
    land_mask,
    read_inside,
    take_picture,
)
from services.ingest.tools import Tools
from services.ingest.tree import CHANNEL_0, place_of
from services.ingest.volume_visit import VolumeVisit
from services.ingest.watch import TaskWatch
from stack.runtime.label_studio import (
    LabelStudioDownError,
    LabelStudioError,
    ProjectRef,
)

log = logging.getLogger(__name__)

LABEL_STUDIO_RETRY_S = 60.0  # after it refused a call, as against being away
AT_ONCE = 200  # pictures in a visit: a large drop must not keep other tasks waiting


class Visitor:
    """What ingest remembers of one task between visits."""

    def __init__(self, task: TaskFolder, tools: Tools) -> None:
        self.task, self.tools = task, tools
        tempo = tools.tempo
        self.watch = TaskWatch(task, tools.ledger, tempo)
        self.desk = self.watch.desk
        self.attempts = Attempts(task, tools, self.desk)
        self.formats = Formats(task)
        self.config = ConfigDesk(task)
        self.sheet = SheetDesk(task, tempo.quiet_s, tempo.bad_wait_s)
        self.sync = TaskSync(tools.client, task, tools.clock)
        self.volumes = VolumeVisit(task, self.attempts, self.formats, self.sync)
        self.troubles: list[str] = []
        self.has_more = False  # there is work that needs no further waiting
        self._arrivals: dict[str, float] = {}  # newest file of a folder of pictures and of masks
        self._applied: Stamp | None = None  # the cases.csv that is known to have been applied
        self._project: ProjectRef | None = None
        self._push_again_s = -math.inf
        self._push_trouble = ""
        self._mend_again_s = -math.inf

    @property
    def is_done(self) -> bool:
        """Whether nothing waits here but files that cannot be moved away."""
        if self.sheet.is_unread:
            return False
        is_idle = all(item.again_s == math.inf for item in self.desk.items.values())
        return is_idle and (self.config.config is None or self.sync.is_settled)

    def visit(self) -> None:
        """Do what can be done now. `troubles` then says what cannot, and why.

        Raises:
            NasGoneError: the marker has gone; nothing was concluded.
            DiskFullError: no space is left; nothing was half-written.
        """
        self.troubles, self.has_more = [], False
        with _full_disks_told_apart():
            try:
                self.attempts.finish()
                self.watch.look(self.tools.clock())
                if self.watch.unreadable:
                    self._complain(f"{self.watch.unreadable} folders of rawdata cannot be listed")
                self._refuse_strange()
                intake = self._intake()
                if intake is not None:
                    self._take_all(intake)
            except HoldError as hold:
                self._complain(str(hold))
            self._push()

    # --- task.yaml and cases.csv --------------------------------------------------------------

    def _intake(self) -> Intake | None:
        """What taking files needs; None while task.yaml or cases.csv have to be waited for."""
        now_s = self.tools.clock()
        self._read_config()
        if self.sheet.is_moving(now_s):
            return None
        try:
            self.sheet.read(now_s)
            if self.config.config is None:
                self._infer_config(now_s)
            if self.config.config is None:
                return None
            key, limits = self.tools.pseudonym_key, self.tools.limits
            config, sheet = self.config.config, self.sheet.sheet
            others = Namesakes(self.task, self.tools.ledger, self.desk.items.values(), config.kind)
            intake = Intake(
                self.task,
                config,
                sheet,
                key,
                limits,
                namesakes=others.of,
                holders=self._holders,
                volume_limits=self.tools.volume_limits,
                beat=self.tools.beat,
            )
            self._apply_sheet(intake)
            return intake
        except RefusedError as refusal:
            self._refuse_sheet(refusal)
            raise HoldError("cases.csv was refused; new pictures wait") from refusal

    def _holders(self, case: str) -> list[str]:
        return [row.path for row in self.tools.ledger.made(self.task.name, case)]

    def _read_config(self) -> None:
        if self.config.read():
            self._project = None  # its labels may have changed

    def _infer_config(self, now_s: float) -> None:
        """Write task.yaml once all that is there has settled and holds an image."""
        if not self.desk.items or self.desk.still_moving(now_s) or self.watch.unreadable:
            return
        guess = Guess(self.task, self.formats, self.desk.items.values(), self.tools.beat)
        for item in self.desk.quiet(now_s):
            if guess.is_useless(item):
                self.attempts.one(item, self._decode_only)
        if guess.can_be_made:
            self.config.write(*guess.make(self.sheet.sheet))
            self._read_config()

    def _decode_only(self, item: Settling) -> None:
        """Refuse what is no image, while it is not known what the task is."""
        path, limits = item.found.path, self.tools.limits
        if self.formats.of(item) in VOLUMES:
            check_volume(self.task, path, self.formats.of(item))
        else:
            decode_picture(read_inside(self.task, path, limits), limits)

    def _apply_sheet(self, intake: Intake) -> None:
        stamp = self.sheet.stamp
        if stamp is None or stamp == self._applied:
            return
        check_labels(intake)
        name, ledger = self.task.name, self.tools.ledger
        before = ledger.find(name, SHEET_NAME)
        if before is None or before.stamp != stamp:
            late = apply_late(intake, ledger.rows(name), self.desk.items)
            for case in late.labelled:
                self.sync.add(case, labelled=True)
            if late.missing:
                log.warning("task %s: cases.csv names %d absent files", name, late.missing)
            if late.regrouped:
                text = "task %s: cases.csv gives %d cases another patient than they keep"
                log.warning(text, name, late.regrouped)
            ledger.record(name, [Row(SHEET_NAME, stamp, "sheet")])
        self._applied = stamp

    def _refuse_sheet(self, refusal: RefusedError) -> None:
        try:
            where = reject(self.task, self.sheet.path.parent, self.sheet.path.name, refusal)
        except OSError as error:
            if error.errno not in READ_ONLY:
                raise
            where = None
            self.sheet.give_up()
        log.warning("task %s: cases.csv was refused: rejected/%s", self.task.name, where)

    # --- files --------------------------------------------------------------------------------

    def _refuse_strange(self) -> None:
        """Links, pipes and unreadable names, whatever the task is."""
        for item in self.desk.quiet(self.tools.clock()):
            if item.found.trouble:
                self.attempts.refuse([item], RefusedError(item.found.trouble, item.found.note))

    def _take_all(self, intake: Intake) -> None:
        if intake.config.is_volume:
            self.volumes.take_all(intake, is_whole=not self.watch.unreadable)
            self.has_more = self.volumes.has_more
            return
        quiet = [i for i in self.desk.quiet(self.tools.clock()) if not i.found.trouble]
        take_picture = partial(self._take_picture, intake)
        if intake.config.kind == "classification":
            self.has_more = len(quiet) > AT_ONCE
            for item in quiet[:AT_ONCE]:
                self.attempts.one(item, take_picture)
            return
        pairs = Pairs(self.desk.items.values(), quiet, self._arrivals)
        take_mask = partial(self._take_mask, intake, pairs)
        self.has_more = len(pairs.pictures) > AT_ONCE
        for item in pairs.pictures[:AT_ONCE]:
            self.attempts.one(item, take_picture)
            for mask in pairs.masks_of(item):
                self.attempts.one(mask, take_mask)
        for mask in [] if self.has_more else pairs.masks_left():
            self.attempts.one(mask, take_mask)

    def _take_picture(self, intake: Intake, item: Settling) -> Row:
        path = item.found.path
        record = take_picture(intake, path)
        landed = land_classes(intake, path, record.case)
        if not landed and contradicts_import(intake, path, record.case):
            text = "case %s: its class folder changed; correct the label in Label Studio"
            log.warning(text, record.case)
        self.sync.add(record.case, labelled=landed)
        return Row(path, item.found.stamp, "picture", record.case, place_of(path).pair)

    def _take_mask(self, intake: Intake, pairs: Pairs, item: Settling) -> Row | None:
        """The row of a mask that was dealt with; None while its picture may still come."""
        path, pair = item.found.path, place_of(item.found.path).pair or ""
        if pairs.has_rivals(pair) or self.attempts.partners(pair, "mask", but=[path]):
            raise RefusedError("mask-ambiguous", "one of several masks for one picture")
        pictures = self.attempts.partners(pair, "picture") or self.attempts.partners(
            pair + CHANNEL_0, "picture"
        )
        if not pictures:
            since_s = max(item.since_s, pairs.newest_s(pair))
            waited = self.tools.clock() >= since_s + self.tools.tempo.orphan_wait_s
            if pairs.expects_picture(pair) or not waited or self.watch.unreadable:
                return None
            raise RefusedError("mask-without-picture", "a mask without a picture")
        if len(pictures) > 1:
            raise RefusedError("mask-ambiguous", "a mask that fits several pictures")
        case = pictures[0].case or ""
        landed = land_mask(intake, path, pictures[0].path, case)
        self.sync.add(case, labelled=landed)
        if not landed and self.tools.ledger.find(self.task.name, path) is not None:
            log.warning("case %s: its mask changed; correct the label in Label Studio", case)
        return Row(path, item.found.stamp, "mask", case, pair)

    # --- Label Studio -------------------------------------------------------------------------

    def _push(self) -> None:
        """Bring to Label Studio what it lacks; while it is away, cases are made all the same."""
        config, now_s = self.config.config, self.tools.clock()
        if config is not None and now_s >= self._push_again_s:
            self._push_trouble = ""
            try:
                if self._project is None or self._has_to_mend(now_s):
                    self._project = self.tools.ensure(self.task, config)
                self.sync.push(self._project, config.scheme, self.tools.beat)
            except LabelStudioDownError:
                self._push_later("Label Studio cannot be reached", self.tools.tempo.quiet_s)
            except (LabelStudioError, RecordError) as error:
                self._push_later(str(error)[:300], LABEL_STUDIO_RETRY_S)
            else:
                if self._project.missing:
                    self._push_trouble = "; ".join(self._project.missing)[:300]
        if self._push_trouble:
            self._complain(self._push_trouble)

    def _has_to_mend(self, now_s: float) -> bool:
        """Whether it is time to try again what could not be set up in the project."""
        if self._project is None or not self._project.missing or now_s < self._mend_again_s:
            return False
        self._mend_again_s = now_s + self.tools.tempo.retry_s
        return True

    def _push_later(self, trouble: str, wait_s: float) -> None:
        self._push_trouble = f"{trouble}; tasks follow later"
        self._project, self._push_again_s = None, self.tools.clock() + wait_s

    def _complain(self, text: str) -> None:
        trouble = f"{self.task.name}: {text}"
        if trouble not in self.troubles:
            self.troubles.append(trouble)


@contextmanager
def _full_disks_told_apart() -> Iterator[None]:
    """No space left, on the NAS or under the ledger, is a pause and no failure."""
    try:
        yield
    except OSError as error:
        if error.errno not in FULL:
            raise
        raise DiskFullError("no space is left on the NAS") from error
    except sqlite3.OperationalError as error:
        if "full" not in str(error):
            raise
        raise DiskFullError("no space is left in the state folder") from error
