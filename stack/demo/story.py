"""The demo, told in order: pictures arrive, a model trains, people correct, a better one follows.

Everything is done by the services; the story drops pictures on the NAS, plays the annotator, and
otherwise only looks. It fails unless the loop really turned.
"""

from dataclasses import dataclass
from pathlib import Path

from imaging.dataset.cases import CASE_RECORD
from imaging.errors import ImagingError
from imaging.layout import RunFolder, TaskFolder
from imaging.publish import read_json
from imaging.registry import champion
from imaging.runs import is_over, list_runs, load_state
from stack.demo.annotator import Annotator
from stack.demo.dataset import DemoSet
from stack.demo.narrator import DemoError, Narrator
from stack.home import Home
from stack.runtime.label_studio import LabelStudio, LabelStudioError, ProjectRef


@dataclass(frozen=True, slots=True)
class Round:
    """What one turn of the loop brought."""

    run: str
    promoted: bool
    sentence: str  # the verdict's first line
    champion_score: float | None
    candidate_score: float | None
    version: str | None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the demo did, for the last screen."""

    labels: int
    corrected_guesses: int  # of those, how many started from a model's guess
    rounds: tuple[Round, ...]
    waiting: int  # unlabelled tasks that carry the champion's prediction


@dataclass(frozen=True, slots=True)
class Story:
    """A running stack, the demo's pictures and somebody to tell it to."""

    home: Home
    demo: DemoSet
    client: LabelStudio
    narrator: Narrator

    @property
    def folder(self) -> TaskFolder:
        return self.home.nas.task(self.demo.task)

    def tell(self) -> Outcome:
        """Turn the loop twice.

        Raises:
            DemoError: a step did not happen, or a model was refused that is surely better.
        """
        project = self.arrive()
        annotator = Annotator(self.client, project.id, self.folder, self.demo.truths)
        labels, corrected = self.annotate(annotator, self.demo.rounds[0])
        first = self.train(turn=1)
        self.predictions(project, first)
        more, started_from = self.annotate(annotator, self.demo.rounds[1])
        second = self.train(turn=2)
        waiting = self.predictions(project, second if second.promoted else first)
        outcome = Outcome(labels + more, corrected + started_from, (first, second), waiting)
        if self.demo.is_sure and not second.promoted:
            raise DemoError(f"the second model was refused: {second.sentence}")
        return outcome

    # --- the steps --------------------------------------------------------------------------

    def arrive(self) -> ProjectRef:
        count, given = len(self.demo.items), self.demo.given
        self.narrator.say(f"{count} pictures are dropped on the NAS, {given} of them with labels")
        self.demo.write(self.folder)
        project = self.narrator.wait(
            "ingest checks them, makes cases and Label Studio tasks",
            lambda: self._all_tasks(count),
            expect_s=10 + count / 10,
            limit_s=300 + count,
            detail=lambda: f"{self._count_cases()} of {count} cases are made",
        )
        self.narrator.say(f"    project {project.title!r} holds {count} tasks")
        return project

    def annotate(self, annotator: Annotator, wanted: int) -> tuple[int, int]:
        """Answer so many tasks; how many were, and how many of them began from a guess."""
        if not wanted:
            return 0, 0
        self.narrator.say(f"an annotator answers {wanted} tasks through Label Studio's API …")
        done = guessed = 0
        while done < wanted:
            answer = annotator.annotate_next()
            if answer is None:
                raise DemoError(f"Label Studio offered no task after {done} of {wanted} answers")
            done += 1
            guessed += answer.seen_version is not None
            if done == 1 and answer.seen_version:
                self.narrator.say(
                    f"    the first task opens with a guess of {answer.seen_version}, "
                    f"confidence {answer.seen_score or 0:.2f}: the least certain comes first"
                )
            if done % 16 == 0:
                self.narrator.say(f"    {done} of {wanted}, {guessed} began from a model's guess")
        return done, guessed

    def train(self, turn: int) -> Round:
        run = self.narrator.wait(
            "the watchdog lands the labels, freezes a snapshot and requests a run",
            lambda: self._run(turn),
            expect_s=15,
            limit_s=180,
        )
        budget_s = self.demo.config.recipe.budget_s
        self.narrator.wait(
            f"the trainer trains {run.run_id}",
            lambda: is_over(run) or None,
            expect_s=budget_s + 30,
            limit_s=3 * budget_s + 300,
            detail=lambda: _progress(run),
        )
        made = self._judged(run)
        self.narrator.say(f"    verdict: {made.sentence}")
        if turn == 1 and not made.promoted:
            raise DemoError(f"the first model was refused: {made.sentence}")
        return made

    def predictions(self, project: ProjectRef, made: Round) -> int:
        version = str(made.version)
        waiting = self.narrator.wait(
            f"ml-backend loads {version} and pre-annotates the unlabelled rest",
            lambda: self._all_predicted(project, version),
            expect_s=15,
            limit_s=300,
        )
        self.narrator.say(f"    {waiting} unlabelled tasks show its guess")
        return waiting

    # --- looking ----------------------------------------------------------------------------

    def _count_cases(self) -> int:
        return sum(1 for _ in self.folder.cases.glob(f"case-*/{CASE_RECORD}"))

    def _all_tasks(self, count: int) -> ProjectRef | None:
        try:
            project = self.client.find_project(self.demo.task)
            if project is None:
                return None
            found = self.client.call("GET", f"/api/projects/{project.id}")["task_number"]
        except LabelStudioError:
            return None  # still starting
        return project if found >= count else None

    def _run(self, turn: int) -> RunFolder | None:
        runs = list(list_runs(self.home.nas, self.demo.task))
        return runs[turn - 1] if len(runs) >= turn else None

    def _judged(self, run: RunFolder) -> Round:
        state = load_state(run)
        if state.state != "judged":
            raise DemoError(f"{run.run_id} failed: {state.message}")
        verdict = read_json(run.verdict)
        overall = verdict["overall"] or {"candidate": None, "opponent": None}
        return Round(
            run=run.run_id,
            promoted=bool(verdict["promote"]),
            sentence=str(verdict["reasons"][0]),
            candidate_score=overall["candidate"],
            champion_score=overall["opponent"] if verdict["opponent"] == "champion" else None,
            version=state.version,
        )

    def _all_predicted(self, project: ProjectRef, version: str) -> int | None:
        """The number of unlabelled tasks, once each has this version's guess and shows it."""
        try:
            current = champion(self.home.nas, self.demo.task)
            if current is None or current.version != version:
                return None
            fields = self.client.call("GET", f"/api/projects/{project.id}")
            versions = self.client.model_versions(project.id)
        except (LabelStudioError, ImagingError):
            return None
        waiting = int(fields["task_number"]) - int(fields["num_tasks_with_annotations"])
        shown = fields["model_version"] == version
        return waiting if shown and versions.get(version, 0) >= waiting else None


def _progress(run: RunFolder) -> str:
    state = load_state(run)
    return f"{state.state} {state.progress:.0%}: {state.message}"


def verdict_page(home: Home, task: str, made: Round) -> Path:
    """The page that tells a person why."""
    return home.nas.run(task, made.run).verdict_text
