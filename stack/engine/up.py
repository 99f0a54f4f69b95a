"""`labloop up` in Docker: look first, then make what is missing, converge, and wait.

Doing it again changes nothing: a stack that is as it should be is only looked at.
"""

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from imaging.publish import write_text
from stack.bootstrap import Wishes, read_settings
from stack.compose import Stack, read_compose, read_stack
from stack.engine import dealing, nas
from stack.engine.config_files import ensure_config
from stack.engine.engine import ContainerState, Engine
from stack.engine.env_file import machine_address
from stack.engine.lab import (
    COMPOSE_FILE,
    PLANNED,
    VARIABLES,
    Lab,
    derived_variables,
    env_text,
    make_lab,
    settings_file,
)
from stack.engine.settings import LabSettings
from stack.environments import ROOT
from stack.errors import NotReadyError, RefusedError
from stack.home import Home
from stack.settings import read_env_file

NO_FILE = Path(os.devnull)
READY_S = 900.0  # the first start: databases, migrations, Nextcloud's installation on two cores
PATIENCE_S = 75.0  # more than two health checks
LOOK_EVERY_S = 0.5
LAST_LINES = 8
MOST_RESTARTS = 5

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class UpWishes:
    """What the person who calls may choose."""

    env_file: Path | None = None  # default: as the stack was last started, else .env
    is_offline: bool = False
    bundle: Path | None = None  # a folder that `labloop bundle` made


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to run: put together before anything is touched."""

    lab: Lab
    variables: Mapping[str, str]
    stack: Stack  # what the profile starts

    def image(self, service: str) -> str:
        return str(self.stack.containers[service].image)

    @property
    def images(self) -> list[str]:
        return list(dict.fromkeys(self.image(name) for name in self.stack.containers))


# --- planning: nothing is touched ----------------------------------------------------------------


def read_lab_settings(home: Home, wishes: UpWishes) -> LabSettings:
    """`.env` and the environment, which wins; the address of this machine where none is given.

    Raises:
        UsageError, SettingsError: a setting cannot be used, or nobody knows it.
    """
    path = settings_file(home, wishes.env_file)
    # The first time there is none; it is written when all else is known to be well.
    file = path if path.is_file() else NO_FILE
    given = read_settings(Wishes(env_file=file), read_compose(COMPOSE_FILE))
    if not given.get("LAB_HOST"):
        remembered = home.run / VARIABLES
        before = read_env_file(remembered) if remembered.is_file() else {}
        given["LAB_HOST"] = before.get("LAB_HOST") or machine_address()
    return LabSettings.from_env(given)


def plan_up(home: Home, settings: LabSettings, overrides: Sequence[str], image_tag: str) -> Plan:
    """Put together what is to run; a file of variables in the home is all that is written."""
    lab = make_lab(home, settings, overrides, image_tag, PLANNED)
    variables = derived_variables(home, settings, image_tag)
    home.run.mkdir(parents=True, exist_ok=True)
    write_text(lab.compose.env_file, env_text(variables))
    return Plan(lab, variables, described(lab, variables))


def described(lab: Lab, variables: Mapping[str, str]) -> Stack:
    """What the files say of the stack's profile, with these variables filled in."""
    compose = lab.compose
    stack = read_stack(compose.files, variables, project=compose.project, folder=compose.folder)
    return stack.with_profiles({compose.profile})


def config_hashes(lab: Lab) -> dict[str, str]:
    """Service → what Compose makes of its description: another one means another container."""
    lines = lab.compose.run("config", "--hash", "*").splitlines()
    return dict(line.split(maxsplit=1) for line in lines if line.strip())


def wanted_services(lab: Lab) -> list[str]:
    """The services of the stack's profile."""
    return sorted(lab.compose.run("config", "--services").split())


def is_converged(hashes: Mapping[str, str], found: Sequence[ContainerState]) -> bool:
    """Whether all that should run runs, as described, and is well."""
    by_service = {one.service: one for one in found}
    return by_service.keys() == hashes.keys() and all(
        by_service[name].config_hash == wanted and by_service[name].is_well
        for name, wanted in hashes.items()
    )


# --- doing ---------------------------------------------------------------------------------------


def prepare(engine: Engine, plan: Plan, helper_image: str) -> None:
    """Secrets and volumes: what must be there before the first container.

    Raises:
        RefusedError: the stack has another NAS, or the key of its pseudonyms is gone.
    """
    lab, settings = plan.lab, plan.lab.settings
    _check_nas_volume(engine, plan)
    ensure_config(lab.home, ROOT)
    needs = dealing.needs_of(plan.stack, settings.lab_uid)
    if needs:  # a box that only trains knows none
        dealing.make_secrets(lab.home, settings)
        dealing.deal_out(engine, helper_image, lab.home, needs)
    for name in plan.stack.volumes:
        volume = lab.volume(name)
        if engine.volume_options(volume) is None:
            options = nas.volume_options(lab.home, settings) if name == "nas" else {}
            engine.make_volume(volume, settings.stack_name, options)
            if name == "gateway":  # the official image's folder is root's, our gateway is not
                owner = f"{settings.lab_uid}:{settings.lab_gid}"
                engine.run_as_root(helper_image, 'chown "$1" /v', {volume: "/v"}, [owner])


def _check_nas_volume(engine: Engine, plan: Plan) -> None:
    wanted = nas.volume_options(plan.lab.home, plan.lab.settings)
    volume = plan.lab.volume("nas")
    found = engine.volume_options(volume)
    if found is not None and dict(found) != wanted:
        raise RefusedError(
            f"this stack's NAS is {found.get('device')} ({found.get('o')}), "
            f"asked for was {wanted['device']} ({wanted['o']})",
            hint="Databases and NAS belong together: another NAS wants another STACK_NAME and "
            f"--home. If the same share moved: `labloop down`, `docker volume rm {volume}` (which "
            "takes no file with it), `labloop up`.",
        )


def converge(lab: Lab, tell: Tell) -> None:
    """Let Compose make what runs into what should run.

    Raises:
        NotReadyError: a service that others wait for did not become healthy.
        ComposeFailedError: something else went wrong.
    """
    words = ("up", "--detach", "--no-build", "--pull", "never", "--remove-orphans")
    lab.compose.stream(*words, on_line=tell)


def wait_until_well(engine: Engine, lab: Lab, names: Sequence[str], tell: Tell) -> None:
    """Return once every service is healthy.

    Raises:
        NotReadyError: one of them keeps ending, stays unhealthy, or time ran out.
    """
    deadline = time.monotonic() + READY_S
    unhealthy_since: dict[str, float] = {}
    while True:
        now = time.monotonic()
        found = {one.service: one for one in engine.containers(lab.compose.project)}
        left = [name for name in names if name not in found or not found[name].is_well]
        if not left:
            return
        tell(", ".join(f"{name} {_state(found.get(name))}" for name in left))
        unhealthy_since = {
            name: unhealthy_since.get(name, now)
            for name in left
            if name in found and found[name].health == "unhealthy"
        }
        # A service that says for so long what it lacks will not get it by waiting.
        stuck = [name for name, since in unhealthy_since.items() if now - since > PATIENCE_S]
        dead = [name for name in left if name in found and _has_given_up(found[name])]
        if dead or len(stuck) == len(left) or now > deadline:
            raise not_ready(engine, [found[name] for name in dead or left if name in found])
        time.sleep(LOOK_EVERY_S)


def _state(found: ContainerState | None) -> str:
    return "is not there" if found is None else found.health or found.status


def is_troubled(found: ContainerState) -> bool:
    """Not well, and not merely young or waiting for others."""
    return not found.is_well and found.health != "starting" and found.status != "created"


def _has_given_up(found: ContainerState) -> bool:
    return found.restarts >= MOST_RESTARTS or (found.status == "exited" and found.exit_code != 0)


def not_ready(engine: Engine, troubled: Sequence[ContainerState]) -> NotReadyError:
    """Says of each what its health check and its last lines say."""
    words = []
    for one in troubled:
        lines = " | ".join(engine.logs(one.name, LAST_LINES))
        words.append(f"{one.service} {_state(one)} ({one.reason}); its last lines: {lines}")
    return NotReadyError(
        "; ".join(words) or "not every service has a container",
        hint="The rest keeps running; `labloop up` tries again, `labloop down` stops it.",
    )
