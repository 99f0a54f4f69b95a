"""The table of DICOM PS3.15 Annex E (E.1-1, basic profile): what becomes of which element.

The table is the standard's, as `dicom-anonymizer` ships it in machine-readable form. Only its
table is used: its own walk leaves most of what lies in sequences as it is, replaces UIDs by chance
instead of by key, sets every date to the year 1, and does not know all value representations.
"""

from enum import Enum
from functools import cache

from dicomanonymizer.dicom_anonymization_databases import dicomfields_2026c as edition
from pydicom.tag import BaseTag

EDITION = "2026c"
CURVES, OVERLAYS = 0x5000, 0x6000  # groups that repeat: 5000 to 50FF, 6000 to 60FF


class Action(Enum):
    """The standard's letters, with one choice made where it leaves several."""

    REMOVE = "X"
    EMPTY = "Z"  # also X/Z: the element may be one that must be there
    REPLACE = "D"  # also Z/D, X/D, X/Z/D: it may be one that must have a value
    UID = "U"
    CLEAN = "X/Z/U*"  # sequences of references: kept, what lies in them is treated like the rest


@cache
def _actions() -> dict[int, Action]:
    lists = (
        (Action.REMOVE, edition.X_TAGS),
        (Action.EMPTY, [*edition.Z_TAGS, *edition.X_Z_TAGS]),
        (
            Action.REPLACE,
            [*edition.D_TAGS, *edition.Z_D_TAGS, *edition.X_D_TAGS, *edition.X_Z_D_TAGS],
        ),
        (Action.UID, edition.U_TAGS),
        (Action.CLEAN, edition.X_Z_U_STAR_TAGS),
    )
    # Rows for repeating groups have a mask besides; `action_for` knows those groups.
    return {
        (row[0] << 16) | row[1]: action for action, rows in lists for row in rows if len(row) == 2
    }


def action_for(tag: BaseTag) -> Action | None:
    """What the basic profile says about a standard element; None = it is not in the table.

    Of overlays the table names data and comments. The other elements of their groups describe
    those, some in words, so the groups go as a whole; private elements do as well.
    """
    if tag.is_private or tag.group & 0xFF00 in (CURVES, OVERLAYS):
        return Action.REMOVE
    return _actions().get(int(tag))
