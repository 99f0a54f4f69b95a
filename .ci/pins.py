"""Writes constraints.txt anew: the newest versions that fit pyproject.toml, for all environments.

Run by `make pins`. Versions that pyproject.toml does not narrow go up; an upgrade is a commit of
its own. What must not go up yet is held in HELD, with the reason.
"""

import re
import subprocess
import sys

from stack import console
from stack.environments import CONSTRAINTS, Checkout
from stack.install_tool import find_tool

HEADER = """\
# Every version, once: all environments are installed under these constraints (labloop setup).
# Remade with `make pins`; torch is written without its build tag (+cpu, +cu130) on purpose.
"""
# Beyond pyproject.toml: what the setup itself needs.
SETUP = ("uv",)
# Label Studio 1.23.2 needs this one; torch, MONAI and numpy move together, by hand.
HELD = ("label-studio", "label-studio-sdk", "torch", "monai", "numpy", "nilearn", "setuptools")
# Installed in an environment of its own, without the versions it asks for: kept as they are.
APART = ("label-studio-ml", "label-studio-tools")


def main() -> int:
    checkout = Checkout()
    path = checkout.root / CONSTRAINTS
    before = dict(re.findall(r"^([a-z0-9-]+)==(\S+)", path.read_text(encoding="utf-8"), re.M))
    tool = find_tool(checkout)
    if tool.uv is None:
        console.complain("uv cannot be had", "pip cannot make the pins.")
        return 1
    wanted = [*SETUP, *(f"{name}=={before[name]}" for name in HELD)]
    command = [str(tool.uv), "pip", "compile", "--quiet", "--all-extras", "--no-header"]
    # For the oldest Python we run on: later ones need fewer backports, never more.
    command += ["--no-annotate", "--python-version", "3.11", *tool.options, "pyproject.toml", "-"]
    answer = subprocess.run(
        command,
        cwd=checkout.root,
        env=dict(tool.variables),
        input="\n".join(wanted),
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    if answer.returncode != 0:
        return answer.returncode
    pins = re.sub(r"^(torch==[^+\n]+)\+\S+", r"\1", answer.stdout, flags=re.M)
    lines = pins.splitlines() + [f"{name}=={before[name]}" for name in APART]
    pins = "\n".join(sorted(lines, key=lambda line: line.partition("==")[0])) + "\n"
    path.write_text(HEADER + pins, encoding="utf-8")
    after = dict(re.findall(r"^([a-z0-9-]+)==(\S+)", pins, re.M))
    for name in sorted(before.keys() | after.keys()):
        if before.get(name) != after.get(name):
            console.say(f"{name}: {before.get(name, 'new')} → {after.get(name, 'gone')}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
