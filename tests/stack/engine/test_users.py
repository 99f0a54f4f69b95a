from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import cast

import pytest

from stack.engine import users
from stack.engine.compose_call import Compose, ComposeFailedError
from stack.engine.lab import Lab, make_lab
from stack.engine.settings import LabSettings
from stack.errors import UsageError
from stack.home import Home


@dataclass
class FakeCompose:
    """Answers as the services' own lists of people do."""

    answers: dict[str, str] = field(default_factory=dict)
    refuses: str = ""
    calls: list[tuple[tuple[str, ...], str | None]] = field(default_factory=list)

    def execute(self, service: str, *command: str, input_text: str | None = None) -> str:
        self.calls.append(((service, *command), input_text))
        if service == self.refuses:
            raise ComposeFailedError(("exec", service), 1, "the database is away")
        return self.answers.get(service, "done\n")


def lab_with(compose: FakeCompose, profile: str = "lab") -> Lab:
    settings = LabSettings.from_env({"COMPOSE_PROFILES": profile})
    lab = make_lab(Home(Path("/nowhere")), settings, [], "0-x")
    return replace(lab, compose=cast(Compose, compose))


def test_a_person_is_added_everywhere_and_the_password_goes_by_standard_input() -> None:
    compose = FakeCompose()
    said: list[str] = []
    users.add(lab_with(compose), "alice", "alice@lab.example", "long-enough", said.append)
    assert [call[0][0] for call in compose.calls] == ["label-studio", "nextcloud"]
    for words, given in compose.calls:
        assert given == "long-enough\n" and "long-enough" not in " ".join(words)
        assert words[-3:] == ("add", "alice", "alice@lab.example")
    assert said == ["label-studio: done", "nextcloud: done"]


def test_one_service_that_refuses_does_not_keep_the_others_from_it() -> None:
    compose = FakeCompose(refuses="label-studio")
    said: list[str] = []
    with pytest.raises(users.PeopleError, match="the database is away"):
        users.disable(lab_with(compose), "alice", said.append)
    assert said == ["nextcloud: done"]


def test_people_of_all_services_are_listed_by_name() -> None:
    compose = FakeCompose(
        {
            "label-studio": "alice\talice@lab.example\tenabled\nbob\tbob@lab.example\tdisabled\n",
            "nextcloud": "alice\talice@lab.example\tenabled\tlab\nadmin\t\tenabled\tadmin\n",
        }
    )
    people = users.list_people(lab_with(compose))
    assert [one.name for one in people] == ["admin", "alice", "bob"]
    assert people[1].access == {"label-studio": "enabled", "nextcloud": "enabled"}
    assert people[2].access == {"label-studio": "disabled"}


@pytest.mark.parametrize(
    ("name", "mail", "password"),
    [
        ("-alice", "a@b.c", "long-enough"),
        ("alice bob", "a@b.c", "long-enough"),
        ("alice", "alice", "long-enough"),
        ("alice", "a@b.c", "short"),
    ],
)
def test_what_no_service_would_take_is_refused_before_any_is_asked(
    name: str, mail: str, password: str
) -> None:
    compose = FakeCompose()
    with pytest.raises(UsageError):
        users.add(lab_with(compose), name, mail, password, print)
    assert not compose.calls


def test_a_box_that_only_trains_has_no_people() -> None:
    with pytest.raises(UsageError, match="only trains"):
        users.list_people(lab_with(FakeCompose(), "trainer"))
