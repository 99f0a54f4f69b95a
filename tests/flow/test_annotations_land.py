"""What people do in a real Label Studio lands on the NAS, whether or not anybody was listening."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from imaging.dataset.annotations import AnnotationRecord, current_answers, newest_revisions
from imaging.dataset.cases import load_case
from imaging.dataset.snapshot import load_snapshot, newest_snapshot
from imaging.dataset.verify import problems_of
from imaging.dataset.view import shown_snapshot
from imaging.labelstudio.tasks import task_payload
from imaging.layout import TaskFolder
from imaging.runs import list_runs
from imaging.task import RetrainPolicy, save_task
from services.ingest.project import ProjectLinks, ensure_project
from services.watchdog.source import LabelStudioSource
from stack.runtime.heartbeat import Heartbeat
from stack.runtime.label_studio import LabelStudio
from tests.flow.conftest import RealLabelStudio, free_port
from tests.imaging.dataset.lab import SEGMENTATION, answer, drawn, make_case, mask_results

pytestmark = pytest.mark.label_studio

SECRET = "the webhook secret of this test"
NEVER = RetrainPolicy(min_new_labels=10**6)


class Lab:
    """A task folder with its project, and a watchdog beside it."""

    def __init__(self, server: RealLabelStudio, task: TaskFolder, root: Path) -> None:
        self.server, self.task, self.root = server, task, root
        self.client: LabelStudio = server.client
        self.port = free_port()
        (root / "secret").write_text(SECRET)
        self.configure(NEVER)
        links = ProjectLinks("", "", f"http://127.0.0.1:{self.port}/", SECRET)
        found = ensure_project(
            self.client, server.nas, task.name, SEGMENTATION, links
        )  # its webhook points at the watchdog, running or not
        self.project = found.id

    def configure(self, retrain: RetrainPolicy) -> None:
        save_task(self.task.config, replace(SEGMENTATION, retrain=retrain))

    def add(self, numbers: range) -> dict[str, int]:
        """Cases with their tasks: case → task in Label Studio."""
        cases = [make_case(self.task, number) for number in numbers]
        payloads = [task_payload(self.task.name, load_case(self.task.case(case))) for case in cases]
        return dict(zip(cases, self.client.import_tasks(self.project, payloads), strict=True))

    def call(self, method: str, path: str, body: object = None) -> Any:
        return self.client.call(method, path, body)

    def command(self, *options: str) -> list[str]:
        return [sys.executable, "-m", "services.watchdog", *options]

    def environment(self, poll_s: float) -> dict[str, str]:
        return os.environ | {
            "NAS_ROOT": str(self.server.nas.root),
            "STATE_DIR": str(self.root / "state"),
            "HEARTBEAT_FILE": str(self.root / "state" / "heartbeat"),
            "LABEL_STUDIO_URL": self.server.url,
            "LABEL_STUDIO_TOKEN_FILE": str(self.server.token_file),
            "WEBHOOK_SECRET_FILE": str(self.root / "secret"),
            "WATCHDOG_PORT": str(self.port),
            "POLL_S": str(poll_s),
        }

    def once(self) -> None:
        with (self.root / "once.log").open("ab") as log:
            subprocess.run(
                self.command("--once"), env=self.environment(1), check=True, stderr=log, timeout=60
            )

    @contextmanager
    def running(self, poll_s: float) -> Iterator[subprocess.Popen[bytes]]:
        with (self.root / "watchdog.log").open("ab") as log:
            process = subprocess.Popen(self.command(), env=self.environment(poll_s), stderr=log)
        try:
            heartbeat = Heartbeat(self.root / "state" / "heartbeat")
            wait_for(lambda: heartbeat.check(60) == "", 30)
            yield process
        finally:
            process.terminate()
            assert process.wait(timeout=20) in (0, -signal.SIGKILL)

    def answers(self, case: str) -> list[AnnotationRecord]:
        return current_answers(self.task, case)

    def newest(self, case: str) -> AnnotationRecord:
        (record,) = newest_revisions(self.task, case)
        return record


def wait_for(claim: Callable[[], bool], within_s: float) -> float:
    start = time.monotonic()
    while not claim():
        if time.monotonic() - start > within_s:
            pytest.fail(f"not within {within_s:.0f} s")
        time.sleep(0.05)
    return time.monotonic() - start


@pytest.fixture
def lab(label_studio: RealLabelStudio, task_folder: TaskFolder, tmp_path: Path) -> Lab:
    return Lab(label_studio, task_folder, tmp_path)


def test_the_time_of_a_task_moves_with_its_answers_and_only_with_them(lab: Lab) -> None:
    """What the watchdog builds on; looked up again with every version of Label Studio."""
    ((_, task),) = lab.add(range(1)).items()
    source = LabelStudioSource(lab.client)
    results = mask_results(drawn(3))
    times = [source.row(lab.project, task)]

    def moved(act: Callable[[], Any]) -> bool:
        act()
        times.append(source.row(lab.project, task))
        before, after = times[-2:]
        assert before is not None and after is not None
        return after.updated_at > before.updated_at

    number = 0

    def create() -> None:
        nonlocal number
        number = lab.client.create_annotation(task, results)

    def in_bulk(action: str) -> None:
        path = f"/api/dm/actions?id={action}&project={lab.project}"
        lab.call("POST", path, {"selectedItems": {"all": False, "included": [task]}})

    assert moved(create)
    edit = {"result": mask_results(drawn(4))}
    assert moved(lambda: lab.call("PATCH", f"/api/annotations/{number}/", edit))
    skip = {"was_cancelled": True}
    assert moved(lambda: lab.call("PATCH", f"/api/annotations/{number}/", skip))
    draft = {"result": results, "lead_time": 1}
    assert not moved(lambda: lab.call("POST", f"/api/tasks/{task}/drafts", draft))
    guess = [{"task": task, "model_version": "m", "score": 0.5, "result": results}]
    assert not moved(lambda: lab.client.import_predictions(lab.project, guess))
    assert not moved(lambda: lab.client.delete_predictions(lab.project, "m"))
    assert moved(lambda: lab.call("DELETE", f"/api/annotations/{number}/"))
    assert moved(create)
    assert moved(lambda: lab.call("POST", f"/api/annotations/{number}/convert-to-draft", {}))
    assert moved(create)
    assert moved(lambda: in_bulk("delete_tasks_annotations"))


def test_listings_say_what_the_watchdog_needs(lab: Lab) -> None:
    tasks = list(lab.add(range(3)).values())
    numbers = [lab.client.create_annotation(tasks[1], mask_results(drawn(n))) for n in (2, 3)]
    source = LabelStudioSource(lab.client)
    assert [row.id for row in source.changed(lab.project, None)] == tasks
    (row,) = source.annotated(lab.project)
    assert row.id == tasks[1] and row.annotations == set(numbers) and row.answers == 2
    assert row.created_at < row.updated_at
    (changed,) = source.changed(lab.project, source.row(lab.project, tasks[2]).updated_at)  # type: ignore[union-attr]
    assert changed.id == tasks[1]
    lab.call("PATCH", f"/api/annotations/{numbers[0]}/", {"was_cancelled": True})
    (row,) = source.annotated(lab.project)
    assert (row.answers, row.skipped, row.annotations) == (1, 1, set(numbers))
    assert set(source.many(lab.project, [row])) == {tasks[1]}
    answers = source.annotations(lab.project, row) or []
    assert {answer["id"]: answer["was_cancelled"] for answer in answers} == {
        numbers[0]: True,
        numbers[1]: False,
    }
    assert source.row(lab.project, 10**9) is None and source.annotation(10**9) is None
    assert source.annotations(lab.project, replace(row, id=10**9)) is None
    assert source.projects()[lab.task.name] == lab.project


def test_create_edit_skip_and_delete_land_within_seconds_by_webhook(lab: Lab) -> None:
    ((case, task),) = lab.add(range(1)).items()
    with lab.running(poll_s=300):
        number = lab.client.create_annotation(task, mask_results(drawn(3)), lead_time_s=7)
        waited_s = wait_for(lambda: len(lab.answers(case)) == 1, 20)
        assert waited_s < 10, "the webhook did not wake the watchdog"
        assert lab.answers(case)[0].results == tuple(mask_results(drawn(3)))
        assert lab.answers(case)[0].lead_time_s == 7
        path = f"/api/annotations/{number}/"
        lab.call("PATCH", path, {"result": mask_results(drawn(5))})
        wait_for(lambda: lab.newest(case).revision == 2, 20)
        lab.call("PATCH", path, {"was_cancelled": True})
        wait_for(lambda: lab.newest(case).skipped, 20)
        lab.call("DELETE", path)
        wait_for(lambda: lab.newest(case).deleted, 20)
    assert lab.answers(case) == [] and lab.newest(case).revision == 4


def test_what_happened_while_it_was_down_lands_afterwards(lab: Lab) -> None:
    cases = lab.add(range(4))
    edited, deleted, created, untouched = cases
    numbers = {
        case: lab.client.create_annotation(cases[case], mask_results(drawn(2)))
        for case in (edited, deleted, untouched)
    }
    with lab.running(poll_s=0.5) as process:
        wait_for(lambda: all(lab.answers(case) for case in numbers), 20)
        process.send_signal(signal.SIGKILL)
        process.wait()
    patch = {"result": mask_results(drawn(6))}
    lab.call("PATCH", f"/api/annotations/{numbers[edited]}/", patch)
    lab.call("DELETE", f"/api/annotations/{numbers[deleted]}/")
    lab.client.create_annotation(cases[created], [])
    imported = make_case(lab.task, 50)
    lab.client.import_tasks(
        lab.project,
        [
            task_payload(lab.task.name, load_case(lab.task.case(imported)))
            | {"annotations": [{"result": mask_results(drawn(9))}]}
        ],
    )
    lab.once()
    assert lab.answers(edited)[0].results == tuple(mask_results(drawn(6)))
    assert lab.answers(deleted) == [] and lab.newest(deleted).deleted
    assert lab.answers(created)[0].results == ()  # nothing to see is an answer
    assert lab.answers(imported)[0].results == tuple(mask_results(drawn(9)))
    assert lab.newest(untouched).revision == 1
    before = sorted(path.name for path in lab.task.annotations.rglob("*.json"))
    lab.once()
    assert sorted(path.name for path in lab.task.annotations.rglob("*.json")) == before


def test_drafts_are_no_answers_and_labels_that_came_with_the_image_do_not_land_twice(
    lab: Lab,
) -> None:
    ((drafted, task),) = lab.add(range(1)).items()
    lab.call(
        "POST", f"/api/tasks/{task}/drafts", {"result": mask_results(drawn(2)), "lead_time": 1}
    )
    known, corrected, removed = (make_case(lab.task, number) for number in (7, 8, 9))
    tasks = {}
    for case in (known, corrected, removed):
        answer(
            lab.task,
            case,
            drawn(4),
            key="import-0123456789ab",
            origin="import",
            annotator="import",
            updated_at="2026-01-01T00:00:00.000000Z",
        )
        payload = task_payload(
            lab.task.name, load_case(lab.task.case(case)), newest_revisions(lab.task, case)
        )
        (tasks[case],) = lab.client.import_tasks(lab.project, [payload])
    lab.once()
    assert [lab.answers(case)[0].origin for case in tasks] == ["import"] * 3
    assert len(newest_revisions(lab.task, known)) == 1
    assert lab.answers(drafted) == []

    def copy_of(case: str) -> int:
        (copy,) = lab.call("GET", f"/api/tasks/{tasks[case]}/annotations/")
        return int(copy["id"])

    patch = {"result": mask_results(drawn(5))}
    lab.call("PATCH", f"/api/annotations/{copy_of(corrected)}/", patch)
    lab.call("DELETE", f"/api/annotations/{copy_of(removed)}/")
    lab.once()
    assert lab.answers(corrected)[0].origin == "label_studio"
    assert lab.answers(corrected)[0].results == tuple(mask_results(drawn(5)))
    assert lab.answers(removed) == []
    assert lab.answers(known)[0].origin == "import"


def test_a_burst_of_fifty_labels_makes_one_run_on_a_sound_snapshot(lab: Lab) -> None:
    cases = lab.add(range(50))
    lab.configure(RetrainPolicy(min_new_labels=20, quiet_s=2, cooldown_s=600))
    with lab.running(poll_s=1):
        for number, task in enumerate(cases.values()):
            lab.client.create_annotation(task, mask_results(drawn(1 + number % 11)))
        wait_for(lambda: bool(list(list_runs(lab.server.nas, lab.task.name))), 30)
        wait_for(lambda: shown_snapshot(lab.task) is not None, 10)
        time.sleep(4)
    assert len(list(list_runs(lab.server.nas, lab.task.name))) == 1
    newest = newest_snapshot(lab.task)
    assert newest is not None and len(newest.cases) == 50
    assert problems_of(load_snapshot(newest.folder)) == []
