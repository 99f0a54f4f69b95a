"""Files that ingest refuses: moved to `rejected/<rej-…>/`, with a reason a person can act on.

The reason is written first and the file is moved by one rename, so that it is never copied by
half and never deleted. Symbolic links are moved, not followed, and nothing behind one is moved.
"""

import errno
import os
import shutil
from contextlib import ExitStack, suppress
from pathlib import Path

from imaging.ids import new_id, utc_now
from imaging.layout import TaskFolder
from imaging.publish import write_text
from services.ingest.errors import RefusedError
from services.ingest.inside import opened_folder
from services.ingest.names import is_case_list, safe_name

REASON_FILE = "reason.txt"
BAD_CASE_LIST = "bad-case-list"
AGAIN = "Export it again and drop it in rawdata."
PICTURE = "a PNG, JPEG or TIFF picture"

# Keyword → what was expected, what to do.
REASONS: dict[str, tuple[str, str]] = {
    "empty": (f"{PICTURE}", "The copy did not succeed: copy it again."),
    "not-an-image": (
        f"{PICTURE}; a list of cases is called cases.csv and lies in rawdata itself",
        "Export it as PNG, JPEG or TIFF, or keep it outside rawdata.",
    ),
    "truncated": ("a whole file", "The copy or export was cut off: copy it again."),
    "broken": (f"{PICTURE} that can be decoded", AGAIN),
    "too-many-pixels": (
        "a picture within the pixel limit (INGEST_MAX_PIXELS)",
        "Crop or shrink it, or ask the admin to raise the limit.",
    ),
    "too-many-scans": (
        "a JPEG of at most 64 scans; progressive ones have about ten",
        "Save it again as an ordinary JPEG or as PNG.",
    ),
    "too-large": ("a file within the size limit", "Crop or shrink it."),
    "too-small": ("at least 8 × 8 pixels", AGAIN),
    "absurd-shape": ("a longer side of at most 64 times the shorter", AGAIN),
    "multi-page": ("one picture in a file", "Save each page as a file of its own."),
    "animated": ("one still picture", "Save the frame you mean as a PNG."),
    "pixel-type": (
        "8 or 16 bits of grey, or colour; no floating point",
        "Scale the values to 8 or 16 bits and save it again.",
    ),
    "symlink": ("a file", "Copy the file itself; links are never followed."),
    "not-a-file": ("a file", "Remove it from rawdata; pipes and devices hold no picture."),
    "too-deep": ("at most 32 folders inside each other", "Move the pictures further up."),
    "bad-name": (
        "a name in plain UTF-8 letters, digits and signs",
        "Rename it and drop it in rawdata again.",
    ),
    "permission-denied": (
        "a file that ingest may read",
        "Give the group of Labloop read access and drop it in rawdata again.",
    ),
    "duplicate": (
        "each picture once",
        "Nothing, if it is a copy. If it is another patient's picture, one of the two is wrong.",
    ),
    "unknown-class": (
        "a folder, or a label in cases.csv, that task.yaml knows",
        "Put it in the right folder, or add the label to task.yaml, and drop it again.",
    ),
    "contradiction": (
        "the same label in the folder's name and in cases.csv",
        "Correct one of the two and drop the picture again.",
    ),
    "name-twice": (
        "the folder, too, of a file in cases.csv when two pictures have its name",
        "Write their paths below rawdata in cases.csv, and drop it and this picture again.",
    ),
    "mask-size": (
        "a mask of the same rows and columns as its picture",
        "Export the mask at the picture's size and drop it again.",
    ),
    "mask-values": (
        "0/255 for one label, indices as in task.yaml, or the labels' colours",
        "Export the mask without smoothing or compression and drop it again.",
    ),
    "mask-rotated": (
        "a picture and a mask without an EXIF turn",
        "It cannot be known on which side up the mask was drawn: save both upright, drop both.",
    ),
    "mask-without-picture": (
        "a picture of the same name in the matching folder",
        "Drop the picture and this mask again, together.",
    ),
    "mask-ambiguous": (
        "one mask for one picture",
        "Keep one of the files of this name and drop it again.",
    ),
    BAD_CASE_LIST: (
        "a cases.csv in UTF-8 with a column `file` and one line per picture",
        "Correct it and drop it in rawdata again. Until then, or until this folder is deleted, "
        "new pictures of the task wait, so that no patient is split.",
    ),
}


def reject(task: TaskFolder, root: Path, path: str, refusal: RefusedError) -> str | None:
    """Move a file out of the way, beside its reason.

    Args:
        task: the task whose `rejected/` takes it.
        root: rawdata, or where else the file lies.
        path: the file, link or folder, below `root`; control characters are escaped in the text.
        refusal: what was found.

    Returns:
        The identifier of the folder in `rejected/`, or None when the file has gone meanwhile, or
        a folder on the way has become a link.

    Raises:
        OSError: no space (nothing is left behind), or the file may not be moved (its reason is
            in `rejected/`, the file stays where it is).
    """
    with ExitStack() as stack:
        try:
            lies_in, name = stack.enter_context(opened_folder(root, path))
            size_bytes = os.stat(name, dir_fd=lies_in, follow_symlinks=False).st_size
        except OSError:
            return None
        folder = _new_folder(task.rejected)
        try:
            write_text(folder / REASON_FILE, reason_text(path, size_bytes, refusal))
            os.rename(name, folder / safe_name(path), src_dir_fd=lies_in)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOSPC, errno.EDQUOT):
                shutil.rmtree(folder, ignore_errors=True)
            if error.errno == errno.ENOENT:
                return None
            raise
    return folder.name


def reason_text(path: str, size_bytes: int, refusal: RefusedError) -> str:
    """reason.txt: what was found, what was expected, what to do."""
    expected, advice = REASONS[refusal.reason]
    plain = path.encode("unicode_escape").decode() if not path.isprintable() else path
    return (
        f"Reason:     {refusal.reason}\n"
        f"File:       {plain} ({size_bytes} bytes), as it lay below rawdata\n"
        f"Found:      {refusal.found}\n"
        f"Expected:   {expected}\n"
        f"What to do: {advice}\n"
        f"Refused at: {utc_now()}\n"
        "\nThe file beside this text is the one that was dropped, unchanged. Labloop never deletes"
        "\nit; delete this folder when you no longer need it.\n"
    )


def refused_case_list(task: TaskFolder) -> str | None:
    """The folder in `rejected/` with a refused cases.csv of the task, if there is one."""
    for path in sorted(task.rejected.glob("rej-*/*")):
        if not is_case_list(path.name):
            continue
        with suppress(OSError):
            text = (path.parent / REASON_FILE).read_text(encoding="utf-8")
            if text.startswith(f"Reason:     {BAD_CASE_LIST}\n"):
                return path.parent.name
    return None


def _new_folder(parent: Path) -> Path:
    parent.mkdir(parents=True, exist_ok=True)
    while True:
        folder = parent / new_id("rej")
        try:
            folder.mkdir()
        except FileExistsError:
            continue  # two bytes of chance per second: a thousand refused files meet their like
        return folder
