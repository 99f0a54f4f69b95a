"""What installs packages: uv where it can be had, else pip. And what this machine has to offer.

uv comes from the user's own package index, by pip, in the version that constraints.txt pins.
Standard library only.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from stack import console
from stack.environments import CONSTRAINTS, Checkout
from stack.errors import StackError
from stack.pip_settings import parse_pip_config, uv_options, uv_variables
from stack.settings import setup_environment

LONGEST_S = 900.0  # apt on a slow mirror


class SetupError(StackError):
    """An environment could not be made."""

    hint = "Mend what the message says and run `make setup` again; what is done stays done."


@dataclass(frozen=True, slots=True)
class Tool:
    """What installs packages: uv, or each environment's own pip when uv cannot be had."""

    python: Path  # the machine's interpreter, that environments are made of
    uv: Path | None
    variables: Mapping[str, str] = field(repr=False)  # indexes may carry passwords
    options: tuple[str, ...] = ()

    def make(self, folder: Path) -> list[str]:
        """The command that makes an empty environment."""
        if self.uv:
            return [str(self.uv), "venv", "--quiet", "--python", str(self.python), str(folder)]
        return [str(self.python), "-m", "venv", str(folder)]

    def install(self, interpreter: Path, *words: str) -> list[str]:
        """The command that installs packages into an environment."""
        if self.uv:
            into = ["pip", "install", "--python", str(interpreter), *self.options]
            return [str(self.uv), *into, *words]
        return [str(interpreter), "-m", "pip", "install", "--disable-pip-version-check", *words]


def find_tool(checkout: Checkout) -> Tool:
    """uv in `.envs/tools`, installed there by pip if need be; pip alone if that fails.

    Raises:
        SetupError: this Python cannot even make an environment.
    """
    python = Path(sys.executable).resolve()
    _require_venv(python)
    environment = setup_environment()
    tools = checkout.root / ".envs" / "tools"
    pip = [str(tools / "bin" / "python"), "-m", "pip", "--disable-pip-version-check"]
    uv = tools / "bin" / "uv"
    wanted = pinned("uv", checkout)
    if not answers([str(uv), "--version"], wanted):
        console.say(f"getting uv {wanted}, which installs the rest (usually 5-15 s) …")
        shutil.rmtree(tools, ignore_errors=True)
        _quietly([str(python), "-m", "venv", str(tools)])
        answer = _quietly([*pip, "install", "--quiet", f"uv=={wanted}"])
        if answer.returncode != 0:
            words = tail(answer.stdout + answer.stderr, 1)
            console.warn(f"uv cannot be had ({words}); going on with pip, which takes longer")
            return Tool(python, None, environment)
    config = parse_pip_config(_quietly([*pip, "config", "list"]).stdout)
    variables = uv_variables(config, environment)
    return Tool(python, uv, variables, tuple(uv_options(config)))


def _require_venv(python: Path) -> None:
    """Debian splits what `python3 -m venv` needs into a package of its own."""
    if answers([str(python), "-c", "import ensurepip, venv; print('yes')"], "yes"):
        return
    command = ["apt-get", "install", "-y", "python3-venv"]
    if os.geteuid() == 0 and shutil.which("apt-get"):
        console.say("python3 lacks venv; installing Debian's python3-venv (usually 10-60 s) …")
        _quietly(["apt-get", "update"])
        answer = _quietly(command)
        if answer.returncode == 0:
            return
        raise SetupError(f"{' '.join(command)} failed: {tail(answer.stderr, 3)}")
    raise SetupError(
        f"{python} cannot make environments: it lacks the module ensurepip",
        hint="apt-get install python3-venv",
    )


def pinned(package: str, checkout: Checkout) -> str:
    """The version of a package that constraints.txt says."""
    text = (checkout.root / CONSTRAINTS).read_text(encoding="utf-8")
    match = re.search(rf"^{re.escape(package)}==(\S+)", text, re.MULTILINE)
    if match is None:
        raise SetupError(f"{CONSTRAINTS} does not say which {package}")
    return match[1]


def sees_gpu() -> bool:
    """Whether there is an NVIDIA GPU that works."""
    program = shutil.which("nvidia-smi")
    return program is not None and answers([program, "-L"], "GPU")


def answers(command: Sequence[str], expected: str) -> bool:
    """Whether the program runs, succeeds and says what is expected."""
    answer = _quietly(command)
    return answer.returncode == 0 and expected in answer.stdout


def _quietly(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """Run to the end; a program that is not there or hangs counts as one that failed."""
    try:
        return subprocess.run(
            command,
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
            timeout=LONGEST_S,
            env={**setup_environment(), "DEBIAN_FRONTEND": "noninteractive"},
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return subprocess.CompletedProcess(command, 127, "", str(error))


def tail(text: str, count: int) -> str:
    """The last lines of a text."""
    return "\n".join(text.strip().splitlines()[-count:])
