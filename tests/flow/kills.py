"""Killing services while the loop turns, under either runner: nothing is lost or doubled."""

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from imaging.layout import RunFolder
from imaging.registry import champion
from imaging.runs import is_over, list_runs, load_state
from stack.demo.annotator import Annotator
from stack.demo.dataset import DemoSet, demo_set
from stack.demo.story import Story
from stack.home import Home
from stack.runtime.label_studio import LabelStudio, LabelStudioError
from tests.flow.stacks import assert_nothing_lost_or_doubled, wait_for

PER_ROUND = 32


class KillableStack(Protocol):
    """A stack whose services can be killed; whoever runs it starts them again."""

    @property
    def home(self) -> Home: ...
    @property
    def client(self) -> LabelStudio: ...
    def kill(self, name: str) -> None: ...
    def wait_until_healthy(self) -> None: ...
    def story(self, demo: DemoSet) -> Story: ...


def small_demo() -> DemoSet:
    """Two rounds of 32 labels, trained for 45 s each."""
    whole = demo_set("example", 45.0, Path())
    items = tuple(replace(item, write_label=None) for item in whole.items[:72])
    retrain = replace(whole.config.retrain, min_new_labels=PER_ROUND)
    gate = replace(whole.config.gate, min_held_out_cases=4)
    config = replace(whole.config, retrain=retrain, gate=gate)
    return replace(whole, items=items, rounds=(PER_ROUND, PER_ROUND), config=config)


@contextmanager
def killing(stack: KillableStack, services: Sequence[str], every_s: float) -> Iterator[None]:
    """Kill each service once, one after the other, while the body of the `with` works."""
    stopping = threading.Event()

    def kill_each() -> None:
        for name in services:
            if stopping.wait(every_s):
                return
            stack.kill(name)

    thread = threading.Thread(target=kill_each)
    thread.start()
    try:
        yield
        thread.join()  # every service gets its turn, however quick the phase was
    finally:
        stopping.set()
        thread.join()


class StubbornAnnotator:
    """A person who sees an error page, looks whether the answer arrived, and sends it again."""

    def __init__(self, annotator: Annotator) -> None:
        self.annotator = annotator

    def annotate(self, count: int) -> None:
        for _ in range(count):
            before = self._answers()
            while self._answers() <= before:
                try:
                    self.annotator.annotate_next()
                except LabelStudioError:  # also a 500 while its database is away
                    time.sleep(0.5)

    def _answers(self) -> int:
        path = f"/api/projects/{self.annotator.project}"
        deadline = time.monotonic() + 120
        while True:
            try:
                fields = self.annotator.client.call("GET", path)
                return int(fields["num_tasks_with_annotations"])
            except LabelStudioError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.5)


def turn_while_killing(stack: KillableStack, demo: DemoSet, services: Sequence[str]) -> None:
    """Two rounds of the loop, with every service killed in every phase."""
    story = stack.story(demo)
    with killing(stack, services, every_s=2.0):  # import
        project = story.arrive()
    stack.wait_until_healthy()
    annotator = Annotator(stack.client, project.id, story.folder, demo.truths)

    with killing(stack, services, every_s=1.5):  # labelling
        StubbornAnnotator(annotator).annotate(PER_ROUND)
    stack.kill("watchdog")  # snapshot: it is due a few quiet seconds after the last label
    wait_for("a run is requested", lambda: bool(runs(stack, demo)), limit_s=180)
    stack.kill("watchdog")
    first = runs(stack, demo)[0]

    wait_for("training", lambda: load_state(first).state == "training", limit_s=120)
    with killing(stack, services, every_s=2.0):  # training
        wait_for("evaluation", lambda: load_state(first).progress >= 0.8 or is_over(first), 240)
    stack.kill("trainer")  # promotion
    wait_for("a verdict", lambda: is_over(first), limit_s=240)
    for name in ("trainer", "ml-backend", "label-studio"):
        stack.kill(name)
    check_promoted(stack, story, demo)

    stack.wait_until_healthy()
    StubbornAnnotator(annotator).annotate(PER_ROUND)
    wait_for("a second run", lambda: len(runs(stack, demo)) >= 2, limit_s=180)
    wait_for("its verdict", lambda: is_over(runs(stack, demo)[1]), limit_s=240)
    time.sleep(5)  # a third run would be requested within one poll
    assert len(runs(stack, demo)) == 2
    wait_for("all predictions", lambda: settled(stack, demo), limit_s=120)
    assert_nothing_lost_or_doubled(stack, demo)


def runs(stack: KillableStack, demo: DemoSet) -> list[RunFolder]:
    return list(list_runs(stack.home.nas, demo.task))


def check_promoted(stack: KillableStack, story: Story, demo: DemoSet) -> None:
    """The interrupted run made exactly one model, and that is what annotators are served."""
    version = load_state(runs(stack, demo)[0]).version
    assert load_state(runs(stack, demo)[0]).state == "judged"
    made = list(stack.home.nas.model(demo.task).root.glob("model-*"))
    assert [folder.name for folder in made] == [version]
    current = champion(stack.home.nas, demo.task)
    assert current is not None and current.version == version
    wait_for("the rest is pre-annotated", lambda: settled(stack, demo), limit_s=180)
    assert len(runs(stack, demo)) == 1


def settled(stack: KillableStack, demo: DemoSet) -> bool:
    """Every unlabelled task carries one guess, the champion's; nobody carries an older one."""
    current = champion(stack.home.nas, demo.task)
    try:
        project = stack.client.find_project(demo.task)
        if project is None or current is None:
            return False
        tasks = list(stack.client.tasks(project.id))
    except LabelStudioError:
        return False
    wanted = [current.version]
    return project.model_version == current.version and all(
        [one["model_version"] for one in task["predictions"]] == wanted
        or (task["annotations"] and not task["predictions"])
        for task in tasks
    )
