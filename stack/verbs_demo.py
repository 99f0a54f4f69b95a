"""The verb `demo`: the whole loop on example pictures, from an empty folder to the second model."""

from __future__ import annotations

import argparse
from datetime import UTC, datetime
from pathlib import Path

from stack.environments import ROOT
from stack.home import Home
from stack.settings import data_folder


def register(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add this module's verb to the command line."""
    demo = verbs.add_parser("demo", help="the whole loop on example pictures, step by step")
    demo.add_argument(
        "--data",
        default="example",
        metavar="SET",
        help="cardiac_lv_sunnybrook or chest_xray_pneumonia, from LABLOOP_DATA",
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
    return ROOT / ".demo" / f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
