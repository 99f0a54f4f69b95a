"""Every setting a process reads stands in compose.yaml, and every one is explained to people."""

import ast
import re
from dataclasses import Field, dataclass, fields

import pytest

from stack.bootstrap import RUNNER_VARIABLES, known_settings
from stack.compose import all_variables, read_compose, read_stack
from stack.compose.document import load
from stack.compose.variables import references
from stack.engine.deepo import DeepoWishes
from stack.engine.names import DERIVED, SETTINGS
from stack.environments import ROOT
from stack.runtime.settings import EnvReader

# Which module reads the settings of which service. TensorBoard reads none.
MODULES = {
    "label-studio": "services/label_studio/settings.py",
    "ml-backend": "ml_backend/settings.py",
    "ingest": "services/ingest/settings.py",
    "watchdog": "services/watchdog/settings.py",
    "trainer": "services/trainer/settings.py",
}
# Label Studio reads these itself; they are handed on.
HANDED_ON = {
    *("LABEL_STUDIO_HOST", "CSRF_TRUSTED_ORIGINS"),
    *("SESSION_COOKIE_SECURE", "CSRF_COOKIE_SECURE"),
}
# For a process that is no service of the stack: the adapter inside somebody's own server.
NO_SERVICE = {"LABLOOP_TASK"}
# Read by the command line and the tests, from the shell alone.
SHELL = {"LABLOOP_HOME", "LABLOOP_DATA"}
# The default differs from service to service or from runner to runner, as the text beside it says.
MANY_DEFAULTS = {"POLL_S", "LABEL_STUDIO_WORKERS", "LABEL_STUDIO_DATABASE_HOST"}
# `labloop up` finds the machine's address; what compose.yaml says is for whoever does without it.
FOUND_OUT = {"LAB_HOST"}
# The same for both runners, so `x-local` has nothing to say about it.
THE_SAME = {"LABEL_STUDIO_USERNAME"}

COMPOSE_FILE = ROOT / "compose.yaml"
SERVICES = {service.name: service for service in read_compose(COMPOSE_FILE)}
CONTAINERS = read_stack([COMPOSE_FILE], {}).containers
PORTS = {service.local.port for service in SERVICES.values() if service.local.port}


@dataclass(frozen=True, slots=True)
class Setting:
    """One call of an EnvReader."""

    key: str
    default: str | None


def settings_read_by(module: str) -> list[Setting]:
    """Every `read.<kind>("KEY", …)` of a settings module."""
    tree = ast.parse((ROOT / module).read_text(encoding="utf-8"))
    found = []
    for node in ast.walk(tree):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
            continue
        if not hasattr(EnvReader, node.func.attr):
            continue
        key = node.args[0] if node.args else None
        if not (isinstance(key, ast.Constant) and isinstance(key.value, str)):
            continue
        if re.fullmatch(r"[A-Z][A-Z0-9_]+", key.value):
            found.append(Setting(key.value, _default(node)))
    return found


def _default(call: ast.Call) -> str | None:
    assert isinstance(call.func, ast.Attribute)
    position = 2 if call.func.attr == "choice" else 1
    nodes = [word.value for word in call.keywords if word.arg == "default"]
    nodes += call.args[position : position + 1]
    constants = [node.value for node in nodes if isinstance(node, ast.Constant)]
    return str(constants[0]) if constants else None


def documented() -> dict[str, str]:
    text = (ROOT / ".env.example").read_text(encoding="utf-8")
    return dict(re.findall(r"^#([A-Z][A-Z0-9_]+)=(.*)$", text, re.MULTILINE))


@pytest.mark.parametrize("name", MODULES)
def test_a_process_is_given_exactly_what_it_reads(name: str) -> None:
    read = {setting.key for setting in settings_read_by(MODULES[name])}
    assert SERVICES[name].environment.keys() - HANDED_ON == read - NO_SERVICE


@pytest.mark.parametrize("name", MODULES)
def test_a_container_is_given_nothing_that_nobody_reads(name: str) -> None:
    read = {setting.key for setting in settings_read_by(MODULES[name])}
    assert CONTAINERS[name].environment.keys() <= read | HANDED_ON


@pytest.mark.parametrize("name", SERVICES)
def test_what_is_right_in_docker_alone_never_reaches_a_process(name: str) -> None:
    """Every value of the common environment has another one, or none, under `x-local`."""
    fixed = {key for key, value in CONTAINERS[name].environment.items() if value is not None}
    own = load(COMPOSE_FILE)["services"][name]["x-local"].get("environment", {})
    assert fixed - THE_SAME <= own.keys()


def test_the_local_label_studio_is_told_nothing_of_https() -> None:
    given = SERVICES["label-studio"].environment
    assert [given[key] for key in ("SESSION_COOKIE_SECURE", "CSRF_COOKIE_SECURE")] == [None, None]
    assert CONTAINERS["label-studio"].environment["SESSION_COOKIE_SECURE"] == "1"


def test_every_service_of_the_stack_is_looked_at() -> None:
    assert MODULES.keys() | {"tensorboard"} == SERVICES.keys()
    assert not SERVICES["tensorboard"].environment


def test_every_setting_is_explained_and_nothing_else_is() -> None:
    read = {setting.key for module in MODULES.values() for setting in settings_read_by(module)}
    assert documented().keys() == read | HANDED_ON | SHELL | known_settings(COMPOSE_FILE)


@pytest.mark.parametrize("name", MODULES)
def test_the_defaults_people_read_are_those_of_the_code(name: str) -> None:
    text = documented()
    for setting in settings_read_by(MODULES[name]):
        told = text[setting.key]
        if setting.default is None or setting.key in MANY_DEFAULTS:
            continue
        assert _same(told, setting.default), (setting.key, told, setting.default)


def _same(told: str, meant: str) -> bool:
    try:
        return float(told) == float(meant)
    except ValueError:
        return told == meant


def test_people_are_told_apart_what_they_may_set_and_what_is_filled_in() -> None:
    text = (ROOT / ".env.example").read_text(encoding="utf-8")
    theirs = text.split("# --- in your shell", maxsplit=1)[0]
    assert set(re.findall(r"^#([A-Z0-9_]+)=", theirs, re.MULTILINE)) == known_settings(COMPOSE_FILE)


def test_what_the_runners_fill_in_is_no_setting_of_a_person() -> None:
    everything = all_variables([COMPOSE_FILE])
    assert everything >= DERIVED | {*RUNNER_VARIABLES} | PORTS
    assert not known_settings(COMPOSE_FILE) & (DERIVED | {*RUNNER_VARIABLES} | PORTS)


def test_what_the_docker_side_reads_is_known() -> None:
    text = (ROOT / "stack" / "engine" / "settings.py").read_text(encoding="utf-8")
    names = set(re.findall(r'"([A-Z][A-Z0-9_]+)"', text))
    assert names and names <= SETTINGS


@pytest.mark.parametrize("name", sorted(known_settings(COMPOSE_FILE)))
def test_the_defaults_people_read_are_those_of_compose_yaml(name: str) -> None:
    told = documented()[name]
    matches = [match for match in references(load(COMPOSE_FILE)) if match["name"] == name]
    meant = {match["text"] or "" for match in matches}
    if not matches or name in MANY_DEFAULTS | FOUND_OUT:
        return
    # The version of an image stands in compose.yaml alone.
    assert meant == {told} or (name.endswith("_IMAGE") and not told and len(meant) == 1)


@pytest.mark.parametrize("field", fields(DeepoWishes), ids=lambda field: field.name)
def test_the_defaults_people_read_are_those_of_deepo(field: Field[str]) -> None:
    told = documented()[f"DEEPO_{field.name.upper()}"]
    is_pinned_elsewhere = field.name in ("commit", "repository")
    assert told == ("" if is_pinned_elsewhere else field.default)


def test_a_setting_is_explained_once() -> None:
    text = (ROOT / ".env.example").read_text(encoding="utf-8")
    keys = re.findall(r"^#([A-Z][A-Z0-9_]+)=", text, re.MULTILINE)
    assert len(keys) == len(set(keys))
