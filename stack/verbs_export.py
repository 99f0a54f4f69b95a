"""The verb `export`: a frozen snapshot as other tools want it."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from stack import console
from stack.errors import UsageError
from stack.home import Home
from stack.verbs_data import Parsers, task_folder

if TYPE_CHECKING:
    from imaging.dataset.manifest import Snapshot
    from imaging.export.folder import Fill
    from imaging.layout import TaskFolder

FORMATS = (
    "nnunet",
    "monai",
    "coco",
    "dicom-seg",
    "png",
)  # without a look at imaging, which imports numpy
AXES = ("axial", "coronal", "sagittal")
OTHERS = "`--format monai` holds classes; dataset/<task>/data/ shows them in plain folders."


def register(verbs: Parsers[argparse.ArgumentParser]) -> None:
    """Add this module's verb to the command line."""
    export = verbs.add_parser("export", help="a snapshot as nnU-Net, MONAI, COCO, DICOM-SEG or PNG")
    export.add_argument("task")
    export.add_argument("--format", choices=FORMATS, required=True)
    export.add_argument("-o", "--output", metavar="DIR", type=Path, help="the folder that appears")
    export.add_argument("--snapshot", metavar="ID", help="another snapshot than the newest")
    export.add_argument(
        "--axis", choices=AXES, help="png of volumes: slices along another axis, drawn anew"
    )
    export.add_argument(
        "--channel", metavar="NAME", help="png of volumes: another channel than the first"
    )
    export.set_defaults(act=export_task)


def export_task(args: argparse.Namespace, home: Home) -> int:
    """Write a snapshot's cases in one format; the folder appears whole."""
    from imaging.export.folder import check_target, export_snapshot
    from imaging.export.formats import misfit

    task = task_folder(home, args.task)
    snapshot = chosen_snapshot(task, args.snapshot)
    if reason := misfit(args.format, snapshot):
        raise UsageError(reason, hint=OTHERS)
    target = _target(args.format, snapshot.task, args.output)
    check_target(target)
    progress = console.Progress(f"exporting {snapshot.id} as {args.format}")
    left_out = export_snapshot(
        target,
        snapshot,
        args.format,
        _drawn(args, task, snapshot) or _fill(args.format, task, home),
        lambda done, of: progress.tell(f"{done} of {of} cases"),
    )
    progress.finish(f"{len(snapshot.cases) - len(left_out)} cases are in {target}")
    for case, reason in left_out.items():
        console.warn(f"{case} is left out: {reason}")
    return 0


def chosen_snapshot(task: TaskFolder, name: str | None) -> Snapshot:
    """A snapshot by name, or the newest.

    Raises:
        UsageError: there is none of that name, or none yet.
    """
    from imaging.dataset.snapshot import newest_snapshot, read_snapshot

    if name is not None:
        if not task.snapshot(name).is_dir():
            known = ", ".join(sorted(path.name for path in task.snapshots.glob("snap-*")))
            raise UsageError(
                f"snapshot is {name!r}, expected one of: {known or 'none yet'}",
                hint="`labloop train TASK --now` freezes one.",
            )
        return read_snapshot(task.snapshot(name))
    newest = newest_snapshot(task)
    if newest is None:
        raise UsageError(
            f"{task.name} has no snapshot yet", hint="`labloop train TASK --now` freezes one."
        )
    return newest


def _target(what: str, task: str, output: Path | None) -> Path:
    """The folder that appears. nnU-Net finds a dataset by its folder's name, so that one stays."""
    from imaging.export.formats import folder_name

    name = folder_name(what, task)
    if output is None:
        return Path.cwd() / name
    return output / name if what == "nnunet" and output.name != name else output


def _drawn(args: argparse.Namespace, task: TaskFolder, snapshot: Snapshot) -> Fill | None:
    """What draws slices that annotators do not have; None where nobody wants them.

    Raises:
        UsageError: they are no slices of this task, or the task knows no such channel.
    """
    if args.axis is None and args.channel is None:
        return None
    from imaging.export.png import fill_drawn
    from imaging.task import load_task

    if args.format != "png" or not all(case.is_volume for case in snapshot.cases):
        raise UsageError("--axis and --channel are for --format png of volumes")
    shown = load_task(task.config).volume
    if args.channel is not None and args.channel not in shown.channels:
        known = ", ".join(shown.channels) or "none: its volumes have one channel"
        raise UsageError(f"the channel is {args.channel!r}, expected one of {known}")
    channel = shown.channels.index(args.channel) if args.channel else 0
    return fill_drawn(replace(shown, axis=args.axis or shown.axis), channel)


def _fill(what: str, task: TaskFolder, home: Home) -> Fill:
    if what == "dicom-seg":
        # Only here: DICOM's readers take a second to import.
        from imaging.export.dicom_seg import fill_dicom_seg
        from stack.credentials import PSEUDONYM_KEY, require_pseudonym_key

        require_pseudonym_key(home)
        secret = home.secret(PSEUDONYM_KEY).read_text(encoding="utf-8").strip()
        return fill_dicom_seg(task.rawdata, secret)
    from imaging.export.coco import fill_coco
    from imaging.export.monai import fill_monai
    from imaging.export.nnunet import fill_nnunet
    from imaging.export.png import fill_png

    return {"nnunet": fill_nnunet, "monai": fill_monai, "coco": fill_coco, "png": fill_png}[what]
