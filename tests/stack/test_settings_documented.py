"""Every setting a process reads stands in compose.yaml, and every one is explained to people."""

import ast
import re
from dataclasses import dataclass
from pathlib import Path

import pytest

from stack.bootstrap import RUNNER_VARIABLES
from stack.compose import Service, read_compose, variables_in
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
HANDED_ON = {"LABEL_STUDIO_HOST", "CSRF_TRUSTED_ORIGINS"}
# For a process that is no service of the stack: the adapter inside somebody's own server.
NO_SERVICE = {"LABLOOP_TASK"}
# Read by the command line and the tests, from the shell alone.
SHELL = {"LABLOOP_HOME", "LABLOOP_DATA"}
# Its default differs from service to service, as the text beside it says.
MANY_DEFAULTS = {"POLL_S"}

SERVICES = {service.name: service for service in read_compose(ROOT / "compose.yaml")}


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


def keys_given_to(service: Service) -> set[str]:
    return {*service.environment, *service.local.environment}


def documented() -> dict[str, str]:
    text = (ROOT / ".env.example").read_text(encoding="utf-8")
    return dict(re.findall(r"^#([A-Z][A-Z0-9_]+)=(.*)$", text, re.MULTILINE))


@pytest.mark.parametrize("name", MODULES)
def test_a_service_is_given_exactly_what_it_reads(name: str) -> None:
    read = {setting.key for setting in settings_read_by(MODULES[name])}
    given = keys_given_to(SERVICES[name])
    assert given - HANDED_ON == read - NO_SERVICE


def test_every_service_of_the_stack_is_looked_at() -> None:
    assert MODULES.keys() | {"tensorboard"} == SERVICES.keys()
    assert not keys_given_to(SERVICES["tensorboard"])


def test_every_setting_is_explained_and_nothing_else_is() -> None:
    read = {setting.key for module in MODULES.values() for setting in settings_read_by(module)}
    assert documented().keys() == read | HANDED_ON | SHELL


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
    ports = {service.local.port for service in SERVICES.values() if service.local.port}
    may_set = variables_in(SERVICES.values()) - {*RUNNER_VARIABLES} - ports
    assert set(re.findall(r"^#([A-Z0-9_]+)=", theirs, re.MULTILINE)) == may_set


def test_a_setting_is_explained_once() -> None:
    text = Path(ROOT / ".env.example").read_text(encoding="utf-8")
    keys = re.findall(r"^#([A-Z][A-Z0-9_]+)=", text, re.MULTILINE)
    assert len(keys) == len(set(keys))
