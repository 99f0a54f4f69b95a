"""Who may import whom: the table of rooms, held over every file."""

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("imaging", "stack", "services", "ml_backend")
FILES = sorted(path for room in ROOMS for path in (ROOT / room).rglob("*.py"))

HEAVY = {"torch", "monai"}
# Only these may import the heavy ones, and OpenVINO.
MAY_IMPORT_HEAVY = ("imaging.model", "services.trainer")
MAY_IMPORT_OPENVINO = ("imaging.model", "ml_backend")
# The imaging core knows data, not machines.
NOT_IN_IMAGING = ("socket", "http.", "urllib.request", "httpx", "requests", "docker", "subprocess")
# Label Studio itself is configured by environment variables, so starting it means setting them.
STARTS_LABEL_STUDIO = {"services/label_studio/start.py", "services/label_studio/django_app.py"}


@dataclass(frozen=True, slots=True)
class Module:
    """A source file and the full names it imports, wherever in the file."""

    path: Path
    tree: ast.Module

    @property
    def where(self) -> str:
        return self.path.relative_to(ROOT).as_posix()

    @property
    def name(self) -> str:
        parts = self.path.relative_to(ROOT).with_suffix("").parts
        return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)

    def imports(self) -> Iterator[str]:
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{self.where}: import by full path"
                yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.fixture(scope="module")
def modules() -> list[Module]:
    return [Module(path, ast.parse(path.read_text(encoding="utf-8"))) for path in FILES]


def room_of(module: str) -> str:
    """`services.ingest` for a service, `stack.runtime`, else the top level."""
    parts = module.split(".")
    if parts[0] == "services" or parts[:2] == ["stack", "runtime"]:
        return ".".join(parts[:2])
    return parts[0]


def may_import(room: str, other: str) -> bool:
    if room == other:
        return True
    if room in ("imaging", "stack.runtime"):
        return False
    return other in ("imaging", "stack.runtime")  # and services never one another


def test_there_is_something_to_look_at() -> None:
    assert {path.relative_to(ROOT).parts[0] for path in FILES} == set(ROOMS)


def test_rooms_import_only_what_the_table_says(modules: list[Module]) -> None:
    wrong = [
        f"{module.where} imports {name}"
        for module in modules
        for name in module.imports()
        if name.split(".")[0] in ROOMS and not may_import(room_of(module.name), room_of(name))
    ]
    assert not wrong, "\n".join(wrong)


def test_the_runtime_needs_little_beyond_the_standard_library(modules: list[Module]) -> None:
    allowed = sys.stdlib_module_names | {"httpx", "watchdog", "stack"}
    wrong = [
        f"{module.where} imports {name}"
        for module in modules
        if room_of(module.name) == "stack.runtime"
        for name in module.imports()
        if name.split(".")[0] not in allowed
    ]
    assert not wrong, "\n".join(wrong)


def test_torch_and_openvino_are_imported_only_where_they_work(modules: list[Module]) -> None:
    wrong = []
    for module in modules:
        tops = {name.split(".")[0] for name in module.imports()}
        if tops & HEAVY and not module.name.startswith(MAY_IMPORT_HEAVY):
            wrong.append(f"{module.where} imports {tops & HEAVY}")
        if "openvino" in tops and not module.name.startswith(MAY_IMPORT_OPENVINO):
            wrong.append(f"{module.where} imports openvino")
    assert not wrong, "\n".join(wrong)


def test_imaging_knows_no_sockets_processes_or_environment(modules: list[Module]) -> None:
    wrong = []
    for module in modules:
        if room_of(module.name) == "imaging":
            found = [name for name in module.imports() if f"{name}.".startswith(NOT_IN_IMAGING)]
            wrong += [f"{module.where} imports {name}" for name in found]
            wrong += [f"{module.where} reads the environment"] * sees_environment(module)
    assert not wrong, "\n".join(wrong)


def test_only_settings_read_the_environment(modules: list[Module]) -> None:
    wrong = [
        module.where
        for module in modules
        if module.path.name != "settings.py"
        and module.where not in STARTS_LABEL_STUDIO
        and sees_environment(module, may_hand_it_on=True)
    ]
    assert not wrong, "\n".join(wrong)


def sees_environment(module: Module, *, may_hand_it_on: bool = False) -> bool:
    """Whether a module uses `os.environ`; handing it on is `Settings.from_env(os.environ)`."""
    nodes = list(ast.walk(module.tree))
    handed_on = {
        id(argument) for node in nodes if isinstance(node, ast.Call) for argument in node.args
    }
    return any(
        isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == "os"
        and node.attr in ("environ", "environb", "getenv", "putenv")
        and not (may_hand_it_on and id(node) in handed_on)
        for node in nodes
    ) or any(name.startswith("os.") and "env" in name for name in module.imports())


def test_the_setup_runs_before_anything_is_installed() -> None:
    """What `make setup` imports, it imports from the standard library."""
    seen: set[str] = set()
    todo = ["stack.setup_env"]
    while todo:
        name = todo.pop()
        path = ROOT / Path(*name.split(".")).with_suffix(".py")
        if name in seen or not path.is_file():
            continue
        seen.add(name)
        for found in Module(path, ast.parse(path.read_text(encoding="utf-8"))).imports():
            if found.split(".")[0] in ROOMS:
                todo += [found, found.rpartition(".")[0]]
            else:
                assert found.split(".")[0] in sys.stdlib_module_names, f"{name} imports {found}"
    assert {"stack.install", "stack.console", "stack.pip_settings"} <= seen
