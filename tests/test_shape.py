"""Every service has the same shape, so that whoever knows one knows them all."""

from pathlib import Path

import pytest

from stack.compose import read_compose

ROOT = Path(__file__).resolve().parent.parent
SERVICES = {service.name: service for service in read_compose(ROOT / "compose.yaml")}
ONLY_IN_DOCKER = ("files-lite",)  # the local runner shows people their own folders
EVERY = (*SERVICES, *ONLY_IN_DOCKER)
# Where the start is not `__main__.py`: it runs with another environment's Python, as a script.
STARTS = {"label-studio": "start.py"}


def folder_of(name: str) -> Path:
    room = name.replace("-", "_")
    return ROOT / room if room == "ml_backend" else ROOT / "services" / room


def test_services_of_the_stack_and_folders_are_the_same() -> None:
    """But for folders that set up other people's images: those have no Dockerfile."""
    folders = {path.parent for path in (ROOT / "services").glob("*/Dockerfile")}
    folders |= {path for path in (ROOT / "services").iterdir() if (path / "__init__.py").is_file()}
    assert folders | {ROOT / "ml_backend"} == {folder_of(name) for name in EVERY}


@pytest.mark.parametrize("name", EVERY)
def test_a_service_has_the_files_it_should(name: str) -> None:
    folder = folder_of(name)
    wanted = {"README.md"}
    if any(folder.glob("*.py")):  # a service with code of ours
        wanted |= {"__init__.py", STARTS.get(name, "__main__.py"), "settings.py", "health.py"}
    assert wanted <= {path.name for path in folder.iterdir()}


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_is_started_by_its_own_folder(name: str) -> None:
    folder, command = folder_of(name), SERVICES[name].local.command
    if any(folder.glob("*.py")):
        path = folder.relative_to(ROOT)
        start = STARTS.get(name)
        expected = f"{path}/{start}" if start else f"-m {'.'.join(path.parts)}"
        assert expected in " ".join(command)


@pytest.mark.parametrize("name", SERVICES)
def test_readmes_explain_every_setting_of_their_service(name: str) -> None:
    text = (folder_of(name) / "README.md").read_text(encoding="utf-8")
    keys = [key for key, value in SERVICES[name].environment.items() if value is None]
    own = [key for key in keys if key not in ("LOG_LEVEL", "POLL_S")]
    assert not [key for key in own if key not in text]


def test_every_test_folder_is_a_package() -> None:
    """Two test files of one name in different folders would otherwise hide each other."""
    folders = {path.parent for path in (ROOT / "tests").rglob("*.py")}
    assert not [folder for folder in folders if not (folder / "__init__.py").is_file()]
