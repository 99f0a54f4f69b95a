"""Who a DICOM series is about, and what takes the place of its UIDs and dates.

All of it follows from the lab's pseudonym key alone, so one study stays one study, whatever day
and by whichever process it is read. Without the key nothing can be traced or recomputed.
"""

import uuid

from pydicom import Dataset
from pydicom.uid import UID_dictionary  # type: ignore[attr-defined]  # no other way to ask

from imaging.deid.pseudonym import keyed, spelled

# 2 to 10 years: no real date stays in place, and scanners of the time before it existed.
LEAST_DAYS, MOST_DAYS = 730, 3652
PADDING = " \0"  # DICOM fills values up to even lengths


def patient_of(header: Dataset) -> str:
    """Whom a series belongs to: PatientID, else PatientName, else the study by itself, else ""."""
    for keyword in ("PatientID", "PatientName", "StudyInstanceUID"):
        found = str(header.get(keyword, None) or "").strip(PADDING + "^=")
        if found:
            return found
    return ""


def days_earlier(key: str, patient: str) -> int:
    """By how many days all dates of a patient are moved back: the same number in every study."""
    number = int.from_bytes(keyed(key, _purpose("days") + spelled(patient))[:8], "big")
    return LEAST_DAYS + number % (MOST_DAYS - LEAST_DAYS + 1)


def remapped_uid(key: str, uid: str) -> str:
    """`2.25.<number>` for a UID of somebody's study, series or image; the same one always.

    UIDs of the standard itself (kinds of objects, transfer syntaxes) say nothing about anybody
    and are kept; an empty one stays empty. Source: DICOM PS3.5 B.2 (UIDs made from UUIDs).
    """
    plain = uid.strip(PADDING)
    if not plain or plain in UID_dictionary:
        return plain
    digest = keyed(key, _purpose("uid") + spelled(plain))[:16]
    return f"2.25.{uuid.UUID(bytes=digest, version=5).int}"


def _purpose(what: str) -> bytes:
    """A beginning that no patient's name has: no answer may stand for one of another kind."""
    return b"\0" + what.encode() + b"\0"
