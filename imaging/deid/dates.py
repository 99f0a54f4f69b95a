"""Dates and times of DICOM, moved back by some days. What is no date becomes empty, never kept.

Source: DICOM PS3.5 6.2 (DA, DT, TM), with the dotted dates and coloned times of ACR-NEMA 2.0.
"""

import re
from datetime import date, timedelta

DATE = re.compile(r"(\d{4})(\d{2})(\d{2})|(\d{4})\.(\d{2})\.(\d{2})", re.ASCII)
# Year, month, day; the rest of it. A time zone says where a patient was, so it is not carried on.
DATE_TIME = re.compile(
    r"(\d{4})(?:(\d{2})(?:(\d{2})((?:\d{2}){0,3}(?:\.\d{1,6})?))?)?(?:[+-]\d{4})?", re.ASCII
)
TIME = re.compile(r"(?:[01]\d|2[0-3])(?::?[0-5]\d(?::?(?:[0-5]\d|60)(?:\.\d{1,6})?)?)?", re.ASCII)


def earlier_date(text: str, days: int) -> str:
    """A DA value (`20230607`), or a range of two, so many days earlier; empty if it is neither."""
    if "-" in text:
        ends = [earlier_date(end, days) for end in text.split("-")]
        return "-".join(ends) if len(ends) == 2 and any(ends) else ""
    found = DATE.fullmatch(text.strip(" \0"))
    if found is None:
        return ""
    year, month, day = (int(part) for part in found.groups() if part is not None)
    moved = _moved(year, month, day, days)
    return f"{moved:%Y%m%d}".rjust(8, "0") if moved else ""


def earlier_date_time(text: str, days: int) -> str:
    """A DT value so many days earlier, to the precision it had; empty if it is none.

    A year, or a year and month, is moved from its first day. Ranges are for queries, not for files.
    """
    found = DATE_TIME.fullmatch(text.strip(" \0"))
    if found is None:
        return ""
    year, month, day, rest = found.groups()
    moved = _moved(int(year), int(month or 1), int(day or 1), days)
    if moved is None or (rest and not plain_time(rest)):
        return ""
    digits = f"{moved:%Y%m%d}".rjust(8, "0")
    return digits[: 4 + 2 * bool(month) + 2 * bool(day)] + (rest or "")


def plain_time(text: str) -> str:
    """A TM value as it is, if it is one; times are kept, dates are not."""
    plain = text.strip(" \0")
    return plain if TIME.fullmatch(plain) else ""


def _moved(year: int, month: int, day: int, days: int) -> date | None:
    try:
        return date(year, month, day) - timedelta(days=days)
    except (ValueError, OverflowError):  # the 30th of February; before the year 1
        return None
