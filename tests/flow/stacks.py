"""A whole stack under the local runner, for tests that follow the loop from end to end."""

import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import pytest

from imaging.dataset.annotations import newest_revisions
from imaging.dataset.cases import list_cases
from stack.bootstrap import Wishes
from stack.control import start_detached, stop, wait_until_healthy
from stack.credentials import LABEL_STUDIO_TOKEN
from stack.demo.dataset import DemoSet
from stack.demo.narrator import Narrator
from stack.demo.story import Story
from stack.environments import programs_of
from stack.errors import NotInstalledError
from stack.home import Home
from stack.runtime.label_studio import LabelStudio
from stack.state import ServiceStatus, read_state

HEALTHY_S = 300.0
# A replaced guess goes after two seconds in place of the hour that open editors are given.
HURRY = "ML_BACKEND_KEEP_OLD_S=2\nML_BACKEND_PUSH_EVERY_S=1\nINGEST_QUIET_S=1\nPOLL_S=1\n"


@dataclass(frozen=True, slots=True)
class RunningStack:
    """A healthy stack and a client with its token."""

    home: Home
    client: LabelStudio

    def service(self, name: str) -> ServiceStatus:
        status = read_state(self.home)
        assert status is not None and status.is_supervised
        return next(one for one in status.services if one.name == name)

    def kill(self, name: str) -> None:
        """`kill -9` of a service's process; nothing when it is just being restarted."""
        pid = self.service(name).pid
        if pid is not None:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                return

    def wait_until_healthy(self) -> None:
        """Killed five times in minutes, a service counts as failing and rests for a minute."""
        wait_for("every service is healthy", self._is_healthy, HEALTHY_S)

    def _is_healthy(self) -> bool:
        status = read_state(self.home)
        return status is not None and status.is_supervised and status.is_healthy

    def story(self, demo: DemoSet) -> Story:
        return Story(self.home, demo, self.client, Narrator(print))


@contextmanager
def running_stack(root: Path, nas: Path | None = None) -> Iterator[RunningStack]:
    """A stack in a home of its own; everything it started is gone afterwards."""
    try:
        programs_of("label-studio")
    except NotInstalledError as error:
        pytest.skip(f"{error} {error.hint}")
    home = Home(root)
    root.mkdir(parents=True)
    settings = root / "test.env"
    settings.write_text(HURRY)
    try:
        start_detached(home, Wishes(nas=nas, env_file=settings), tied=True)
        status = wait_until_healthy(home, HEALTHY_S)
        url = next(one.url for one in status.services if one.name == "label-studio")
        token = home.secret(LABEL_STUDIO_TOKEN).read_text().strip()
        with LabelStudio(str(url), token, timeout_s=60.0) as client:
            yield RunningStack(home, client)
    finally:
        stop(home)


def wait_for(what: str, look: Callable[[], bool], limit_s: float = 120.0) -> None:
    """Return once `look` is true; fail with `what` after the limit."""
    deadline = time.monotonic() + limit_s
    while not look():
        if time.monotonic() > deadline:
            pytest.fail(f"not within {limit_s:.0f} s: {what}")
        time.sleep(0.2)


class SeenStack(Protocol):
    """Its files and its Label Studio, whoever runs it."""

    @property
    def home(self) -> Home: ...
    @property
    def client(self) -> LabelStudio: ...


def assert_nothing_lost_or_doubled(stack: SeenStack, demo: DemoSet) -> None:
    """Label Studio and the NAS agree: one task per case, every answer landed exactly once."""
    folder = stack.home.nas.task(demo.task)
    project = stack.client.find_project(demo.task)
    assert project is not None
    assert [one["description"] for one in stack.client.projects()].count(demo.task) <= 1
    tasks = list(stack.client.tasks(project.id))
    cases = {case.case for case in list_cases(folder)}
    assert Counter(task["data"]["case"] for task in tasks) == Counter(cases)
    assert len(cases) == len(demo.items)

    for task in tasks:
        case = task["data"]["case"]
        records = [one for one in newest_revisions(folder, case) if not one.deleted]
        landed = {one.key for one in records if one.origin == "label_studio"}
        answered = {f"{task['id']}-{one['id']}" for one in task["annotations"]}
        if not any(one.origin == "import" for one in records):  # its copy does not land again
            assert landed == answered, case
        assert len(records) == len(answered), case
        assert len(answered) <= 1, f"{case} was answered twice"
        versions = Counter(one["model_version"] for one in task["predictions"])
        assert all(count == 1 for count in versions.values()), f"{case}: {versions}"
