"""The loop in containers, through the gateway's TLS alone: dropped, labelled, trained, served."""

import pytest

from imaging.publish import read_json
from imaging.registry import champion
from tests.docker.engine import UID, wait_for
from tests.docker.labs import DockerLab
from tests.docker.loops import Loop

pytestmark = [pytest.mark.docker, pytest.mark.label_studio, pytest.mark.slow]


def test_the_loop_turns_twice_without_a_hand(stack: DockerLab, loop: Loop) -> None:
    first, second = loop.outcome.rounds
    assert first.promoted
    assert loop.outcome.corrected_guesses == loop.outcome.labels == loop.demo.rounds[1]
    verdict = read_json(stack.home.nas.run(loop.demo.task, second.run).verdict)
    assert verdict["opponent"] == "champion"
    assert verdict["promote"] == second.promoted


def test_annotators_see_the_champions_guess(stack: DockerLab, loop: Loop) -> None:
    serving = champion(stack.home.nas, loop.demo.task)
    assert serving is not None

    def shows_it() -> bool:
        with stack.client() as client:
            project = client.find_project(loop.demo.task)
            assert project is not None
            open_tasks = [one for one in client.tasks(project.id) if not one["annotations"]]
            return bool(open_tasks) and all(
                [guess["model_version"] for guess in one["predictions"]] == [serving.version]
                for one in open_tasks
            )

    wait_for("every open task carries the champion's guess", shows_it, 120)


def test_status_tells_where_the_loop_stands(stack: DockerLab, loop: Loop) -> None:
    serving = champion(stack.home.nas, loop.demo.task)
    assert serving is not None
    said = stack.labloop("status")
    assert loop.demo.task in said and serving.version in said
    assert "labelled" in said and ("promoted" in said or "refused" in said)


def test_what_the_services_wrote_on_the_share_is_the_labs(stack: DockerLab, loop: Loop) -> None:
    written = [path for path in stack.home.nas.root.rglob("*") if path.lstat().st_uid == UID]
    assert len(written) > 100
    wrong = [path for path in written if path.lstat().st_gid != 2000]
    assert not wrong


def test_the_command_line_works_on_the_stack_in_docker(stack: DockerLab, loop: Loop) -> None:
    assert str(loop.outcome.rounds[0].version) in stack.labloop("models", loop.demo.task)
    assert loop.demo.task in stack.labloop("task", "list")
