"""Reading compose.yaml: what is understood, and that everything else is refused by name."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stack.compose import REFERENCE, HealthCheck, Probe, fill_in, read_compose, variables_in
from stack.environments import ROOT
from stack.errors import ComposeError

LOCAL = "x-local: {env: labloop, command: python run.py, health: {tcp: 'h:1'}}"


def write(folder: Path, text: str) -> Path:
    path = folder / "compose.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def problems_of(folder: Path, text: str) -> str:
    with pytest.raises(ComposeError) as caught:
        read_compose(write(folder, text))
    return str(caught.value)


def filled(folder: Path, entry: str, **variables: str) -> dict[str, str | None]:
    path = write(folder, f"services:\n  a:\n    environment: {{{entry}}}\n    {LOCAL}\n")
    return dict(fill_in(read_compose(path)[0], variables, path).environment)


def test_a_service_becomes_a_record(tmp_path: Path) -> None:
    text = """
    services:
      backend:
        environment: {LEVEL: info, THREADS: 2, HANDED: }
        depends_on: {store: {condition: service_healthy}}
        x-local:
          env: labloop
          command: python -m backend --word 'two words'
          port: BACKEND_PORT
          url: http://here
          health: {http: "http://here/health", start_s: 5}
          environment: {STATE: here}
          stop_s: 3
      store:
        x-local: {env: store, command: [run], health: {heartbeat: beat, stale_s: 9}}
    """
    backend, store = read_compose(write(tmp_path, text))
    assert backend.environment == {
        "LEVEL": "info",
        "THREADS": "2",
        "HANDED": None,
        "STATE": "here",
    }
    assert backend.depends_on == {"store": "service_healthy"}
    assert backend.local.command == ("python", "-m", "backend", "--word", "two words")
    assert backend.local.health == HealthCheck((Probe("http", "http://here/health"),), start_s=5.0)
    assert (backend.local.port, backend.local.stop_s) == ("BACKEND_PORT", 3.0)
    assert store.local.health == HealthCheck((Probe("heartbeat", "beat"),), stale_s=9.0)


def test_unknown_keys_are_refused_by_name_wherever_they_stand(tmp_path: Path) -> None:
    text = f"""
    configs: {{}}
    services:
      a:
        privileged: true
        x-note: nobody's business
        {LOCAL}
      b:
        x-local: {{env: e, command: c, health: {{tcp: 'h:1', every: 3}}, restart: always}}
    """
    message = problems_of(tmp_path, text)
    for found in (
        "the file: configs",
        "services.a: privileged",
        "health: every",
        "x-local: restart",
    ):
        assert found in message
    assert "x-note" not in message


def test_a_service_without_local_keys_is_another_runners_business(tmp_path: Path) -> None:
    text = f"services:\n  a:\n    depends_on: [docker-only]\n    {LOCAL}\n  docker-only: {{}}\n"
    (only,) = read_compose(write(tmp_path, text))
    assert (only.name, dict(only.depends_on)) == ("a", {})


def test_dependencies_must_exist_and_must_not_go_in_a_circle(tmp_path: Path) -> None:
    one = f"services:\n  a:\n    depends_on: [b]\n    {LOCAL}\n"
    assert "depends_on is 'b', expected one of a" in problems_of(tmp_path, one)
    two = f"{one}  b:\n    depends_on: [c]\n    {LOCAL}\n  c:\n    depends_on: [a]\n    {LOCAL}\n"
    assert "in a circle: a, b, c" in problems_of(tmp_path, two)


@pytest.mark.parametrize(
    ("local", "expected"),
    [
        ("{env: e, command: c}", "health is None, expected at least one of"),
        ("{env: e, command: '', health: {tcp: a}}", "command is '', expected a command line"),
        ('{env: e, command: "a \'b", health: {tcp: a}}', "expected a command line"),
        ("{command: c, health: {tcp: a}}", "env is None, expected text"),
        ("{env: e, command: c, health: {tcp: a}, stop_s: -1}", "stop_s is -1, expected seconds"),
        ("{env: e, command: c, health: {tcp: a}, environment: {A: true}}", "in quotes"),
    ],
)
def test_bad_local_keys_are_named(tmp_path: Path, local: str, expected: str) -> None:
    assert expected in problems_of(tmp_path, f"services: {{a: {{x-local: {local}}}}}")


def test_a_file_that_is_no_yaml_is_refused(tmp_path: Path) -> None:
    assert "compose.yaml" in problems_of(tmp_path, "services: [")
    with pytest.raises(ComposeError):
        read_compose(tmp_path / "absent.yaml")


def test_variables_are_filled_in_as_compose_does(tmp_path: Path) -> None:
    entry = "A: '${X}/runs', B: '${Y:-7}', C: '${X:-8}', D: 'costs $$5', E: , F: "
    assert filled(tmp_path, entry, X="nas", F="given") == {
        "A": "nas/runs",
        "B": "7",
        "C": "nas",
        "D": "costs $5",
        "F": "given",  # handed through; E is set nowhere, so the service does not get it
    }


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("${X}", "X is not set"),
        ("${X:?where is the NAS}", "X is not set: where is the NAS"),
        ("$X", "expected ${NAME}"),
        ("${X-default}", "expected ${NAME}"),
        ("${X", "expected ${NAME}"),
    ],
)
def test_a_variable_without_a_value_is_an_error(tmp_path: Path, text: str, expected: str) -> None:
    with pytest.raises(ComposeError) as caught:
        filled(tmp_path, f"A: '{text}'")
    assert expected in str(caught.value) and "services.a" in str(caught.value)


@given(st.text(alphabet="${}:-?AB c", max_size=30))
def test_no_reference_survives_unnoticed(text: str) -> None:
    """Every dollar is either part of a reference that is understood, or is reported."""
    rest = REFERENCE.sub(lambda match: "!" if match["bad"] is not None else "", text)
    assert "$" not in rest


def test_variables_are_listed_for_the_person_who_sets_them(tmp_path: Path) -> None:
    text = """
    services:
      a:
        environment: {LEVEL: , A: "${B}"}
        x-local: {env: e, command: ["${C}"], url: "${D}", health: {tcp: "${E}:1"},
                  environment: {F: "${G:-1}", H: "no $$I"}}
    """
    assert variables_in(read_compose(write(tmp_path, text))) == set("BCDEG") | {"LEVEL"}


def test_our_own_stack_is_understood() -> None:
    names = [service.name for service in read_compose(ROOT / "compose.yaml")]
    assert names == ["label-studio", "ml-backend", "ingest", "watchdog", "trainer", "tensorboard"]
