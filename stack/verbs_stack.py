"""The verbs about the stack: `up`, `down`, `status`, `logs`.

Each verb imports what it needs when it runs, so that `labloop --help` and `status` stay instant.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from stack import console
from stack.environments import ROOT
from stack.home import SUPERVISOR, Home

if TYPE_CHECKING:
    from stack.bootstrap import Wishes
    from stack.state import ServiceStatus
    from stack.status import TaskStatus

COMPOSE_FILE = ROOT / "compose.yaml"
READY_S = 600.0  # Label Studio's first start takes 130 s on two busy cores
STATE_COLORS = {"healthy": "green", "unhealthy": "red", "failing": "red", "stopped": "grey"}
COUNT_WORDS = {  # the watchdog's words → those of the table; nobody waits for an unanswered case
    "labelled": "labelled",
    "waiting": "unanswered",
    "new": "new",
    "left_out": "left out",
    "set_aside": "set aside",
}


def register(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add this module's verbs to the command line."""
    _add_up(verbs)
    verbs.add_parser("down", help="stop the stack and everything it started").set_defaults(act=down)
    status = verbs.add_parser("status", help="services and tasks; exit code 0 when all is healthy")
    status.add_argument("--json", action="store_true", help="for scripts")
    status.set_defaults(act=show_status)
    logs = verbs.add_parser("logs", help="what the services wrote")
    logs.add_argument("service", nargs="?", help="default: all of them")
    logs.add_argument("-f", "--follow", action="store_true", help="go on with new lines")
    logs.add_argument("-n", "--lines", type=int, default=50, help="how many (default: 50)")
    logs.set_defaults(act=show_logs)


def _add_up(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    up = verbs.add_parser("up", help="start the stack and keep it running")
    up.add_argument("--local", action="store_true", help="as child processes, without Docker")
    up.add_argument(
        "-d", "--detach", action="store_true", help="go on in the background (as Docker does)"
    )
    up.add_argument(
        "--port",
        type=_port,
        action="append",
        default=[],
        metavar="SERVICE=N",
        help="listen there (default: a free port, chosen once and remembered)",
    )
    up.add_argument(
        "--nas", type=Path, metavar="DIR", help="an existing share (default: a folder in the home)"
    )
    up.add_argument(
        "--env-file", type=Path, metavar="FILE", help="settings (default: .env, if there is one)"
    )
    up.add_argument(
        "--offline", action="store_true", help="Docker: fetch and build nothing from any network"
    )
    up.add_argument(
        "--bundle", type=Path, metavar="DIR", help="Docker: images from `labloop bundle`"
    )
    up.add_argument("--background", action="store_true", help=argparse.SUPPRESS)  # by --detach
    up.add_argument("--compose", type=Path, default=COMPOSE_FILE, help=argparse.SUPPRESS)
    up.set_defaults(act=bring_up)


def _port(text: str) -> tuple[str, int]:
    service, _, number = text.partition("=")
    if not number.isdecimal() or not 1 <= int(number) <= 65535:
        raise argparse.ArgumentTypeError(f"found {text!r}, expected SERVICE=N with N up to 65535")
    return service, int(number)


# --- up and down ------------------------------------------------------------------------------


def bring_up(args: argparse.Namespace, home: Home) -> int:
    from stack.bootstrap import Wishes
    from stack.errors import RefusedError

    if not args.local:
        return _up_in_docker(args, home)
    if _is_in_docker(home):
        raise RefusedError(
            f"the stack of {home.root} is in Docker, with databases of its own",
            hint="`labloop up` starts it; the local runner wants another --home.",
        )
    wishes = Wishes(args.compose, args.env_file, args.nas, _ports(args.port))
    if args.detach:
        return _up_detached(home, wishes)
    return _up_here(home, wishes, is_watched=not args.background)


def _up_in_docker(args: argparse.Namespace, home: Home) -> int:
    from stack import verbs_engine
    from stack.errors import UsageError

    if args.nas is not None or args.port:
        raise UsageError(
            "--nas and --port are for the local runner",
            hint="In Docker, NAS_PATH and GATEWAY_…_PORT in .env say it.",
        )
    return verbs_engine.bring_up(args, home)


def _is_in_docker(home: Home) -> bool:
    from stack.engine.lab import is_in_docker

    return is_in_docker(home)


def _ports(given: Sequence[tuple[str, int]]) -> dict[str, int]:
    from stack.errors import UsageError

    ports: dict[str, int] = {}
    for service, port in given:
        if service in ports:
            both = f"{ports[service]} and {port}"
            raise UsageError(f"{service} is given the ports {both}, expected one")
        ports[service] = port
    return ports


def _up_here(home: Home, wishes: Wishes, *, is_watched: bool) -> int:
    """Be the supervisor; `is_watched` by a person, who wants to know how to go on."""
    from stack.bootstrap import prepare
    from stack.errors import AlreadyRunningError
    from stack.lock import is_supervised
    from stack.runners.local import Supervisor
    from stack.runtime.log import start_logging
    from stack.settings import inherited_environment

    if is_supervised(home):
        raise AlreadyRunningError(f"the stack of {home.root} is running")
    launches = prepare(home, wishes)
    start_logging()
    has_greeted = not is_watched

    def greet(services: Sequence[ServiceStatus]) -> None:
        nonlocal has_greeted
        if not has_greeted and all(service.state == "healthy" for service in services):
            has_greeted = True
            _welcome(home, services)
            console.say("Ctrl-C stops everything.")

    Supervisor(home, launches, inherited_environment(), greet).run()
    return 0


def _up_detached(home: Home, wishes: Wishes) -> int:
    from stack.bootstrap import Wishes
    from stack.control import start_detached, wait_until_healthy
    from stack.errors import AlreadyRunningError, NotReadyError
    from stack.lock import is_supervised

    progress: console.Progress | None = None
    services: Sequence[ServiceStatus] = ()

    def look(seen: Sequence[ServiceStatus]) -> None:
        nonlocal progress, services
        services = seen
        left = [f"{one.name} {one.state}" for one in seen if one.state != "healthy"]
        if left and progress is None:
            usual = "15 s, the very first time 1-3 minutes"
            progress = console.Progress("the stack starts", usual)
        if progress is not None:
            progress.tell(", ".join(left))

    def finish(words: str) -> None:
        if progress is not None:
            progress.finish(words)

    try:
        if not is_supervised(home):
            start_detached(home, wishes)
        elif wishes != Wishes(wishes.compose_file):
            raise AlreadyRunningError(
                f"the stack of {home.root} is running; options count from the next start",
                hint="`labloop down`, then `labloop up` with them.",
            )
        status = wait_until_healthy(home, READY_S, look)
    except NotReadyError:
        finish("not everything is healthy")
        _say_last_words(services)
        raise
    except KeyboardInterrupt:
        finish("interrupted")
        console.say(
            "What has started goes on in the background: "
            "`labloop status` follows it, `labloop down` stops it."
        )
        raise
    finish("all services are healthy")
    _welcome(home, status.services)
    return 0


def _welcome(home: Home, services: Sequence[ServiceStatus]) -> None:
    from stack.credentials import ADMIN_PASSWORD

    console.say()
    for service in services:
        if service.url:
            console.say(f"  {service.name:<14} {service.url}")
        if service.login:
            secret = home.secret(ADMIN_PASSWORD)
            console.say(f"  {'':<14} log in as {service.login}, password in {secret}")
    console.say(f"  {'drop images in':<14} {home.nas.dataset}/TaskNNN_what/rawdata/")
    console.say()


def down(args: argparse.Namespace, home: Home) -> int:
    from stack import verbs_engine
    from stack.control import stop

    if _is_in_docker(home):
        return verbs_engine.down(args, home)

    begun = time.monotonic()

    def look(services: Sequence[ServiceStatus]) -> None:
        left = [one.name for one in services if one.state != "stopped"]
        console.say(f"  {', '.join(left)} to stop" if left else "  all services stopped")

    was_running = stop(home, look)
    took_s = time.monotonic() - begun
    console.say(f"the stack is down ({took_s:.0f} s)" if was_running else "nothing was running")
    return 0


# --- looking ----------------------------------------------------------------------------------


def show_status(args: argparse.Namespace, home: Home) -> int:
    from stack import verbs_engine
    from stack.credentials import ADMIN_PASSWORD
    from stack.errors import NoHomeError
    from stack.status import overview

    in_docker = _is_in_docker(home)
    found = verbs_engine.find_overview(home) if in_docker else overview(home, COMPOSE_FILE)
    if args.json:
        import json
        from dataclasses import asdict

        console.say(json.dumps({"healthy": found.is_healthy} | asdict(found), indent=2))
        return 0 if found.is_healthy else 1
    console.say(f"{'running' if found.running else 'not running'}: {found.home}")
    if not home.root.is_dir():
        no_home = NoHomeError(home.root)
        console.say(f"{no_home}; {no_home.hint}")
    for service in found.services:
        if service.login:
            console.say(f"log in as {service.login}, password in {home.secret(ADMIN_PASSWORD)}")
    if found.note:
        console.warn(found.note)
    console.say()
    rows: list[tuple[str, ...]] = [
        (one.name, one.state, str(one.pid or "-"), one.url or "-", _reason(one))
        for one in found.services
    ]
    headers: tuple[str, ...] = ("SERVICE", "STATE", "PID", "URL", "REASON")
    if in_docker:  # whose processes are the engine's business
        headers, rows = _without(headers, 2), [_without(row, 2) for row in rows]
    console.table(headers, rows, STATE_COLORS)
    _say_last_words(found.services)
    if found.tasks:
        console.say()
        console.table(
            ("TASK", "CHAMPION", "RUN", "LAST VERDICT", "LABELS"),
            [_task_row(one) for one in found.tasks],
        )
    if found.machine:
        console.say()
        for name, words in found.machine.items():
            console.say(f"{name}: {words}")
    return 0 if found.is_healthy else 1


def _without(cells: tuple[str, ...], column: int) -> tuple[str, ...]:
    return cells[:column] + cells[column + 1 :]


def _reason(service: ServiceStatus) -> str:
    """Why it is not healthy, and how often it died: one that dies now and then looks well."""
    if not service.deaths:
        return service.reason
    times = "once" if service.deaths == 1 else f"{service.deaths} times"
    died = f"died {times} in the last hour"
    if service.last_death in service.reason:
        return f"{service.reason}; {died}"
    return "; ".join(filter(None, (service.reason, f"{died}, last: {service.last_death}")))


def _say_last_words(services: Sequence[ServiceStatus]) -> None:
    for one in services:
        if one.state == "failing" and one.last_lines:
            console.say(f"\nlast lines of {one.name} (`labloop logs {one.name}` shows more):")
            console.say("\n".join(f"  {line}" for line in one.last_lines))


def _task_row(task: TaskStatus) -> tuple[str, ...]:
    counts = ", ".join(f"{n} {COUNT_WORDS[name]}" for name, n in task.labels.items() if n)
    words = task.trouble or ": ".join(filter(None, (counts, task.message))) or "-"
    run = f"{task.run} {task.run_state}" if task.run else "-"
    verdict = task.verdict.partition(":")[0] or "-"  # its page in the run's folder tells why
    return task.name, task.champion or "none yet", run, verdict, words


def show_logs(args: argparse.Namespace, home: Home) -> int:
    from stack.errors import NoHomeError, UnknownServiceError
    from stack.logs import follow, last_lines

    if _is_in_docker(home):
        from stack import verbs_engine

        return verbs_engine.show_logs(args, home)
    if not home.logs.is_dir():
        raise NoHomeError(home.root)
    logs = {path.stem: path for path in sorted(home.logs.glob("*.log"))}
    if args.service is not None:
        if args.service not in logs:
            raise UnknownServiceError(args.service, logs or [SUPERVISOR])
        logs = {args.service: logs[args.service]}
    width = max((len(name) for name in logs), default=0)

    def show(name: str, line: str) -> None:
        console.say(
            line if args.service else f"{console.paint(name.ljust(width), 'blue')} | {line}"
        )

    for name, path in logs.items():
        for line in last_lines(path, args.lines):
            show(name, line)
    if args.follow:
        for name, line in follow(logs, lambda: False):
            show(name, line)
    return 0
