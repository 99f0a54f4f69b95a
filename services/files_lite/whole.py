"""Uploads appear complete, in one step, whichever way they come.

copyparty's page uploads into `.name.PARTIAL` and renames, but reserves the name with an empty file.
A plain PUT, which is WebDAV's way, it writes under the file's own name, and leaves it there when
the connection breaks: ingest would take half a picture for a whole one. Both are mended, around
the functions that all of its ways lead through. tests/docker/test_files_lite.py holds the pinned
version to what is assumed.
"""

import os
import secrets
import stat
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

Copier = Callable[..., Any]


def whole(copier: Copier) -> Copier:
    """`hashcopy(blocks, file, …)`, through a hidden file where the given one is new."""

    def copy(blocks: Iterable[bytes], target: Any, *rest: Any) -> Any:
        # Parts of a file that is filled from several connections are opened "rb+"; it has a
        # hidden name already.
        if getattr(target, "mode", "") != "wb" or not isinstance(target.name, bytes | str):
            return copier(blocks, target, *rest)
        rights = stat.S_IMODE(os.fstat(target.fileno()).st_mode)
        return _copy(copier, blocks, Path(os.fsdecode(target.name)), rights, *rest)

    return copy


def _copy(copier: Copier, blocks: Iterable[bytes], path: Path, rights: int, *rest: Any) -> Any:
    path.unlink()  # empty so far; open, but nobody writes into it
    part = path.with_name(f".{secrets.token_hex(8)}.PARTIAL")
    try:
        with part.open("wb") as file:
            os.fchmod(file.fileno(), rights)  # copyparty works without a umask
            answer = copier(blocks, file, *rest)
        if path.exists():
            raise FileExistsError(f"{path.name} was uploaded by somebody else meanwhile")
        part.rename(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    return answer


def make_uploads_whole(httpcli: Any, up2k: Any) -> None:
    """Wrap what copyparty's modules of these names write files with."""
    for name in ("hashcopy", "justcopy"):
        setattr(httpcli, name, whole(getattr(httpcli, name)))
    hide_reservations(up2k.Up2k)


def hide_reservations(server: Any) -> None:
    """Let copyparty's page reserve no name on the share.

    While a file grows under its hidden name, an empty one would stand under its own. Ingest would
    refuse it and set it aside, and copyparty would then take the upload for deleted.
    """
    reserve, keep, finish = server._untaken, server._snap_reg, server._finish_upload

    def _untaken(self: Any, folder: str, job: Any, now: float) -> Any:
        name = reserve(self, folder, job, now)
        Path(folder, name).unlink()
        return name

    def _snap_reg(self: Any, top: str, jobs: dict[str, Any]) -> None:
        # It drops unfinished uploads whose reservation is gone: they have one while it looks.
        growing = [job for job in jobs.values() if job["need"] and _hidden(job).exists()]
        paths = [_place(job) for job in growing if not _place(job).exists()]
        for path in paths:
            path.touch()
        try:
            keep(self, top, jobs)
        finally:
            for path in paths:
                path.unlink(missing_ok=True)

    def _finish_upload(self: Any, top: str, number: str) -> None:
        job = self.registry[top][number]
        if _place(job).exists():  # somebody was faster; nobody's file is written over
            old = Path(job["name"])
            job["name"] = f"{old.stem}-{secrets.token_hex(4)}{old.suffix}"
        finish(self, top, number)

    server._untaken, server._snap_reg, server._finish_upload = _untaken, _snap_reg, _finish_upload


def _place(job: Any) -> Path:
    return Path(job["ptop"], job["prel"], job["name"])


def _hidden(job: Any) -> Path:
    return Path(job["ptop"], job["prel"], job.get("tnam") or f".{job['name']}.PARTIAL")
