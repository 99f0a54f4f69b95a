"""`kill -9` of every service in every phase of the loop: nothing is lost, nothing is doubled."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from imaging.layout import RunFolder
from imaging.registry import champion
from imaging.runs import is_over, list_runs, load_state
from stack.demo.annotator import Annotator
from stack.demo.dataset import DemoSet, demo_set
from stack.demo.story import Story
from stack.runtime.label_studio import LabelStudioDownError
from tests.flow.stacks import (
    RunningStack,
    assert_nothing_lost_or_doubled,
    running_stack,
    wait_for,
)

pytestmark = [pytest.mark.label_studio, pytest.mark.slow]
SERVICES = ("ingest", "watchdog", "trainer", "ml-backend", "label-studio")
PER_ROUND = 32


@pytest.fixture(scope="module")
def demo() -> DemoSet:
    whole = demo_set("example", 45.0, Path())
    items = tuple(replace(item, write_label=None) for item in whole.items[:72])
    retrain = replace(whole.config.retrain, min_new_labels=PER_ROUND)
    gate = replace(whole.config.gate, min_held_out_cases=4)
    config = replace(whole.config, retrain=retrain, gate=gate)
    return replace(whole, items=items, rounds=(PER_ROUND, PER_ROUND), config=config)


@contextmanager
def killing(stack: RunningStack, every_s: float) -> Iterator[None]:
    """Kill each service once, one after the other, while the body of the `with` works."""
    stopping = threading.Event()

    def kill_each() -> None:
        for name in SERVICES:
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
                except LabelStudioDownError:
                    time.sleep(0.5)

    def _answers(self) -> int:
        path = f"/api/projects/{self.annotator.project}"
        deadline = time.monotonic() + 120
        while True:
            try:
                fields = self.annotator.client.call("GET", path)
                return int(fields["num_tasks_with_annotations"])
            except LabelStudioDownError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.5)


def test_killing_every_service_in_every_phase_loses_and_doubles_nothing(
    tmp_path: Path, demo: DemoSet
) -> None:
    with running_stack(tmp_path / "home") as stack:
        story = stack.story(demo)
        with killing(stack, every_s=2.0):  # import
            project = story.arrive()
        stack.wait_until_healthy()
        annotator = Annotator(stack.client, project.id, story.folder, demo.truths)

        with killing(stack, every_s=1.5):  # labelling
            StubbornAnnotator(annotator).annotate(PER_ROUND)
        stack.kill("watchdog")  # snapshot: it is due a few quiet seconds after the last label
        wait_for("a run is requested", lambda: bool(runs(stack, demo)), limit_s=180)
        stack.kill("watchdog")
        first = runs(stack, demo)[0]

        wait_for("training", lambda: load_state(first).state == "training", limit_s=120)
        with killing(stack, every_s=2.0):  # training
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


def runs(stack: RunningStack, demo: DemoSet) -> list[RunFolder]:
    return list(list_runs(stack.home.nas, demo.task))


def check_promoted(stack: RunningStack, story: Story, demo: DemoSet) -> None:
    """The interrupted run made exactly one model, and that is what annotators are served."""
    version = load_state(runs(stack, demo)[0]).version
    assert load_state(runs(stack, demo)[0]).state == "judged"
    made = list(stack.home.nas.model(demo.task).root.glob("model-*"))
    assert [folder.name for folder in made] == [version]
    current = champion(stack.home.nas, demo.task)
    assert current is not None and current.version == version
    wait_for("the rest is pre-annotated", lambda: settled(stack, demo), limit_s=180)
    assert len(runs(stack, demo)) == 1


def settled(stack: RunningStack, demo: DemoSet) -> bool:
    """Every unlabelled task carries one guess, the champion's; nobody carries an older one."""
    current = champion(stack.home.nas, demo.task)
    try:
        project = stack.client.find_project(demo.task)
        if project is None or current is None:
            return False
        tasks = list(stack.client.tasks(project.id))
    except LabelStudioDownError:
        return False
    wanted = [current.version]
    return project.model_version == current.version and all(
        [one["model_version"] for one in task["predictions"]] == wanted
        or (task["annotations"] and not task["predictions"])
        for task in tasks
    )
