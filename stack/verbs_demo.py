"""The verb `demo`: the whole loop on example pictures, from an empty folder to the second model."""

from __future__ import annotations

import argparse
import os
import re
import shutil
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from stack import console
from stack.environments import ROOT
from stack.home import Home
from stack.settings import data_folder

HOME_NAME = re.compile(r"\d{8}T\d{6}Z")  # what a demo called its home; nothing else is removed
KEPT = 3  # beside the new one, to compare with


def register(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add this module's verb to the command line."""
    demo = verbs.add_parser("demo", help="the whole loop on example pictures, step by step")
    demo.add_argument(
        "--data",
        default="example",
        metavar="SET",
        help="cardiac_lv_sunnybrook, chest_xray_pneumonia or hippocampus_mr, from LABLOOP_DATA",
    )
    demo.add_argument("--budget-s", type=float, metavar="S", help="training time of each run")
    demo.add_argument("--exit", action="store_true", help="stop by itself; 0 if the loop turned")
    demo.set_defaults(act=show_demo)


def show_demo(args: argparse.Namespace, home: Home) -> int:
    from stack.demo.run import run_demo

    # A demo never touches the home of a real stack: without --home it makes a new one.
    root = home.root if hasattr(args, "home") else _new_home()
    return run_demo(
        Home(root),
        args.data,
        budget_s=args.budget_s,
        data=data_folder(),
        exit_when_done=args.exit,
    )


def _new_home() -> Path:
    homes = ROOT / ".demo"
    removed = remove_old_homes(homes)
    if removed:
        console.say(f"removed {removed} older demos from {homes}; the newest {KEPT} stay")
    return homes / f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}"


def remove_old_homes(homes: Path) -> int:
    """Remove all but the newest homes of earlier demos; how many were. One that runs stays."""
    from stack.lock import is_supervised
    from stack.processes import marked

    old = sorted(path for path in homes.glob("*") if HOME_NAME.fullmatch(path.name))[:-KEPT]
    idle = [path for path in old if not is_supervised(Home(path)) and not marked(path)]
    for home in idle:
        with suppress(OSError):  # somebody else's: no reason not to show the demo
            for folder, _, _ in os.walk(home):  # snapshots are read-only
                Path(folder).chmod(0o700)
            shutil.rmtree(home)
    return sum(not home.exists() for home in idle)
