"""The verbs about data and models: `task`, `train`, `models`, `promote`, `rollback`.

Each verb imports what it needs when it runs, so that `labloop --help` and `status` stay instant.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from stack import console
from stack.errors import RefusedError, UsageError
from stack.home import Home

if TYPE_CHECKING:
    from imaging.layout import Nas, TaskFolder
    from imaging.task import TaskConfig

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


def task_folder(home: Home, name: str) -> TaskFolder:
    """The folder of a task that exists.

    Raises:
        UsageError: there is no such task; the ones there are get named.
    """
    nas = home.nas
    nas.require_marker()
    folder = nas.task(name)
    if not folder.root.is_dir():
        known = ", ".join(task.name for task in nas.tasks()) or "none yet"
        raise UsageError(f"task is {name!r}, expected one of: {known}")
    return folder


def task_config(folder: TaskFolder) -> TaskConfig:
    from imaging.task import load_task

    return load_task(folder.config)


def task_new(args: argparse.Namespace, home: Home) -> int:
    from imaging.labels import label_scheme
    from imaging.task import TaskConfig, save_task

    nas = home.nas
    nas.require_marker()
    folder = nas.task(args.task)
    if folder.config.exists():
        raise RefusedError(f"{folder.config} exists", hint="Edit it, or choose another name.")
    scheme = label_scheme([name.strip() for name in args.labels.split(",")])
    save_task(folder.config, TaskConfig(kind=args.kind, scheme=scheme, title=args.title))
    folder.rawdata.mkdir(parents=True, exist_ok=True)
    console.say(f"made {folder.config}\ndrop pictures in {folder.rawdata}")
    return 0


def task_list(args: argparse.Namespace, home: Home) -> int:
    nas = home.nas
    nas.require_marker()
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
    from imaging.recipes.facts import SnapshotFacts
    from imaging.recipes.plan import plan_recipe

    folder = task_folder(home, args.task)
    config = task_config(folder)
    labelling_config(config)
    # What pictures look like only matters to sizes; names and numbers are checked all the same.
    typical = SnapshotFacts(100, 512, 512, same_aspect=True, colour=False, bits=8)
    recipe = plan_recipe(config, typical)
    console.say(f"{folder.config} is usable; it will train {recipe.name}")
    return 0


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
    labelled = sum(1 for path in folder.annotations.glob("case-*") if any(path.glob("*.json")))
    rejected = sum(1 for _ in folder.rejected.glob("rej-*"))
    cases = sum(1 for _ in folder.cases.glob("case-*/case.json"))
    runs = sum(1 for _ in list_runs(nas, folder.name))
    return folder.name, kind, str(cases), str(labelled), str(rejected), str(runs), serving


def train_now(args: argparse.Namespace, home: Home) -> int:
    from imaging.dataset.request import freeze_and_request

    folder = task_folder(home, args.task)
    run = freeze_and_request(
        home.nas, folder, task_config(folder), requested_by="person", reason=args.reason
    )
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
    made = promote(home.nas, args.task, args.version, args.reason)
    return _say_served(home, args.task, made.version)


def roll_back_champion(args: argparse.Namespace, home: Home) -> int:
    from imaging.registry import roll_back

    task_folder(home, args.task)
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
