"""Looks before `labloop up` touches anything: what would keep the stack from running.

Every check gives a finding; one that fails means that nothing is started, exit code 3. What a
check found and what to do about it is said in the words of whoever must do it.
"""

import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from imaging.layout import MARKER
from stack.doctor import CLOCK_SKEW_S, GIB, MEMORY_FAIL_BYTES, MEMORY_WARN_BYTES, Finding, Grade
from stack.engine.engine import EngineInfo
from stack.engine.settings import LabSettings
from stack.errors import RefusedError

# Knows start_interval of health checks, and build contexts by name; before 25.0.5 a container
# without a way out could still ask the machine's name server (CVE-2024-29018).
OLDEST_ENGINE = (25, 0, 5)
OLDEST_COMPOSE = (2, 24)
# Our images take 5 GB, a CUDA torch 8 GB more; databases and logs grow.
DISK_WARN_BYTES, DISK_FAIL_BYTES = 30 * GIB, 5 * GIB
NAS_WARN_BYTES, NAS_FAIL_BYTES = 20 * GIB, GIB
CLOCK_FAIL_S = 60.0
WRITE_LIMIT_S = 20.0  # a share that hangs must not hang the look at it


class PreflightError(RefusedError):
    """The machine is not fit to start the stack; nothing was started."""

    hint = (
        "Mend that, then run it again; nothing was started or changed. `labloop doctor` shows all "
        "that is looked at."
    )

    def __init__(self, failed: Iterable[Finding]) -> None:
        words = "; ".join(f"{one.what}: {one.found}; {one.advice}" for one in failed)
        super().__init__(words)


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What is looked at besides the settings."""

    engine: EngineInfo
    compose_version: str
    nas: Path | None  # where this machine has the share; None when only containers do
    own_ports: frozenset[int] = field(default_factory=frozenset)  # held by our own gateway


def examine(settings: LabSettings, around: Surroundings) -> list[Finding]:
    """Everything about the machine; images and GPU are looked at by those who know them."""
    findings = [
        engine_version(around.engine.version),
        compose_version(around.compose_version),
        disk(around.engine.root),
        memory(),
    ]
    if settings.has_gateway:
        findings.append(ports(settings, around.own_ports))
    if around.nas is not None:
        findings += nas(around.nas, settings)
    return findings


def refuse_failures(findings: Iterable[Finding]) -> None:
    """Stop here unless every finding allows to go on.

    Raises:
        PreflightError: with all that failed.
    """
    failed = [one for one in findings if one.grade == "fail"]
    if failed:
        raise PreflightError(failed)


def version_of(text: str) -> tuple[int, ...]:
    """The numbers at the beginning of a version, e.g. (26, 1, 5) of 26.1.5+dfsg1."""
    match = re.match(r"v?(\d+(?:\.\d+)*)", text)
    return tuple(int(part) for part in match[1].split(".")) if match else ()


def engine_version(found: str) -> Finding:
    if version_of(found) < OLDEST_ENGINE:
        wanted = ".".join(map(str, OLDEST_ENGINE))
        advice = "install a newer Docker Engine; docs/operate.md says how on Debian"
        return Finding(
            "fail", "engine", f"Docker Engine is {found}, expected {wanted} or newer", advice
        )
    return Finding("ok", "engine", f"Docker Engine {found}")


def compose_version(found: str) -> Finding:
    if version_of(found) < OLDEST_COMPOSE:
        wanted = ".".join(map(str, OLDEST_COMPOSE))
        what = f"is {found}, expected {wanted} or newer" if found else "is not there"
        advice = "install the Compose plugin (package docker-compose-plugin or docker-compose)"
        return Finding("fail", "compose", f"Docker Compose {what}", advice)
    return Finding("ok", "compose", f"Docker Compose {found}")


def disk(root: Path) -> Finding:
    """Where images, databases and logs lie; asked of the engine, which may not be readable."""
    folder = root
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    found = f"{free / GIB:.1f} GiB free at {root}"
    if free < DISK_FAIL_BYTES:
        advice = f"free {DISK_FAIL_BYTES // GIB} GiB at least: `docker system df` shows what is old"
        return Finding("fail", "disk", found, advice)
    advice = f"{DISK_WARN_BYTES // GIB} GiB last for a while" if free < DISK_WARN_BYTES else ""
    return Finding("warn" if advice else "ok", "disk", found, advice)


def memory() -> Finding:
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    found = f"{total / GIB:.1f} GiB"
    if total < MEMORY_FAIL_BYTES:
        advice = f"{MEMORY_FAIL_BYTES // GIB} GiB are the least, 16 GiB let trainings run"
        return Finding("fail", "memory", found, advice)
    small = total < MEMORY_WARN_BYTES
    return Finding("warn" if small else "ok", "memory", found, "16 GiB are better" if small else "")


def ports(settings: LabSettings, own: frozenset[int]) -> Finding:
    """Whether the gateway may listen where it should; its own listening is no obstacle."""
    busy = {
        name: port
        for name, port in settings.ports.items()
        if port not in own and not _may_listen(settings.bind, port)
    }
    if busy:
        words = ", ".join(f"{port} ({name})" for name, port in busy.items())
        found = f"in use on {settings.bind}: {words}"
        advice = "stop what listens there (`ss -ltnp` names it), or set another number in .env"
        return Finding("fail", "ports", found, advice)
    return Finding("ok", "ports", ", ".join(str(port) for port in settings.ports.values()))


def _may_listen(address: str, port: int) -> bool:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except PermissionError:  # a low port, and we are not root; the engine is
            return not _is_answered(address, port)
        except OSError:
            return False
    return True


def _is_answered(address: str, port: int) -> bool:
    host = "127.0.0.1" if address == "0.0.0.0" else address
    with socket.socket() as probe:
        probe.settimeout(2.0)
        return probe.connect_ex((host, port)) == 0


def nas(folder: Path, settings: LabSettings) -> list[Finding]:
    """Marker, room, the lab's right to write, clock; the later ones only where the first holds."""
    if not folder.is_dir():
        advice = "mount the share, or say in .env where it is (NAS_PATH)"
        return [Finding("fail", "nas", f"{folder} is not a folder", advice)]
    if not (folder / MARKER).is_file():
        found = f"no marker file {MARKER} in {folder}: not mounted, or not a share of Labloop yet"
        advice = f"mount it, or make it one: labloop nas init {folder} --gid {settings.lab_gid}"
        return [Finding("fail", "nas", found, advice)]
    free = shutil.disk_usage(folder).free
    room = Finding("ok", "nas", f"{folder}, {free / GIB:.1f} GiB free")
    if free < NAS_WARN_BYTES:
        grade: Grade = "fail" if free < NAS_FAIL_BYTES else "warn"
        advice = f"free {NAS_FAIL_BYTES // GIB} GiB at least; models and images go there"
        room = Finding(grade, "nas", f"{folder} has {free / GIB:.1f} GiB free", advice)
    if room.grade == "fail":
        return [room]
    return [room, writable(folder, settings), clock(folder)]


def writable(folder: Path, settings: LabSettings) -> Finding:
    """Whether the services, as the lab's user and group, may write where they must."""
    needed = [folder, *(folder / name for name in ("dataset", "runs", "models"))]
    shut = [path for path in needed if path.is_dir() and not _lab_may_write(path, settings)]
    if shut:
        who = f"{settings.lab_uid}:{settings.lab_gid}"
        names = ", ".join(f"{path} ({_owner(path)})" for path in shut)
        advice = (
            f"chgrp -R {settings.lab_gid} {folder} && chmod -R g+rwX {folder} && "
            f"find {folder} -type d -exec chmod g+s {{}} +   (or set LAB_UID/LAB_GID in .env)"
        )
        return Finding("fail", "nas group", f"the lab's {who} may not write to {names}", advice)
    return Finding("ok", "nas group", f"{settings.lab_uid}:{settings.lab_gid} may write")


def _owner(path: Path) -> str:
    found = path.stat()
    return f"{found.st_uid}:{found.st_gid} {found.st_mode & 0o7777:04o}"


def _lab_may_write(folder: Path, settings: LabSettings) -> bool:
    """Really try it as root, because a server may map users; else believe the mode."""
    if os.geteuid() != 0:
        found = folder.stat()
        by_group = found.st_gid == settings.lab_gid and found.st_mode & 0o030 == 0o030
        by_user = found.st_uid == settings.lab_uid and found.st_mode & 0o300 == 0o300
        return by_group or by_user or found.st_mode & 0o003 == 0o003
    probe = f"./.preflight.{os.getpid()}.part"
    try:
        answer = subprocess.run(
            ["/bin/sh", "-c", ': >"$1" && rm "$1"', "sh", probe],
            # From within: folders above may shut the lab's user out, and do not count in a mount.
            cwd=folder,
            user=settings.lab_uid,
            group=settings.lab_gid,
            extra_groups=[],
            capture_output=True,
            check=False,
            timeout=WRITE_LIMIT_S,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return answer.returncode == 0


def clock(folder: Path) -> Finding:
    """Files are judged quiet by their age: a NAS whose clock is off makes that wrong."""
    probe = folder / f".preflight.{os.getpid()}.part"
    try:
        probe.touch()
        age_s = time.time() - probe.stat().st_mtime
    except OSError:
        return Finding("warn", "clock", "not compared: this user may not write to the NAS")
    finally:
        probe.unlink(missing_ok=True)
    if abs(age_s) > CLOCK_SKEW_S:
        found = f"the NAS is {-age_s:.1f} s ahead of this machine"
        grade: Grade = "fail" if abs(age_s) > CLOCK_FAIL_S else "warn"
        return Finding(grade, "clock", found, "let both follow one time server (NTP)")
    return Finding("ok", "clock", f"NAS and machine agree within {CLOCK_SKEW_S:.0f} s")
