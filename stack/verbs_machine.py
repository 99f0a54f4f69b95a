"""The verbs about the machine: `nas`, `doctor`, `setup`.

Each verb imports what it needs when it runs.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from stack import console
from stack.environments import ROOT
from stack.home import Home

GRADE_COLORS = {"ok": "green", "warn": "yellow", "fail": "red"}


def register(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add this module's verbs to the command line."""
    nas = verbs.add_parser("nas", help="the share: init")
    actions = nas.add_subparsers(dest="action", required=True, metavar="ACTION")
    init = actions.add_parser("init", help="make a folder a share of Labloop")
    init.add_argument("folder", type=Path)
    init.add_argument("--gid", type=int, help="the lab's group there, for a stack in Docker")
    init.set_defaults(act=init_share)
    doctor = verbs.add_parser("doctor", help="is this machine fit to run the stack?")
    doctor.add_argument("--local", action="store_true", help="without Docker")
    doctor.add_argument(
        "--env-file",
        type=Path,
        metavar="FILE",
        help="settings (default: as the stack was started, else .env)",
    )
    doctor.set_defaults(act=examine)
    setup = verbs.add_parser("setup", help="make or repair the Python environments")
    setup.add_argument("--force", action="store_true", help="remake them from nothing")
    setup.add_argument("--with", dest="extra", action="append", default=[], metavar="ENV")
    setup.set_defaults(act=set_up)


def init_share(args: argparse.Namespace, home: Home) -> int:
    from stack.bootstrap import init_nas

    nas = init_nas(args.folder.expanduser().absolute())
    console.say(f"{nas.root} is a share of Labloop")
    if args.gid is not None:
        from stack.engine.nas import give_to_lab

        give_to_lab(nas.root, args.gid)
        console.say(f"group {args.gid} may write there; in .env: NAS_PATH={nas.root}")
    else:
        console.say(f"use it with `labloop up --local --nas {nas.root}`")
    return 0


def examine(args: argparse.Namespace, home: Home) -> int:
    from stack.doctor import examine_machine

    if args.local or home.states.is_dir():  # the local runner's databases
        findings = examine_machine(home)
    else:
        from stack.engine.doctor import examine_lab

        findings = examine_lab(home, args.env_file)
    console.table(
        ("", "CHECK", "FOUND", "ADVICE"),
        [(one.grade, one.what, one.found, one.advice) for one in findings],
        GRADE_COLORS,
    )
    return 1 if any(one.grade == "fail" for one in findings) else 0


def set_up(args: argparse.Namespace, home: Home) -> int:
    # With the interpreter that .venv was made of: the setup may remake .venv under our feet.
    python = Path(sys.executable).resolve()
    options = ["--force"] * args.force + [f"--with={name}" for name in args.extra]
    command = [str(python), "-m", "stack.setup_env", *options]
    return subprocess.run(command, cwd=ROOT, check=False).returncode
