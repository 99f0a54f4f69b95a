"""Where everything lives on the NAS. The only module that joins paths of the contract.

`docs/data-format.md` describes every file named here. Nothing is created or read by building
a path; names from outside are checked so that they cannot leave the share.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from imaging.errors import NasGoneError
from imaging.ids import TASK_NAME, checked_name, checked_task_name

MARKER = ".labloop"


@dataclass(frozen=True, slots=True)
class TaskFolder:
    """`dataset/TaskNNN_what/`: one annotation task of the lab."""

    root: Path

    @property
    def name(self) -> str:
        return self.root.name

    @property
    def config(self) -> Path:
        return self.root / "task.yaml"

    @property
    def rawdata(self) -> Path:
        return self.root / "rawdata"

    @property
    def rejected(self) -> Path:
        return self.root / "rejected"

    @property
    def quarantine(self) -> Path:
        """What may show a person's name; each waits for somebody's decision (`labloop release`)."""
        return self.root / "quarantine"

    @property
    def cases(self) -> Path:
        return self.root / "cases"

    @property
    def annotations(self) -> Path:
        return self.root / "annotations"

    @property
    def snapshots(self) -> Path:
        return self.root / "snapshots"

    @property
    def data(self) -> Path:
        """The newest snapshot in the lab's own folder layout, for people's scripts."""
        return self.root / "data"

    def case(self, case_id: str) -> Path:
        return self.cases / checked_name(case_id)

    def case_record(self, case_id: str) -> Path:
        return self.case(case_id) / "case.json"

    def case_annotations(self, case_id: str) -> Path:
        return self.annotations / checked_name(case_id)

    def snapshot(self, snapshot_id: str) -> Path:
        return self.snapshots / checked_name(snapshot_id)


@dataclass(frozen=True, slots=True)
class RunFolder:
    """`runs/<task>/<run>/`: one training, from its request to its verdict."""

    root: Path

    @property
    def run_id(self) -> str:
        return self.root.name

    @property
    def task(self) -> str:
        return self.root.parent.name

    @property
    def request(self) -> Path:
        return self.root / "request.json"

    @property
    def lease(self) -> Path:
        """Held by the trainer that works on the run; its age is the heartbeat."""
        return self.root / "lease.json"

    @property
    def state(self) -> Path:
        """`state.json`: where the run stands, for `labloop status` and people."""
        return self.root / "state.json"

    @property
    def recipe(self) -> Path:
        return self.root / "recipe.json"

    @property
    def checkpoints(self) -> Path:
        return self.root / "checkpoints"

    @property
    def metrics(self) -> Path:
        return self.root / "metrics.json"

    @property
    def verdict(self) -> Path:
        return self.root / "verdict.json"

    @property
    def verdict_text(self) -> Path:
        return self.root / "verdict.md"


@dataclass(frozen=True, slots=True)
class ModelFolder:
    """`models/<task>/`: every version of a task's model and the champion pointer."""

    root: Path

    @property
    def task(self) -> str:
        return self.root.name

    @property
    def champion(self) -> Path:
        return self.root / "champion.json"

    def version(self, version: str) -> Path:
        return self.root / checked_name(version)


@dataclass(frozen=True, slots=True)
class Nas:
    """The share, seen from its root."""

    root: Path

    @property
    def marker(self) -> Path:
        return self.root / MARKER

    @property
    def dataset(self) -> Path:
        return self.root / "dataset"

    @property
    def runs(self) -> Path:
        return self.root / "runs"

    @property
    def models(self) -> Path:
        return self.root / "models"

    @property
    def backups(self) -> Path:
        return self.root / "backups"

    def task(self, name: str) -> TaskFolder:
        return TaskFolder(self.dataset / checked_task_name(name))

    def task_runs(self, task: str) -> Path:
        return self.runs / checked_task_name(task)

    def run(self, task: str, run_id: str) -> RunFolder:
        return RunFolder(self.task_runs(task) / checked_name(run_id))

    def model(self, task: str) -> ModelFolder:
        return ModelFolder(self.models / checked_task_name(task))

    def tasks(self) -> Iterator[TaskFolder]:
        """The task folders there are, by name; other folders are somebody else's."""
        if not self.dataset.is_dir():
            return
        for path in sorted(self.dataset.iterdir()):
            if path.is_dir() and TASK_NAME.fullmatch(path.name):
                yield TaskFolder(path)

    def require_marker(self) -> None:
        """Make sure that the share is mounted before anything is concluded from its content.

        Raises:
            NasGoneError: there is no marker file at the root.
        """
        if not self.marker.is_file():
            raise NasGoneError(self.root)
