"""A scripted annotator: takes the next task Label Studio offers and submits the true answer.

Uses the same calls as the labelling page, so that locks, order and pre-annotations are real.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from imaging.dataset.cases import load_case
from imaging.layout import TaskFolder
from stack.demo.dataset import Truth
from stack.runtime.label_studio import LabelStudio, LabelStudioError


@dataclass(frozen=True, slots=True)
class Submitted:
    """What the annotator saw and did on one task."""

    ls_task: int
    case: str
    annotation: int
    seen_version: str | None  # model version of the guess that was drawn in, if there was one
    seen_score: float | None


@dataclass(frozen=True, slots=True)
class Annotator:
    """Answers tasks of one project from the true labels, by the picture's file name."""

    client: LabelStudio
    project: int
    folder: TaskFolder
    truths: Mapping[str, Truth]

    def annotate_next(self) -> Submitted | None:
        """Answer the task Label Studio offers; None when there is none left to do."""
        task = self._next()
        if task is None:
            return None
        case = str(task["data"]["case"])
        record = load_case(self.folder.case(case))
        results = self.truths[record.source.path.rsplit("/", 1)[-1]](record, task["data"])
        guess = (task.get("predictions") or [{}])[0]
        annotation = self.client.create_annotation(task["id"], results, lead_time_s=5.0)
        return Submitted(
            task["id"], case, annotation, guess.get("model_version"), guess.get("score")
        )

    def _next(self) -> dict[str, Any] | None:
        try:
            answer: dict[str, Any] = self.client.call("GET", f"/api/projects/{self.project}/next")
        except LabelStudioError as error:
            if "404" in str(error):  # Label Studio's way to say that everything is labelled
                return None
            raise
        return answer
