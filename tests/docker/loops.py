"""The demo's story, told to a lab in Docker; and a lab whose containers can be killed."""

from dataclasses import dataclass

from stack.demo.dataset import DemoSet
from stack.demo.story import Outcome, Story
from stack.home import Home
from stack.runtime.label_studio import LabelStudio
from tests.docker.engine import try_docker, wait_for
from tests.docker.labs import DockerLab

HEALTHY_S = 300.0


@dataclass(frozen=True, slots=True)
class Loop:
    """A loop that turned twice."""

    demo: DemoSet
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class KillableLab:
    """A lab in Docker, as tests/flow/kills.py sees any stack."""

    lab: DockerLab
    client: LabelStudio

    @property
    def home(self) -> Home:
        return self.lab.home

    def kill(self, name: str) -> None:
        """`docker kill -s KILL`, which the engine takes for somebody's wish; so start it again."""
        self.lab.kill(name)
        try_docker("start", self.lab.container(name))

    def wait_until_healthy(self) -> None:
        wait_for("every container is healthy", self._is_healthy, HEALTHY_S)

    def _is_healthy(self) -> bool:
        states = [self.lab.inspect(name)["State"] for name in self.lab.containers()]
        return all(
            state["ExitCode"] == 0
            if state["Status"] == "exited"
            else state.get("Health", {}).get("Status") == "healthy"
            for state in states
        )

    def story(self, demo: DemoSet) -> Story:
        return self.lab.story(demo, self.client)
