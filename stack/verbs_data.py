"""The verbs about data and models: `task`, `train`, `models`, `promote`, `rollback`.

Each verb imports what it needs when it runs, so that `labloop --help` and `status` stay instant.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from stack import console
from stack.errors import NoHomeError, RefusedError, UsageError
from stack.home import Home

if TYPE_CHECKING:
    from pathlib import Path

    from imaging.labels import LabelScheme
    from imaging.layout import Nas, TaskFolder
    from imaging.recipes.recipe import Recipe
    from imaging.task import TaskConfig

LABEL_LENGTH = 100  # more does not fit on a button
Parsers = argparse._SubParsersAction  # argparse has no public name for what add_subparsers gives


def register(verbs: Parsers[argparse.ArgumentParser]) -> None:
    """Add this module's verbs to the command line."""
    task = verbs.add_parser("task", help="annotation tasks: new, list, show, check")
    actions = task.add_subparsers(dest="action", required=True, metavar="ACTION")
    new = actions.add_parser("new", help="make dataset/TaskNNN_what/ with its task.yaml")
    new.add_argument("task", metavar="TaskNNN_what")
    new.add_argument("--kind", choices=("classification", "segmentation"), required=True)
    new.add_argument("--labels", required=True, help="comma-separated, in order of priority")
    new.add_argument("--title", default="")
    new.add_argument(
        "--modality", default="picture", help="picture, or of volumes DICOM's word: CT, MR, PT"
    )
    new.set_defaults(act=task_new)
    actions.add_parser("list", help="all tasks and where they stand").set_defaults(act=task_list)
    for name, act, text in (
        ("show", task_show, "one task: its settings and where it stands"),
        ("check", task_check, "whether task.yaml is usable; every problem is listed"),
    ):
        parser = actions.add_parser(name, help=text)
        parser.add_argument("task")
        parser.set_defaults(act=act)

    train = verbs.add_parser("train", help="freeze a snapshot and request a run now")
    train.add_argument("task")
    train.add_argument("--now", action="store_true", required=True, help="do not wait for policy")
    train.add_argument("--reason", default="asked for by a person")
    train.set_defaults(act=train_now)

    models = verbs.add_parser("models", help="the versions of a task's model")
    models.add_argument("task")
    models.set_defaults(act=list_models)
    promote = verbs.add_parser("promote", help="serve this version, whatever its verdict was")
    promote.add_argument("task")
    promote.add_argument("version")
    promote.add_argument("--reason", default="promoted by a person")
    promote.set_defaults(act=promote_version)
    rollback = verbs.add_parser("rollback", help="serve the previous champion again")
    rollback.add_argument("task")
    rollback.add_argument("--to", metavar="VERSION", help="this version instead of the previous")
    rollback.set_defaults(act=roll_back_champion)


def share(home: Home) -> Nas:
    """The share of a home that is there.

    Raises:
        NoHomeError: there is no home.
        NasGoneError: its share is not mounted.
    """
    if not home.nas_folder.exists() and not home.nas_folder.is_symlink():
        raise NoHomeError(home.root)
    home.nas.require_marker()
    return home.nas


def task_folder(home: Home, name: str) -> TaskFolder:
    """The folder of a task that exists.

    Raises:
        UsageError: there is no such task; the ones there are get named.
    """
    nas = share(home)
    folder = nas.task(name)
    if not folder.root.is_dir():
        known = ", ".join(task.name for task in nas.tasks()) or "none yet"
        raise UsageError(f"task is {name!r}, expected one of: {known}")
    return folder


def version_folder(home: Home, task: str, version: str) -> Path:
    """The bundle folder of a version.

    Raises:
        UsageError: there is no such version.
    """
    folder = home.nas.model(task).version(version)
    if not folder.is_dir():
        raise UsageError(
            f"version is {version!r}, which is not there",
            hint=f"`labloop models {task}` lists the versions.",
        )
    return folder


def task_config(folder: TaskFolder) -> TaskConfig:
    """What the task's task.yaml says.

    Raises:
        RefusedError: there is none yet.
        TaskConfigError: it has problems; all are listed.
    """
    from imaging.task import load_task

    if not folder.config.exists():
        raise RefusedError(
            f"{folder.name} has no task.yaml yet",
            hint="Ingest writes one when it sees the pictures; `labloop task new` writes one now.",
        )
    return load_task(folder.config)


def task_new(args: argparse.Namespace, home: Home) -> int:
    from imaging.task import PICTURE, TaskConfig, is_modality, save_task

    nas = share(home)
    folder = nas.task(args.task)
    if folder.config.exists():
        raise RefusedError(f"{folder.config} exists", hint="Edit it, or choose another name.")
    _check_number(nas, args.task)
    if not is_modality(args.modality):
        found = f"--modality is {args.modality!r}, expected {PICTURE}"
        raise UsageError(f"{found}, or for volumes CT, MR, PT …", hint="")
    config = TaskConfig(
        kind=args.kind, scheme=_scheme(args.labels), title=args.title, modality=args.modality
    )
    save_task(folder.config, config)
    folder.rawdata.mkdir(parents=True, exist_ok=True)
    what = "volumes" if config.is_volume else "pictures"
    console.say(f"made {folder.config}\ndrop {what} in {folder.rawdata}")
    return 0


def _check_number(nas: Nas, name: str) -> None:
    """People call a task by its number, so a number is given once."""
    number, _, what = name.partition("_")
    others = {task.name.partition("_")[0]: task.name for task in nas.tasks() if task.name != name}
    if number in others:
        free = next(n for n in range(int(number[4:]) + 1, 2000) if f"Task{n:03}" not in others)
        hint = f"Task{free:03}_{what} is free." if free < 1000 else "Choose another number."
        raise RefusedError(f"the number of {name} is taken by {others[number]}", hint=hint)


def _scheme(labels: str) -> LabelScheme:
    from imaging.errors import RecordError
    from imaging.labels import label_scheme

    names = [name.strip() for name in labels.split(",")]
    hint = "--labels takes names with commas between, each once: --labels kidney,tumour"
    too_long = [name for name in names if len(name) > LABEL_LENGTH]
    if too_long:
        found = f"a label has {len(too_long[0])} characters, expected at most {LABEL_LENGTH}"
        raise UsageError(found, hint=hint)
    try:
        return label_scheme(names)
    except RecordError as error:
        raise UsageError(str(error), hint=hint) from error


def task_list(args: argparse.Namespace, home: Home) -> int:
    nas = share(home)
    rows = [_summary(nas, folder) for folder in nas.tasks()]
    console.table(("task", "kind", "cases", "labelled", "rejected", "runs", "champion"), rows)
    return 0


def task_show(args: argparse.Namespace, home: Home) -> int:
    folder = task_folder(home, args.task)
    console.say(folder.config.read_text(encoding="utf-8") if folder.config.exists() else "")
    row = _summary(home.nas, folder)
    console.table(("task", "kind", "cases", "labelled", "rejected", "runs", "champion"), [row])
    return 0


def task_check(args: argparse.Namespace, home: Home) -> int:
    from imaging.labelstudio.config import labelling_config

    folder = task_folder(home, args.task)
    config = task_config(folder)
    labelling_config(config)
    console.say(f"{folder.config} is usable; it will train {_typical_recipe(config).name}")
    return 0


def _typical_recipe(config: TaskConfig) -> Recipe:
    """What would be trained on typical images.

    What they look like only matters to sizes; names and numbers are checked all the same.
    """
    from imaging.recipes.facts import SnapshotFacts
    from imaging.recipes.plan import plan_recipe, plan_volume_recipe
    from imaging.recipes.volume_facts import ChannelFacts, VolumeSetFacts

    if not config.is_volume:
        pictures = SnapshotFacts(100, 512, 512, same_aspect=True, colour=False, bits=8)
        return plan_recipe(config, pictures)
    channels = (ChannelFacts(-100.0, 300.0, 50.0, 80.0),) * max(len(config.volume.channels), 1)
    spacing_mm, extent_mm = (0.8, 0.8, 2.0), (400.0, 400.0, 300.0)
    volumes = VolumeSetFacts(100, spacing_mm, spacing_mm, (extent_mm,), channels, is_cut_out=False)
    return plan_volume_recipe(config, volumes)


def _summary(nas: Nas, folder: TaskFolder) -> tuple[str, ...]:
    from imaging.errors import ImagingError
    from imaging.registry import champion
    from imaging.runs import list_runs

    try:
        kind: str = task_config(folder).kind if folder.config.exists() else "(no task.yaml yet)"
    except ImagingError:
        kind = "(task.yaml has problems)"
    try:
        current = champion(nas, folder.name)
        serving = current.version if current else "none"
    except ImagingError as error:
        serving = f"unreadable: {error}"
    rejected = sum(1 for _ in folder.rejected.glob("rej-*"))
    runs = sum(1 for _ in list_runs(nas, folder.name))
    counts = (_cases(folder), _labelled(folder), rejected, runs)
    return folder.name, kind, *map(str, counts), serving


def _cases(folder: TaskFolder) -> int:
    return sum(1 for _ in folder.cases.glob("case-*/case.json"))


def _labelled(folder: TaskFolder) -> int:
    return sum(1 for path in folder.annotations.glob("case-*") if any(path.glob("*.json")))


def train_now(args: argparse.Namespace, home: Home) -> int:
    from imaging.dataset.request import freeze_and_request

    folder = task_folder(home, args.task)
    config = task_config(folder)
    if not _labelled(folder):
        raise RefusedError(
            f"0 of {_cases(folder)} cases of {folder.name} are labelled",
            hint="Answer some in Label Studio first; `labloop status` counts them.",
        )
    run = freeze_and_request(home.nas, folder, config, requested_by="person", reason=args.reason)
    console.say(f"requested {run.run_id}; `labloop status` follows it, TensorBoard shows it")
    return 0


def list_models(args: argparse.Namespace, home: Home) -> int:
    from imaging.registry import champion, versions

    task_folder(home, args.task)
    current = champion(home.nas, args.task)
    rows = []
    for one in versions(home.nas, args.task):
        mark = "*" if current and one.version == current.version else ""
        figures = [
            f"{name} {value:.3f}" for name, value in one.metrics.items() if value is not None
        ]
        rows.append((mark, one.version, one.run, one.trouble or ", ".join(figures)))
    console.table(("", "version", "run", "on held-out cases"), rows)
    if current:
        console.say(f"* serves since {current.changed_at}: {current.reason}")
    return 0


def promote_version(args: argparse.Namespace, home: Home) -> int:
    from imaging.registry import promote

    task_folder(home, args.task)
    version_folder(home, args.task, args.version)
    made = promote(home.nas, args.task, args.version, args.reason)
    return _say_served(home, args.task, made.version)


def roll_back_champion(args: argparse.Namespace, home: Home) -> int:
    from imaging.registry import roll_back

    task_folder(home, args.task)
    if args.to is not None:
        version_folder(home, args.task, args.to)
    made = roll_back(home.nas, args.task, args.to)
    return _say_served(home, args.task, made.version)


def _say_served(home: Home, task: str, version: str) -> int:
    """Wait until the running back end serves the version, and say how long that took."""
    from stack.serving import wait_until_served

    console.say(f"{task}: champion is {version}")
    waited_s = wait_until_served(home, task, version, timeout_s=30.0)
    if waited_s is None:
        console.say("ml-backend is not running; it will serve this version when it starts")
    else:
        console.say(f"ml-backend serves it since {waited_s:.1f} s after the change")
    return 0
