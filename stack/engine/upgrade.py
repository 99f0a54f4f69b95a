"""`labloop upgrade`, told whole: new images, a pause, a backup, the new version; or back again.

The images are made while the old version works. Then everything but the database stops, so that
no label is given after the backup that a roll-back would forget.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from stack import console
from stack.engine import up
from stack.engine.backup import back_up
from stack.engine.compose_call import ComposeFailedError
from stack.engine.docker_call import Docker
from stack.engine.engine import Engine
from stack.engine.known_good import go_back, keep_good
from stack.engine.lab import Lab, open_lab, settings_file
from stack.engine.old_images import prune
from stack.engine.restore import RestoreWishes, complete_nextcloud, restore
from stack.engine.start import ask, converge, look, settle, start_plan
from stack.errors import NotReadyError, StackError
from stack.home import Home

DATABASE = "db"
Tell = Callable[[str], None]


class UpgradeFailedError(StackError):
    """The new version did not become healthy; the old one runs again."""

    hint = (
        "`labloop logs` and the message above say why. The backup that was made before it is "
        "kept; go back to the old version's checkout before the next `labloop up`."
    )


@dataclass(frozen=True, slots=True)
class Upgraded:
    """What an upgrade came to."""

    lab: Lab
    before: str  # the tag of our images
    backup: str  # its snapshot; empty when there was nothing to do
    has_changed: bool


def upgrade(home: Home, env_file: Path | None = None) -> Upgraded:
    """Bring a stack to the checkout's version.

    Raises:
        RefusedError: a check failed; the old version runs on.
        UpgradeFailedError: the new version did not get well; the old one runs again.
    """
    old = open_lab(home)
    with Engine.connected() as engine:
        wishes = up.UpWishes(env_file)
        asked = ask(engine, home, wishes)
        found = engine.containers(old.compose.project)
        if up.is_converged(up.config_hashes(asked.plan.lab), found):
            return Upgraded(old, old.image_tag, "", has_changed=False)
        look(engine, asked.plan, found)
        plan = settle(engine, asked, wishes)
        snapshot = _pause_and_back_up(engine, old, env_file)
        try:
            lab = start_plan(engine, plan)
        except (NotReadyError, ComposeFailedError) as error:
            _roll_back(engine, home, snapshot, env_file)
            raise UpgradeFailedError(
                f"{plan.lab.image_tag} did not become healthy, {old.image_tag} runs again: {error}"
            ) from error
        keep_good(lab)
    prune(Docker.here(), lab.settings.values.get("IMAGE_PREFIX", "labloop"), lab.image_tag)
    return Upgraded(lab, old.image_tag, snapshot, has_changed=True)


def _pause_and_back_up(engine: Engine, old: Lab, env_file: Path | None) -> str:
    """Stop everything but the database, and save it all; the backup's snapshot.

    Raises:
        StackError: the backup failed; the old version runs again.
    """
    running = [one for one in engine.containers(old.compose.project) if one.status == "running"]
    names = [one.name for one in running if one.service != DATABASE]
    file = settings_file(old.home, env_file)
    text = file.read_text(encoding="utf-8") if file.is_file() else ""
    console.say("the stack pauses for a backup and the new version; annotators wait")
    engine.stop(names)
    progress = console.Progress("backup")
    try:
        outcome = back_up(old, text, progress.tell)
    except BaseException:
        progress.finish("failed; the old version goes on")
        engine.start(names)
        raise
    progress.finish(f"snapshot {outcome.snapshot.short_id}")
    return outcome.snapshot.id


def _roll_back(engine: Engine, home: Home, snapshot: str, env_file: Path | None) -> None:
    """Databases and volumes as they were saved, and the version that worked."""
    failed = open_lab(home)
    progress = console.Progress("the new version is not well: going back")
    failed.compose.stream("down", "--remove-orphans", on_line=progress.tell)
    wishes = RestoreWishes(snapshot=snapshot, env_file=env_file, with_replace=True)
    restore(home, wishes, lambda _: failed.settings.stack_name, progress.tell)
    good = go_back(home)
    complete_nextcloud(good)
    converge(engine, good, up.wanted_services(good), progress.tell)
    progress.finish(f"{good.image_tag} runs again")
