"""The share as the containers get it: one volume, whatever it is made of.

A folder of this machine and an NFS export become options of the volume. SMB cannot: its password
would stand in `docker volume inspect`, and the kernel reads no credentials file by itself. So this
machine mounts it, with mount.cifs and the file, and the containers get the folder.
"""

import os
import subprocess
from pathlib import Path

from imaging.layout import MARKER
from stack.bootstrap import init_nas
from stack.engine.engine import Engine, EngineError
from stack.engine.settings import LabSettings
from stack.errors import RefusedError
from stack.home import Home

MOUNT_LIMIT_S = 60.0
# Waiting for a NAS that restarts is better than an error in the middle of a label.
NFS_OPTIONS = "rw,nfsvers=4.2,hard,timeo=600,retrans=2,noatime"
SMB_OPTIONS = "rw,vers=3.0,hard,nosuid,nodev,noperm,mfsymlinks"


# As the lab's user: is it a share, may the lab write there, and does it hold cases already?
LOOK = """
cd /nas
[ -f .labloop ] || { echo "it has no marker file .labloop" >&2; exit 1; }
for folder in . dataset runs models; do
    [ -d "$folder" ] || continue
    probe="$folder/.preflight.part"
    (: >"$probe") 2>/dev/null || { echo "$(id -u):$(id -g) may not write to $folder" >&2; exit 1; }
    rm "$probe"
done
for one in dataset/*/cases/*; do
    [ -e "$one" ] || continue
    echo cases
    break
done
"""


class NasMountError(RefusedError):
    """The share cannot be mounted; nothing was started."""


def nas_folder(home: Home, settings: LabSettings) -> Path | None:
    """Where this machine sees the share; None when only containers do (NFS)."""
    place = settings.nas
    if place.kind == "path":
        return place.path
    if place.kind == "smb":
        return home.root / "mnt" / "nas"
    return home.nas_folder if place.kind == "home" else None


def volume_options(home: Home, settings: LabSettings) -> dict[str, str]:
    """Options of the volume `nas`, for Docker's own driver."""
    place = settings.nas
    if place.kind == "nfs":
        server, _, export = place.share.partition(":")
        return {
            "type": "nfs",
            "device": f":{export}",
            "o": ",".join((f"addr={server}", place.options or NFS_OPTIONS)),
        }
    folder = nas_folder(home, settings)
    return {"type": "none", "o": "bind", "device": str(folder)}


def make_ready(home: Home, settings: LabSettings) -> None:
    """Mount an SMB share; make the folder of a lab that only tries things out.

    Raises:
        NasMountError: the share cannot be mounted.
    """
    if settings.nas.kind == "home":
        if not (home.nas_folder / MARKER).is_file():
            init_nas(home.nas_folder)
            give_to_lab(home.nas_folder, settings.lab_gid)
        return
    if settings.nas.kind == "smb":
        _mount_smb(home.root / "mnt" / "nas", settings)


def look_through_engine(engine: Engine, image: str, home: Home, settings: LabSettings) -> bool:
    """Look at a share that only the engine mounts; whether it holds cases.

    Raises:
        NasMountError: it cannot be mounted, is no share of ours, or the lab may not write there.
    """
    volume = f"{settings.stack_name}_nas-look"
    engine.make_volume(volume, settings.stack_name, volume_options(home, settings))
    try:
        user = f"{settings.lab_uid}:{settings.lab_gid}"
        return "cases" in engine.run_as(user, image, LOOK, {volume: "/nas"})
    except EngineError as error:
        raise NasMountError(
            f"{settings.nas.share} is not usable: {error}",
            hint="`showmount -e SERVER` lists what a server exports; this machine's kernel must "
            "know nfs. A new share: mount it once, then "
            f"`labloop nas init FOLDER --gid {settings.lab_gid}`.",
        ) from error
    finally:
        engine.remove_volume(volume)


def give_to_lab(folder: Path, gid: int) -> None:
    """Let the lab's group write: what is made in these folders is its own, too.

    Raises:
        RefusedError: this user may not give them away.
    """
    try:
        for path in (folder, *(one for one in folder.iterdir() if one.is_dir())):
            os.chown(path, -1, gid)
            path.chmod(0o2775)
    except PermissionError as error:
        raise RefusedError(
            f"{error.filename} cannot be given to group {gid} by this user",
            hint=f"As root: chgrp -R {gid} {folder} && chmod -R g+rwX {folder} && "
            f"find {folder} -type d -exec chmod g+s {{}} +",
        ) from error


def _mount_smb(folder: Path, settings: LabSettings) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    if os.path.ismount(folder):
        return
    options = (
        f"credentials={settings.nas.credentials},uid={settings.lab_uid},gid={settings.lab_gid},"
        f"file_mode=0664,dir_mode=02775,{SMB_OPTIONS}"
    )
    command = ["mount", "-t", "cifs", settings.nas.share, str(folder), "-o", options]
    try:
        answer = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=MOUNT_LIMIT_S
        )
        words, is_mounted = answer.stderr or answer.stdout, answer.returncode == 0
    except (OSError, subprocess.TimeoutExpired) as error:
        words, is_mounted = str(error), False
    if not is_mounted:
        raise NasMountError(
            f"{settings.nas.share} cannot be mounted: {' '.join(words.split())}",
            hint="It needs root, the package cifs-utils and a kernel that knows cifs; "
            "`mount.cifs` by hand shows more. A share mounted by this machine goes in NAS_PATH.",
        )


def link_home(home: Home, folder: Path) -> None:
    """Make `<home>/nas` lead to the share, for the verbs that look at it.

    Raises:
        RefusedError: it leads to another one.
    """
    link = home.nas_folder
    if folder == link:
        return
    if link.is_symlink() or link.exists():
        if link.resolve() != folder.resolve():
            raise RefusedError(
                f"this home uses {link.resolve()}, asked for was {folder}",
                hint="Databases and NAS belong together: take another --home for another NAS. "
                f"If the same share moved, remove the link {link}.",
            )
        return
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(folder)
