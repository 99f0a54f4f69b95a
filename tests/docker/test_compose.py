"""Docker Compose and our reader understand the same by compose.yaml and what is laid over it."""

import json
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from stack.compose import Stack, all_variables, read_stack
from stack.environments import ROOT
from tests.docker.compose_json import as_json, duration, without_spelling
from tests.docker.engine import try_docker

pytestmark = pytest.mark.docker

COMPOSE_FILE = ROOT / "compose.yaml"
OVERRIDES = sorted((ROOT / "stack" / "overrides").glob("*.yaml"))
EVERYTHING = Path(__file__).with_name("everything.yaml")
PROFILES = sorted(
    {p for one in read_stack([COMPOSE_FILE], {}).containers.values() for p in one.profiles}
)
PROJECT = "t-compose"
# Values of the right kind for whatever the files ask; the ending of a name tells it.
KINDS = {"_PORT": "23456", "_MEMORY": "3g", "_SHM": "512m", "_UID": "1234", "_GID": "1235"}
KINDS |= {"_REPOSITORY": "/srv/backups", "_ENVIRONMENT": "/srv/file"}
KINDS |= {"_BIND": "127.0.0.1", "_DIR": "./here/../dir", "_PATH": "/srv/../srv/path", "_S": "77"}


@pytest.fixture(scope="session", autouse=True)
def engine() -> None:
    """No engine is needed, only the program and its plugin."""
    try:
        answer = try_docker("compose", "version", "--short")
    except OSError as error:
        pytest.skip(f"no docker program: {error}")
    if answer.returncode != 0:
        pytest.skip(f"no Compose plugin: {answer.stderr.strip()}")


def everything_set(files: Sequence[Path]) -> dict[str, str]:
    """A value for every variable there is."""

    def value(name: str) -> str:
        return next((v for ending, v in KINDS.items() if name.endswith(ending)), f"v-{name}")

    return {name: value(name) for name in sorted(all_variables(files))}


def compose_says(
    files: Sequence[Path], profile: str, settings: Mapping[str, str], folder: Path
) -> Any:
    env_file = folder / "settings.env"
    env_file.write_text("".join(f"{key}={value}\n" for key, value in settings.items()))
    command = ["docker", "compose", "--project-name", PROJECT, "--project-directory", str(ROOT)]
    command += [word for path in files for word in ("-f", str(path))]
    command += ["--env-file", str(env_file), "--profile", profile, "config", "--format", "json"]
    answer = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": str(folder)},
    )
    if answer.returncode != 0:
        errors = [line for line in answer.stderr.splitlines() if "level=warning" not in line]
        pytest.fail(f"{' '.join(command)}:\n" + "\n".join(errors))
    return without_spelling(json.loads(answer.stdout))


def we_say(files: Sequence[Path], settings: Mapping[str, str]) -> Stack:
    return read_stack(files, settings, project=PROJECT, folder=ROOT)


def differences(theirs: Any, ours: Any, where: str = "") -> list[str]:
    """Every place where the two are not the same, so that a failure names the key."""
    if isinstance(theirs, dict) and isinstance(ours, dict):
        found: list[str] = []
        for key in sorted(theirs.keys() | ours.keys()):
            place = f"{where}.{key}"
            if key not in ours or key not in theirs:
                side, value = ("Compose", theirs) if key in theirs else ("we", ours)
                found.append(f"{place}: only {side}: {value[key]!r}")
            else:
                found += differences(theirs[key], ours[key], place)
        return found
    return [] if theirs == ours else [f"{where}: Compose {theirs!r}, we {ours!r}"]


def compare(files: Sequence[Path], profile: str, settings: Mapping[str, str], folder: Path) -> None:
    theirs = compose_says(files, profile, settings, folder)
    ours = without_spelling(as_json(we_say(files, settings).with_profiles({profile})))
    assert differences(theirs, ours) == []


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("is_set", [False, True], ids=["nothing set", "everything set"])
def test_compose_and_we_understand_the_same(profile: str, is_set: bool, tmp_path: Path) -> None:
    files = [COMPOSE_FILE]
    compare(files, profile, everything_set(files) if is_set else {}, tmp_path)


@pytest.mark.parametrize("override", OVERRIDES, ids=lambda path: path.stem)
@pytest.mark.parametrize("profile", PROFILES)
def test_overrides_are_understood_as_well(profile: str, override: Path, tmp_path: Path) -> None:
    files = [COMPOSE_FILE, override]
    compare(files, profile, everything_set(files), tmp_path)


def test_all_that_overrides_may_use_is_merged_as_compose_does(tmp_path: Path) -> None:
    files = [COMPOSE_FILE, EVERYTHING]
    compare(files, "lab", {"POLL_S": "5", "REVISION": "", "LABEL_STUDIO_WORKERS": ""}, tmp_path)


def test_the_comparison_notices_a_key_that_one_side_lacks() -> None:
    ours = as_json(we_say([COMPOSE_FILE], {}))
    for service in ours["services"].values():
        assert differences({**ours, "services": {}}, ours)
        for key in service:
            less = {name: value for name, value in service.items() if name != key}
            assert differences(service, less) and differences(less, service)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(90, "1m30s"), (120, "2m0s"), (3600, "1h0m0s"), (0.5, "500ms"), (90.5, "1m30.5s"), (1, "1s")],
)
def test_durations_are_written_as_go_does(seconds: float, text: str) -> None:
    assert duration(seconds) == text
