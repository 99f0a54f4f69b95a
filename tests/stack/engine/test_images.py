"""Which images a stack needs, and what is done about those that are missing."""

import json
from pathlib import Path

import pytest
import yaml

from stack.engine.compose_call import Compose
from stack.engine.images import (
    BUILD_OVERRIDES,
    MissingImageError,
    Wanted,
    build_overrides,
    cannot_be_had,
    ensure_images,
    image_settings,
    present_images,
    wanted_images,
)
from stack.engine.lab import OVERRIDES, Lab
from stack.engine.settings import LabSettings
from stack.environments import ROOT
from stack.home import Home
from tests.stack.engine.programs import calls, fake_docker

DOCUMENT = {
    "services": {
        "db": {"image": "docker.io/library/postgres:17"},
        "app": {"image": "lab/app:1", "build": {"args": {"BASE_IMAGE": "python:3.11"}}},
        "app-migrate": {"image": "lab/app:1"},
    }
}


def test_ours_are_those_that_any_service_builds() -> None:
    assert wanted_images(DOCUMENT) == [
        Wanted("lab/app:1", ("app", "app-migrate"), "app", "python:3.11"),
        Wanted("docker.io/library/postgres:17", ("db",)),
    ]


def test_images_are_found_under_the_engines_own_names(tmp_path: Path) -> None:
    record = {"tags": ["postgres:17"], "digests": None, "id": "sha256:1"}
    script = (
        f"echo; echo '{json.dumps(record)}'; echo 'Error: No such image: lab/app:1' >&2; exit 1"
    )
    docker = fake_docker(tmp_path, script)
    found = present_images(docker, ["docker.io/library/postgres:17", "lab/app:1"])
    assert found == {"docker.io/library/postgres:17": "sha256:1"}
    assert len(calls(tmp_path)) == 1 and present_images(docker, []) == {}


class FixedCompose(Compose):
    """Says what a test wrote down; builds nothing."""

    def run(self, *words: str, input_text: str | None = None, timeout_s: float = 1.0) -> str:
        return json.dumps(DOCUMENT)


def lab_in(folder: Path) -> Lab:
    compose = FixedCompose("t", folder, (), folder / "env", "lab")
    return Lab(Home(folder), LabSettings.from_env({}), compose, (), "1")


def test_when_all_is_there_nothing_else_is_asked(tmp_path: Path) -> None:
    records = [
        {"tags": [name], "digests": [], "id": "sha256:1"} for name in ("postgres:17", "lab/app:1")
    ]
    docker = fake_docker(tmp_path, "\n".join(f"echo '{json.dumps(one)}'" for one in records))
    brought = ensure_images(lab_in(tmp_path), docker)
    assert not brought.built and not brought.pulled and len(calls(tmp_path)) == 1


def test_offline_what_is_missing_is_refused_by_name(tmp_path: Path) -> None:
    docker = fake_docker(tmp_path, "echo 'No such image: x' >&2; exit 1")
    with pytest.raises(MissingImageError, match=r"lab/app:1 \(app, app-migrate\)") as error:
        ensure_images(lab_in(tmp_path), docker, offline=True)
    assert error.value.exit_code == 3 and "--bundle" in error.value.hint
    assert not [call for call in calls(tmp_path) if call.startswith("pull")]


def test_bases_that_cannot_be_had_are_refused_before_a_build(tmp_path: Path) -> None:
    script = 'case "$1" in image) echo "No such image: x" >&2;; *) echo "no such host" >&2;; esac'
    docker = fake_docker(tmp_path, f"{script}; exit 1")
    with pytest.raises(MissingImageError) as error:
        ensure_images(lab_in(tmp_path), docker)  # FixedCompose would have to build
    said = str(error.value)
    assert "python:3.11 (the base of app): no such host" in said
    assert "postgres:17 (for db): no such host" in said
    assert [call for call in calls(tmp_path) if call.startswith("pull")] == [
        "pull docker.io/library/postgres:17",
        "pull python:3.11",
    ]


def test_a_refusal_names_the_setting() -> None:
    base = "docker.io/library/python:3.11-slim-bookworm"
    wanted = Wanted("lab/app:1", ("app",), "app", base)
    error = cannot_be_had({base: wanted}, {base: "no such host"}, {})
    assert "BASE_IMAGE" in error.hint and "REGISTRY_PREFIX" in error.hint


def test_what_a_lab_gives_to_its_builds_picks_overrides() -> None:
    assert build_overrides({}) == [] == build_overrides({"WHEELS": ""})
    assert build_overrides({"WHEELS": "w", "PIP_CONFIG": "p"}) == ["build-pip", "build-wheels"]


@pytest.mark.parametrize("name", BUILD_OVERRIDES.values())
def test_an_override_reaches_every_service_that_is_built(name: str) -> None:
    services = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))["services"]
    built = {key for key, service in services.items() if "build" in service}
    override = yaml.safe_load((OVERRIDES / f"{name}.yaml").read_text(encoding="utf-8"))
    assert set(override["services"]) == built


def test_a_prefix_fills_in_names_and_leaves_those_that_are_given() -> None:
    settings = image_settings({"REGISTRY_PREFIX": "reg", "BASE_IMAGE": "own:1"})
    assert settings["BASE_IMAGE"] == "own:1" and settings["POSTGRES_IMAGE"].startswith("reg/lib")


def test_ours_are_pulled_where_the_labs_registry_has_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = {"image": "reg.lan/lab/app:1", "build": {"args": {"BASE_IMAGE": "python:3.11"}}}
    monkeypatch.setitem(DOCUMENT, "services", {"app": app})
    script = 'case "$1" in image) echo "No such image: x" >&2; exit 1;; esac'
    brought = ensure_images(lab_in(tmp_path), fake_docker(tmp_path, script))
    assert brought.pulled == ("reg.lan/lab/app:1",) and not brought.built
