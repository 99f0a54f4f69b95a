"""Which slices of a volume an answer is about: it lands with them, since tasks can change."""

from collections.abc import Callable
from contextlib import suppress

from imaging.dataset.annotations import AnnotationRecord
from imaging.dataset.cases import load_case
from imaging.errors import CodecError, RecordError
from imaging.ids import parse_utc
from imaging.labelstudio.appended import highest_item, items_seen
from imaging.labelstudio.stack import items_of
from imaging.layout import TaskFolder
from services.watchdog.source import TaskRow


def items_answered(
    task: TaskFolder,
    row: TaskRow,
    record: AnnotationRecord,
    read_again: Callable[[], TaskRow | None],
    before: tuple[int, ...] | None = None,
) -> tuple[int, ...] | None:
    """The slice that each picture of the task showed to whoever answered; None for a picture.

    Args:
        task: whose case it is about.
        row: the task in Label Studio, as it was listed.
        record: the answer.
        read_again: the task as it is now.
        before: the slices that this annotation was about so far; none for the copy of a label that
            came with the image, which was drawn by nobody who saw what was appended. None for a
            new annotation.

    Raises:
        CodecError: the task does not say, so that nobody could tell what was answered.
    """
    data = row.data
    if row.is_stack and highest_item(record.results) >= len(items_of(data)):
        # Slices were appended, and then answered, after the tasks had been listed.
        fresh = read_again()
        data = fresh.data if fresh else data
    answered_at = parse_utc(record.updated_at)
    lead_time_s = record.lead_time_s if before is None else None
    items = items_seen(data, record.results, answered_at, lead_time_s)
    if items is not None and before is not None and len(before) > len(items):
        items = before  # the list only ever grows
    with suppress(RecordError):  # a broken case.json says nothing about the answer
        _check_kind(items, task, row.case)
    return items


def _check_kind(items: tuple[int, ...] | None, task: TaskFolder, case: str) -> None:
    """Make sure that a volume's task shows slices that it has, and a picture's none."""
    volume = load_case(task.case(case)).volume
    if volume is None and items is not None:
        raise CodecError("the task shows slices, and its case is a picture")
    if volume is not None and items is None:
        raise CodecError("the task shows no slices, and its case is a volume")
    if volume is not None and max(items or (0,)) >= volume.plane.count:
        count = volume.plane.count
        raise CodecError(f"the task shows slice {max(items or ())}, expected 0 to {count - 1}")
