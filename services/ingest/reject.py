"""Files that ingest refuses: moved to `rejected/<rej-…>/`, with a reason a person can act on.

The reason is written first and the file is moved by one rename, so that it is never copied by
half and never deleted. Symbolic links are moved, not followed, and nothing behind one is moved.
"""

import errno
import os
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from imaging.errors import RecordError
from imaging.ids import new_id, utc_now
from imaging.layout import TaskFolder
from imaging.publish import read_json, write_json, write_text
from services.ingest.errors import RefusedError
from services.ingest.inside import opened_folder
from services.ingest.names import is_case_list, safe_name
from services.ingest.reasons import BAD_CASE_LIST, reason_of

READ_ONLY = frozenset({errno.EACCES, errno.EPERM, errno.EROFS, errno.EXDEV})
REASON_FILE = "reason.txt"
UNFINISHED = ".moving.json"  # beside reason.txt while files that belong together are moved


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
    return _move(task, root, {path: safe_name(path)}, path, refusal)


def reject_together(
    task: TaskFolder, paths: Sequence[str], refusal: RefusedError, *, nameless: bool
) -> str | None:
    """Move files that belong together out of the way, into one folder beside one reason.

    Args:
        task: the task whose `rejected/` takes them.
        paths: the files, below rawdata; at least one.
        refusal: what was found.
        nameless: number the files, and name none of them in the text: names and folders of DICOM
            files often hold a patient's name or a raw UID.

    Returns:
        As `reject` does; None when all have gone.

    Raises:
        OSError: as `reject` does. Files that were moved before stay moved; `finish_moves` moves
            the others.
    """
    digits = len(str(len(paths) - 1))
    numbered = {path: f"{at:0{digits}d}" for at, path in enumerate(paths)}
    names = {
        path: f"{number}.dcm" if nameless else f"{number}-{safe_name(path)}"
        for path, number in numbered.items()
    }
    shown = f"{len(paths)} DICOM file{'s' if len(paths) > 1 else ''}"
    text = shown if nameless else ", ".join(paths[:8])
    return _move(task, task.rawdata, names, text, refusal)


def _move(
    task: TaskFolder, root: Path, names: Mapping[str, str], text: str, refusal: RefusedError
) -> str | None:
    found = {path: status for path in names if (status := _status(root, path)) is not None}
    if not found:
        return None
    folder = _new_folder(task.rejected)
    moved = 0
    try:
        size_bytes = sum(status.st_size for status in found.values())
        write_text(folder / REASON_FILE, reason_text(text, size_bytes, refusal))
        if len(found) > 1:
            moves = [[path, names[path], *_look(status)] for path, status in found.items()]
            write_json(folder / UNFINISHED, {"format": 1, "moves": moves})
        for path in found:
            moved += _rename(root, path, folder / names[path])
        (folder / UNFINISHED).unlink(missing_ok=True)
    except OSError as error:
        if not moved and error.errno in (errno.ENOSPC, errno.EDQUOT):
            shutil.rmtree(folder, ignore_errors=True)
        raise
    if not moved:
        shutil.rmtree(folder, ignore_errors=True)
        return None
    return folder.name


def finish_moves(task: TaskFolder) -> None:
    """Move the rest of files that were refused together when a process died, or the share did.

    What was left behind could pass for something whole: half a series is a shorter one.

    Raises:
        OSError: the share stumbles; to be tried again. Files that may not be moved stay.
    """
    for record in task.rejected.glob(f"rej-*/{UNFINISHED}"):
        try:
            moves = [
                (str(path), str(name), *look) for path, name, *look in read_json(record)["moves"]
            ]
        except (RecordError, KeyError, TypeError, ValueError):
            continue
        for path, name, *look in moves:
            is_ours = ".." not in path.split("/") and "/" not in name  # people can write here
            status = _status(task.rawdata, path) if is_ours else None
            if status is None or list(_look(status)) != look:
                continue  # moved, or another file by now
            try:
                _rename(task.rawdata, path, record.parent / name)
            except OSError as error:
                if error.errno not in READ_ONLY:
                    raise
        with suppress(PermissionError):
            record.unlink(missing_ok=True)


def _look(status: os.stat_result) -> tuple[int, int]:
    return status.st_size, status.st_mtime_ns


def _status(root: Path, path: str) -> os.stat_result | None:
    """How a file below `root` looks, or None when it has gone or a link leads to it."""
    try:
        with opened_folder(root, path) as (lies_in, name):
            return os.stat(name, dir_fd=lies_in, follow_symlinks=False)
    except OSError:
        return None


def _rename(root: Path, path: str, target: Path) -> bool:
    """Whether a file was still there to be moved."""
    try:
        with opened_folder(root, path) as (lies_in, name):
            os.rename(name, target, src_dir_fd=lies_in)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def reason_text(path: str, size_bytes: int, refusal: RefusedError) -> str:
    """reason.txt: what was found, what was expected, what to do."""
    expected, advice = reason_of(refusal.reason)
    plain = path.encode("unicode_escape").decode() if not path.isprintable() else path
    return (
        f"Reason:     {refusal.reason}\n"
        f"File:       {plain} ({size_bytes} bytes), as it lay below rawdata\n"
        f"Found:      {refusal.found}\n"
        f"Expected:   {expected}\n"
        f"What to do: {refusal.advice or advice}\n"
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
