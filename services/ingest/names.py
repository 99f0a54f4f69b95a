"""What names in rawdata mean by themselves: passed over, unreadable, or a patient's key.

Pure rules on names; files are never opened here.
"""

import re
import unicodedata
from pathlib import PurePosixPath

from imaging.deid.pseudonym import pseudonym as pseudonym  # names become it
from imaging.io.casesheet import SHEET_NAME

# What copying programs, NAS systems and desktops leave lying about. `…ocTransferId….part` is a
# Nextcloud upload under way, `.filepart` a WinSCP one; both are renamed when they are done.
UNFINISHED = (".part", ".tmp", ".temp", ".filepart", ".partial", ".crdownload", ".download", ".swp")
SYSTEM_FILES = frozenset({"thumbs.db", "desktop.ini", "icon\r"})
SYSTEM_FOLDERS = frozenset(
    {
        "@eadir", "#recycle", "#snapshot", "__macosx", "lost+found", "$recycle.bin",
        "system volume information", "@recycle", "@tmp",
    }
)  # fmt: skip
DIRECTION_TRICKS = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200e\u200f")
CHANNEL = re.compile(r"(.+)_(\d{4})")
# Endings of two parts; of any other name the last part is the ending.
VOLUME_ENDINGS = (".nii.gz", ".seg.nrrd", ".nii", ".nrrd")


def is_passed_over(name: str) -> bool:
    """Whether a file or folder name belongs to a half-done copy, a desktop or a NAS."""
    low = name.lower()
    return (
        low.startswith((".", "~"))
        or low.endswith("~")
        or low.endswith(UNFINISHED)
        or ".octransferid" in low
        or low in SYSTEM_FILES
        or low in SYSTEM_FOLDERS
    )


def is_paper(path: str) -> bool:
    """Whether a path below rawdata is a README, LICENSE, checksum list, dataset.json or cases.csv.

    The last two are read, but not as pictures; a cases.csv counts only in rawdata itself.
    """
    low = path.rsplit("/", 1)[-1].lower()
    return (
        is_case_list(path)
        or path in ("dataset.json", "SHA256SUMS")
        or (
            low.startswith(("readme", "license", "licence"))
            and PurePosixPath(low).suffix in ("", ".md", ".txt")
        )
    )


def is_case_list(name: str) -> bool:
    """Whether a file is called cases.csv; spreadsheets and people write Cases.csv, too."""
    return name.lower() == SHEET_NAME


def name_trouble(path: str) -> str | None:
    """Why a path below rawdata cannot be used, or None. Folders on the way count."""
    if any("\ud800" <= character <= "\udfff" for character in path):
        return "a name that is not UTF-8 text"
    if any(unicodedata.category(character) == "Cc" for character in path):
        return "a name with control characters in it"
    if DIRECTION_TRICKS & set(path):
        return "a name that switches its reading direction, which hides what it says"
    if "\\" in path:
        return "a name with a backslash, which other systems read as a folder"
    return None


def safe_name(path: str) -> str:
    """The last part of a path, fit for any system: what a refused file is called."""
    name = re.sub(r"[^A-Za-z0-9._-]+", "_", path.rsplit("/", 1)[-1]).lstrip(".")[-100:]
    return f"file-{name}" if name in ("", "reason.txt") else name


def composed(text: str) -> str:
    """One spelling for one text: Macs decompose letters (ö as o and ¨), other systems do not."""
    return unicodedata.normalize("NFC", text)


def patient_key(path: str) -> str:
    """Who a picture belongs to, by its name: `la_003` in `la_003_0000.jpg`, else the stem."""
    stem = stem_of(path)
    match = CHANNEL.fullmatch(stem)
    return match[1] if match else stem


def stem_of(path: str) -> str:
    """A file's name without its ending: `x` of `a/x.png` and of `a/x.nii.gz`."""
    name = path.rsplit("/", 1)[-1]
    ending = next((end for end in VOLUME_ENDINGS if name.lower().endswith(end)), None)
    return name[: -len(ending)] or name if ending else PurePosixPath(name).stem
