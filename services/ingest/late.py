"""A cases.csv that comes after its pictures: late labels land, late patients are only reported.

A case keeps the patient it was made with, because snapshots were split by it; so the log says how
many cases the sheet would group differently.
"""

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePosixPath

from imaging.dataset.cases import load_case
from imaging.io.casesheet import CaseRow
from services.ingest.errors import RefusedError
from services.ingest.ledger import Row
from services.ingest.names import composed
from services.ingest.reasons import BAD_CASE_LIST
from services.ingest.take import Intake, land_classes, patient_of, row_of

IMAGES = ("picture", "series")  # states of files that became cases
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Late:
    """What a newly read cases.csv means for what is there already."""

    labelled: tuple[str, ...]  # cases whose label landed now
    regrouped: int  # cases that it gives another patient than they have
    missing: int  # lines whose file is not there


def check_labels(intake: Intake) -> None:
    """Make sure that the task knows every label in the sheet.

    Raises:
        RefusedError: it does not; the sheet is at fault, not the pictures it names.
    """
    if intake.sheet is None or intake.config.kind != "classification":
        return
    known = intake.config.scheme.names
    composed_known = {composed(name) for name in known}
    unknown = [name for name in intake.sheet.label_names if composed(name) not in composed_known]
    if unknown:
        raise RefusedError(
            BAD_CASE_LIST,
            f"labels {', '.join(unknown[:8])}; the task knows {', '.join(known)}",
        )


def apply_late(intake: Intake, rows: Iterable[Row], waiting: Iterable[str]) -> Late:
    """Apply a sheet to the pictures that were taken before it came.

    Args:
        intake: the task, with the sheet.
        rows: the files that were dealt with.
        waiting: the paths of files on their way in.
    """
    labelled: list[str] = []
    regrouped = 0
    there = {composed(path) for path in waiting}
    series: set[str] = set()  # cases of many files, of which one is enough
    for row in rows:
        there.add(composed(row.path))
        if row.case is None or row.state not in IMAGES or row.case in series:
            continue
        if row.state == "series":
            series.add(row.case)
        try:
            listed = row_of(intake, row.path)
            if listed is None:
                continue
            regrouped += _is_regrouped(intake, row.path, row.case, listed)
            if land_classes(intake, row.path, row.case):
                labelled.append(row.case)
        except RefusedError as refusal:
            log.warning("case %s: label not taken: %s", row.case, refusal.reason)
    folders = {str(folder) for path in there for folder in PurePosixPath(path).parents}
    names = there | folders | {path.rsplit("/", 1)[-1] for path in there}
    keys = intake.sheet.rows if intake.sheet else {}
    return Late(tuple(labelled), regrouped, sum(key not in names for key in keys))


def _is_regrouped(intake: Intake, path: str, case: str, listed: CaseRow) -> bool:
    """Whether the sheet gives a case another patient than it has."""
    if intake.config.is_volume and not listed.patient:
        return False  # a volume's own patient stands in its header or name
    return load_case(intake.task.case(case)).patient != patient_of(intake, path)
