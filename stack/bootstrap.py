"""Everything before the first process starts: the NAS, the secrets, the ports, the settings.

Doing it again changes nothing. What comes out are launches: services with every variable of
compose.yaml filled in, which the local runner can start.
"""

import difflib
import os
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path

from imaging.ids import utc_now
from imaging.layout import MARKER, Nas
from imaging.publish import write_text
from stack import console
from stack.compose import Service, all_variables, fill_in, read_compose
from stack.credentials import ensure_secrets
from stack.engine.names import DERIVED, SETTINGS
from stack.environments import ROOT, programs_of
from stack.errors import RefusedError, UsageError
from stack.home import Home
from stack.lock import only_supervisor
from stack.ports import HOST, assign_ports, remembered_ports
from stack.processes import end_marked
from stack.runners.child import Launch
from stack.settings import inherited_environment, read_env_file

COMPOSE_FILE = ROOT / "compose.yaml"
OVERRIDES = Path("stack/overrides")  # beside compose.yaml: what Docker's side lays over it
# Filled in by the local runner, whatever the shell or .env say.
RUNNER_VARIABLES = ("NAS_ROOT", "STATE_DIR", "SECRETS_DIR", "HOST")


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the person who starts a stack may choose."""

    compose_file: Path = COMPOSE_FILE
    env_file: Path | None = None  # default: .env beside compose.yaml, if there is one
    nas: Path | None = None  # an existing share in place of <home>/nas
    ports: Mapping[str, int] = field(default_factory=dict)  # service → port


def prepare(home: Home, wishes: Wishes) -> list[Launch]:
    """Make the home ready and say what to start.

    Raises:
        UsageError: compose.yaml, the settings or the ports are wrong.
        NotInstalledError: an environment is missing.
        RefusedError: the NAS is not the one it was, or a secret that must not change is gone.
        AlreadyRunningError: the stack runs, so nothing may be changed.
    """
    services = read_compose(wishes.compose_file)
    settings = read_settings(wishes, services)
    programs = {service.name: programs_of(service.local.env) for service in services}
    try:
        for folder in (home.root, home.logs, home.run, home.states):
            folder.mkdir(parents=True, exist_ok=True)
        home.states.chmod(0o700)
    except OSError as error:
        raise UsageError(
            f"{home.root} cannot be a home: {os.strerror(error.errno or 0)}",
            hint="Name a folder that you may write to with --home.",
        ) from error
    connect_nas(home, wishes.nas)
    ensure_secrets(home)
    with only_supervisor(home):
        end_leftovers(home, services)  # they may sit on the very ports that are remembered
        ports = choose_ports(home, services, wishes.ports)
    settings |= {
        "HOST": HOST,
        "NAS_ROOT": str(home.nas.root),
        "SECRETS_DIR": str(home.secrets),
    }
    settings |= {
        service.local.port: str(ports[service.name]) for service in services if service.local.port
    }

    def launch(service: Service) -> Launch:
        variables = settings | {"STATE_DIR": str(home.state(service.name))}
        filled = fill_in(service, variables, wishes.compose_file)
        folder = wishes.compose_file.resolve().parent
        return Launch(filled, programs[service.name], folder, ports.get(service.name))

    return [launch(service) for service in services]


def end_leftovers(home: Home, services: Sequence[Service]) -> None:
    """End what a supervisor that was killed has left behind; whoever calls holds the lock."""
    # They got SIGTERM when their supervisor died; they may take as long as any service may.
    grace_s = max((service.local.stop_s for service in services), default=0.0)
    orphans = end_marked(home.root, grace_s=grace_s)
    if orphans:
        console.warn(f"ended {orphans} processes that an earlier supervisor had left")


def choose_ports(
    home: Home, services: Sequence[Service], asked: Mapping[str, int]
) -> dict[str, int]:
    """A port for each service that listens; a person hears of it when one had to change."""
    before = remembered_ports(home)
    names = [service.name for service in services if service.local.port]
    ports = assign_ports(home, names, asked)
    for name, port in ports.items():
        if name not in asked and before.get(name, port) != port:
            console.warn(f"{name} listens on {port} from now on: port {before[name]} is taken")
    return ports


def read_settings(wishes: Wishes, services: Sequence[Service]) -> dict[str, str]:
    """The settings of the environment and of `.env`; as in Compose, the environment wins.

    One `.env` serves both runners: what only Docker reads is known here, too.

    Raises:
        UsageError: `.env` sets something nobody reads, or something that is not a person's choice.
    """
    known = known_settings(wishes.compose_file)
    path = wishes.env_file or wishes.compose_file.parent / ".env"
    given = read_env_file(path) if wishes.env_file or path.is_file() else {}
    decided = {*RUNNER_VARIABLES, *(service.local.port for service in services)}
    refuse_unknown(path, given, known, {name for name in decided if name})
    environment = inherited_environment()
    return given | {key: environment[key] for key in known if environment.get(key)}


def known_settings(compose_file: Path = COMPOSE_FILE) -> frozenset[str]:
    """All that a person may set, for either runner: what is in compose.yaml, in the files laid
    over it, and what `labloop up` reads itself; without what the runners fill in."""
    overrides = sorted((compose_file.parent / OVERRIDES).glob("*.yaml"))
    ports = {service.local.port for service in read_compose(compose_file)}
    names = all_variables([compose_file, *overrides]) | SETTINGS
    return names - {*RUNNER_VARIABLES, *ports} - DERIVED


def refuse_unknown(
    path: Path, given: Mapping[str, str], known: Set[str], decided: Set[str] = frozenset()
) -> None:
    """Make sure that somebody reads every setting of a file.

    Raises:
        UsageError: one is unknown, or a runner fills it in; all are listed.
    """
    problems = [
        f"{key} is decided by the local runner (see --nas and --port)"
        for key in given
        if key in decided
    ]
    problems += [f"{key} is filled in by `labloop up`" for key in given if key in DERIVED - decided]
    for key in sorted(given.keys() - known - decided - DERIVED):
        close = difflib.get_close_matches(key, known, n=1)
        problems.append(f"{key} is not a known setting" + (f"; {close[0]} is" if close else ""))
    if problems:
        raise UsageError(f"{path}: " + "; ".join(problems), hint="See .env.example.")


def connect_nas(home: Home, share: Path | None) -> None:
    """Make sure that `<home>/nas` is the share: our own folder, or a link to an existing one.

    Raises:
        RefusedError: the share has no marker, or the home uses another one already.
    """
    folder = home.nas_folder
    if share is None:
        if not folder.exists() and not folder.is_symlink():
            init_nas(folder)
        home.nas.require_marker()
        return
    share = share.expanduser().resolve()
    if not (share / MARKER).is_file():
        raise RefusedError(
            f"{share} has no marker file {MARKER}: it is not mounted, or is not a share of Labloop",
            hint=f"Mount it, or make it one with `labloop nas init {share}`.",
        )
    if not folder.is_symlink() and not folder.exists():
        folder.symlink_to(share)
    if folder.resolve() != share:
        raise RefusedError(
            f"this home uses {folder.resolve()}, asked for was {share}",
            hint="Leave --nas out, or use another --home: databases and NAS belong together.",
        )


def init_nas(folder: Path) -> Nas:
    """Make a folder a share of Labloop: the folders of the contract, then the marker.

    Raises:
        UsageError: it cannot be written.
    """
    nas = Nas(folder)
    try:
        for path in (nas.dataset, nas.runs, nas.models, nas.backups):
            path.mkdir(parents=True, exist_ok=True)
        if not nas.marker.is_file():
            text = "While this file is here, the share is mounted. Labloop pauses without it.\n"
            write_text(nas.marker, f"{text}Made {utc_now()}\n")
    except OSError as error:
        raise UsageError(f"cannot write to {folder}: {os.strerror(error.errno or 0)}") from error
    return nas
