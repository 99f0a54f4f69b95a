"""Is this machine fit to run the stack? Looks, measures, changes nothing that stays."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from stack.environments import USUAL, Checkout
from stack.home import Home
from stack.lock import is_supervised
from stack.ports import is_free, remembered_ports

Grade = Literal["ok", "warn", "fail"]
GIB = 2**30
# Environments 5 GB, Label Studio's database and a few hundred cases: below 10 GB it gets tight.
DISK_WARN_BYTES, DISK_FAIL_BYTES = 10 * GIB, 2 * GIB
# Label Studio 0.5 GB, one training 2 GB, the small services 0.1 GB each.
MEMORY_WARN_BYTES, MEMORY_FAIL_BYTES = 6 * GIB, 3 * GIB
# Files are judged quiet by their age: a NAS whose clock is off by more makes that wrong.
CLOCK_SKEW_S = 2.0
GPU_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    grade: Grade
    what: str
    found: str
    advice: str = ""


def examine_machine(home: Home) -> list[Finding]:
    """Everything that is known to keep a stack from running well."""
    checks: tuple[Callable[[Home], Finding], ...] = (
        _python,
        _environment,
        _disk,
        _memory,
        _setpriv,
        _gpu,
        _ports,
        _nas,
        _clock,
    )
    return [check(home) for check in checks]


def _python(home: Home) -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    return Finding("ok", "python", version)  # an older one would not have got this far


def _environment(home: Home) -> Finding:
    checkout = Checkout()
    environments = [checkout.environment(name) for name in USUAL]
    absent = [one for one in environments if not checkout.interpreter(one).exists()]
    if absent:
        names = ", ".join(str(one.folder) for one in absent)
        return Finding("fail", "environments", f"not there: {names}", "make setup")
    old = [str(one.folder) for one in environments if not checkout.is_ready(one)]
    if old:
        found = f"not made from the present constraints.txt: {', '.join(old)}"
        return Finding("warn", "environments", found, "make setup")
    return Finding("ok", "environments", f"up to date in {checkout.root}")


def _disk(home: Home) -> Finding:
    folder = home.root
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    grade = _graded(free, DISK_WARN_BYTES, DISK_FAIL_BYTES)
    advice = "" if grade == "ok" else f"have {DISK_WARN_BYTES // GIB} GiB free for the home"
    return Finding(grade, "disk", f"{free / GIB:.1f} GiB free at {folder}", advice)


def _memory(home: Home) -> Finding:
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    grade = _graded(total, MEMORY_WARN_BYTES, MEMORY_FAIL_BYTES)
    advice = "" if grade == "ok" else f"{MEMORY_WARN_BYTES // GIB} GiB let training run undisturbed"
    return Finding(grade, "memory", f"{total / GIB:.1f} GiB", advice)


def _graded(value: float, warn_below: float, fail_below: float) -> Grade:
    if value < fail_below:
        return "fail"
    return "warn" if value < warn_below else "ok"


def _setpriv(home: Home) -> Finding:
    if shutil.which("setpriv"):
        return Finding("ok", "setpriv", "services end with their supervisor")
    advice = "install util-linux; until then a killed supervisor leaves services behind for a while"
    return Finding("warn", "setpriv", "not there", advice)


def _gpu(home: Home) -> Finding:
    program = shutil.which("nvidia-smi")
    if program is None:
        return Finding("ok", "gpu", "none; training and serving run on the CPU")
    try:
        answer = subprocess.run(
            [program, "-L"], capture_output=True, text=True, timeout=GPU_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return Finding(
            "warn", "gpu", f"nvidia-smi: {error}", "mend the driver, or go on on the CPU"
        )
    if answer.returncode != 0:
        words = " ".join((answer.stdout + answer.stderr).split())[:100]
        return Finding("warn", "gpu", f"nvidia-smi: {words}", "mend the driver, or use the CPU")
    return Finding("ok", "gpu", answer.stdout.split(" (UUID")[0].strip())


def _ports(home: Home) -> Finding:
    ports = remembered_ports(home)
    if is_supervised(home):
        return Finding("ok", "ports", "in use by this home's services")
    taken = [f"{name} {port}" for name, port in ports.items() if not is_free(port)]
    if taken:
        return Finding("warn", "ports", f"taken: {', '.join(taken)}", "others will be chosen")
    return Finding("ok", "ports", "as remembered" if ports else "chosen at the first start")


def _nas(home: Home) -> Finding:
    if not home.nas_folder.exists():
        if home.nas_folder.is_symlink():
            advice = "mount the share again"
            return Finding("fail", "nas", f"{home.nas.root} is not there", advice)
        return Finding("ok", "nas", "made at the first start")
    if not home.nas.marker.is_file():
        advice = "mount the share; everything waits until the marker is back"
        return Finding("fail", "nas", f"no marker in {home.nas.root}", advice)
    if _age_of_new_file(home) is None:
        advice = "give this user the right to write there"
        return Finding("fail", "nas", f"{home.nas.root} cannot be written", advice)
    return Finding("ok", "nas", str(home.nas.root))


def _clock(home: Home) -> Finding:
    age_s = _age_of_new_file(home)
    if age_s is None:
        return Finding("ok", "clock", "the NAS has none to compare with")
    if abs(age_s) > CLOCK_SKEW_S:
        advice = "let both follow one time server (NTP)"
        return Finding("warn", "clock", f"the NAS is {-age_s:.1f} s ahead of this machine", advice)
    return Finding("ok", "clock", f"NAS and machine agree within {CLOCK_SKEW_S:.0f} s")


def _age_of_new_file(home: Home) -> float | None:
    """How old a file on the NAS is that was made just now; None when it cannot be made."""
    probe = Path(home.nas.root, f".doctor.{os.getpid()}.part")
    try:
        probe.touch()
        return time.time() - probe.stat().st_mtime
    except OSError:
        return None
    finally:
        probe.unlink(missing_ok=True)
