"""Runs the demo: starts a stack in a fresh home, tells the story, stays up, stops everything."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from stack import console
from stack.bootstrap import Wishes
from stack.control import start_detached, stop, wait_until_healthy
from stack.credentials import ADMIN_PASSWORD, LABEL_STUDIO_TOKEN
from stack.demo.dataset import DemoSet, demo_set
from stack.demo.narrator import DemoError, Narrator
from stack.demo.story import Outcome, Story, verdict_page
from stack.errors import RefusedError
from stack.home import Home
from stack.lock import is_supervised
from stack.runtime.label_studio import LabelStudio
from stack.state import ServiceStatus, StackStatus

HEALTHY_S = 600.0  # Label Studio's first start on a slow disk


def run_demo(
    home: Home, name: str, *, budget_s: float | None, data: Path, exit_when_done: bool
) -> int:
    """Show the loop turning; 0 when it did, 1 when it did not, however the person then leaves.

    Args:
        home: a folder of the demo's own.
        name: "example", or a set under `data`.
        budget_s: training time per run; None = the set's own.
        data: the folder of openly licensed image sets.
        exit_when_done: stop by itself in place of waiting for Ctrl-C.

    Raises:
        RefusedError: the home is a real stack's.
        KeyboardInterrupt: the person interrupted the story; everything has been stopped.
    """
    demo = demo_set(name, budget_s, data)
    require_fresh(home)
    narrator = Narrator(console.say)
    console.say(_plan(demo, home))
    with _one_interruption() as interrupted, _running_stack(home, narrator) as status:
        code = _tell(home, demo, status, narrator)
        if not exit_when_done:
            with suppress(KeyboardInterrupt):  # the story is over; its code stands
                console.say("\nEverything stays up for you to click through. Ctrl-C stops it all.")
                interrupted.wait()
    return code


def require_fresh(home: Home) -> None:
    """Make sure that the demo does not work on, and in the end stop, a stack of the lab.

    Raises:
        RefusedError: the home runs, or holds a task.
    """
    found = "runs a stack" if is_supervised(home) else ""
    for task in home.nas.tasks():
        found = found or f"holds {task.name}"
    if found:
        raise RefusedError(
            f"{home.root} {found}, expected a folder of the demo's own",
            hint="Leave --home out, and the demo makes itself a home of its own in .demo/.",
        )


def _tell(home: Home, demo: DemoSet, status: StackStatus, narrator: Narrator) -> int:
    try:
        token = home.secret(LABEL_STUDIO_TOKEN).read_text(encoding="utf-8").strip()
        with LabelStudio(_url(status, "label-studio"), token, timeout_s=60.0) as client:
            outcome = Story(home, demo, client, narrator).tell()
        console.say(last_screen(home, demo, status, outcome))
        return 0
    except DemoError as error:
        console.complain(str(error), f"`labloop status --home {home.root}`, `labloop logs`")
        return 1


@contextmanager
def _running_stack(home: Home, narrator: Narrator) -> Iterator[StackStatus]:
    """A healthy stack that is stopped again, whatever happens in between."""
    try:
        # Tied: the stack goes down with this process, even if that is killed outright.
        start_detached(home, Wishes(), tied=True)
        narrator.say("the stack starts: Label Studio, ml-backend, ingest, watchdog, trainer, …")
        said: set[str] = set()

        def tell(services: object) -> None:
            for service in services if isinstance(services, tuple) else ():
                if service.state == "healthy" and service.name not in said:
                    said.add(service.name)
                    narrator.say(f"    {service.name} is healthy")

        yield wait_until_healthy(home, HEALTHY_S, tell)
    finally:
        if is_supervised(home):
            narrator.say("stopping every process of the demo …")
            stop(home)
            narrator.say("all stopped")


@contextmanager
def _one_interruption() -> Iterator[threading.Event]:
    """Ctrl-C and SIGTERM interrupt once; from then on they let everything be stopped in order."""
    interrupted = threading.Event()

    def on_signal(number: int, frame: object) -> None:
        if not interrupted.is_set():
            interrupted.set()
            raise KeyboardInterrupt

    before = {
        number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield interrupted
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _url(status: StackStatus, name: str) -> str:
    service: ServiceStatus = next(one for one in status.services if one.name == name)
    return service.url or f"http://127.0.0.1:{service.port}"


def _plan(demo: DemoSet, home: Home) -> str:
    budget = demo.config.recipe.budget_s
    return (
        f"The demo turns the loop twice on {len(demo.items)} pictures ({demo.config.title}).\n"
        f"Expect about {(2 * budget + 150) / 60:.0f} minutes. Everything lies in {home.root}\n"
    )


def last_screen(home: Home, demo: DemoSet, status: StackStatus, outcome: Outcome) -> str:
    """What happened, where to look, how to log in."""
    first, second = outcome.rounds
    # The gate may keep the first one, with reasons.
    champion, end = (second, "promoted") if second.promoted else (first, "refused")
    before, after = second.champion_score, second.candidate_score
    password = home.secret(ADMIN_PASSWORD).read_text(encoding="utf-8").strip()
    lines = [
        "",
        "The loop turned.",
        f"  labels     {demo.given} came with the pictures, {outcome.labels} were submitted, "
        f"{outcome.corrected_guesses} of them began from a model's guess",
        f"  round 1    {first.run}: promoted, {first.sentence}",
        f"  round 2    {second.run}: {end}, {second.sentence}",
    ]
    if before is not None and after is not None:
        words = ("before", "after") if second.promoted else ("champion", "candidate")
        scores = f"{before:.3f} {words[0]}, {after:.3f} {words[1]}"
        lines.append(f"  score      {scores}, on held-out patients")
    lines += [
        f"  champion   {champion.version}; {outcome.waiting} unlabelled pictures carry its guess",
        f"  verdict    {verdict_page(home, demo.task, second)}",
        "",
        f"  Label Studio  {_url(status, 'label-studio')}",
        f"  TensorBoard   {_url(status, 'tensorboard')}",
        f"  login         admin@labloop.local   password {password}",
        f"  files         {home.nas_folder}",
    ]
    return "\n".join(lines)
