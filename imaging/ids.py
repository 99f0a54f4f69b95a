"""Identifiers and time stamps: they sort by time and never hold anything about a person."""

import re
import secrets
from datetime import UTC, datetime

from imaging.errors import UnsafeNameError

TASK_NAME = re.compile(r"Task\d{3}_[A-Za-z0-9][A-Za-z0-9_-]{0,60}")
SAFE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,120}")


def utc_now() -> str:
    """The present moment as `2026-03-14T09:15:02.123456Z` (ISO 8601, UTC)."""
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def parse_utc(stamp: str) -> datetime:
    """A time stamp written by `utc_now`, or by Label Studio, as an aware datetime."""
    return datetime.fromisoformat(stamp.replace("Z", "+00:00")).astimezone(UTC)


def new_id(prefix: str, now: datetime | None = None) -> str:
    """`snap-20260314T091502Z-7c1e`: sorts by time to the second, unique by its random tail."""
    moment = (now or datetime.now(UTC)).astimezone(UTC)
    return f"{prefix}-{moment:%Y%m%dT%H%M%SZ}-{secrets.token_hex(2)}"


def checked_task_name(name: str) -> str:
    """The name, if it is `TaskNNN_what`; task names become paths, so nothing else passes.

    Raises:
        UnsafeNameError: the name is not of that form.
    """
    if not TASK_NAME.fullmatch(name):
        raise UnsafeNameError(f"task name is {name!r}, expected TaskNNN_what, e.g. Task001_kidney")
    return name


def checked_name(name: str) -> str:
    """The name, if it can safely be one path component.

    Raises:
        UnsafeNameError: it is empty, too long, starts with a dot or holds a separator.
    """
    if not SAFE_NAME.fullmatch(name):
        raise UnsafeNameError(f"identifier is {name!r}, expected letters, digits, '.', '_' and '-'")
    return name
