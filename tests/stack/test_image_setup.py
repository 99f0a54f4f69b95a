"""What a build runs to make an environment; tests/docker builds real ones."""

import ast
import stat
import sys
from pathlib import Path

import pytest

from stack import image_setup
from stack.environments import ROOT
from stack.image_setup import (
    ImageSetupError,
    build_variables,
    check_torch,
    install_torch,
    make_environment,
    name_ourselves,
    pinned,
    torch_choices,
)


def program(path: Path, script: str) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


@pytest.mark.parametrize("name", ["image_setup.py", "pip_settings.py"])
def test_deepos_own_python_understands_the_setup(name: str) -> None:
    tree = ast.parse((ROOT / "stack" / name).read_text(encoding="utf-8"), feature_version=(3, 8))
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    assert "annotations" in [alias.name for alias in imports[0].names], "types are evaluated late"


def test_the_labs_certificates_count_for_both_installers() -> None:
    assert "PIP_CERT" not in build_variables({}, has_certificates=False)
    variables = build_variables({"PATH": "/bin"}, has_certificates=True)
    assert variables["PIP_CERT"] == variables["SSL_CERT_FILE"] == "/setup/ca.crt"
    assert variables["PATH"] == "/bin"


def test_versions_come_from_the_constraints() -> None:
    assert pinned("uv", "a-uv==2\nuv==1.2.3\n") == "1.2.3"
    with pytest.raises(ImageSetupError, match="does not say which torch"):
        pinned("torch", "uv==1.2.3\n")


def test_a_base_with_an_old_python_gets_another_one(tmp_path: Path) -> None:
    uv = program(tmp_path / "uv", f'echo "$@" >>{tmp_path}/asked; exit ${{FAIL:-0}}')
    make_environment(uv, (3, 12), {})
    make_environment(uv, (3, 8), {})
    own, fetched = (tmp_path / "asked").read_text().splitlines()
    assert own == f"venv --quiet --python {sys.executable} /opt/labloop"
    assert fetched == "venv --quiet --python 3.11 /opt/labloop"
    with pytest.raises(ImageSetupError, match=r"has Python 3\.8, expected 3\.11 or newer"):
        make_environment(uv, (3, 8), {"FAIL": "2"})


def test_torch_without_cuda_is_asked_for_by_its_tag_only() -> None:
    assert torch_choices("2.1", "none") == [
        ["torch==2.1+cpu"],
        ["--torch-backend", "cpu", "torch==2.1"],
    ]
    assert torch_choices("2.1", "13.0")[0] == ["torch==2.1+cu130"]
    assert torch_choices("2.1", "13.0")[-1] == ["torch==2.1"], "as most indexes have it"


def test_the_first_place_that_has_torch_is_taken(tmp_path: Path) -> None:
    uv = program(tmp_path / "uv", f'echo "$@" >>{tmp_path}/asked; case "$*" in *cpu*) exit 1; esac')
    install_torch([uv], "2.1", "13.0", {"PATH": "/bin"})
    assert (tmp_path / "asked").read_text() == "--no-deps torch==2.1+cu130\n"
    with pytest.raises(ImageSetupError, match=r"found on no index.*wheels=FOLDER"):
        install_torch([uv], "2.1", "none", {"PATH": "/bin"})


@pytest.mark.parametrize("cuda", ["none", "13.0"])
def test_the_build_fails_with_another_torch_than_was_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cuda: str
) -> None:
    monkeypatch.setattr(image_setup, "ENVIRONMENT", tmp_path)
    came = {"none": "2.1 None", "13.0": "2.1 13.0"}
    program(tmp_path / "bin" / "python", f"echo {came[cuda]}")
    check_torch("2.1", cuda, {"PATH": "/bin"})
    with pytest.raises(ImageSetupError, match=r"are 2\.1 .*, expected 2\.2"):
        check_torch("2.2", cuda, {"PATH": "/bin"})
    with pytest.raises(ImageSetupError, match=r"expected 2\.1 12\.6"):
        check_torch("2.1", "12.6", {"PATH": "/bin"})


def test_an_environment_says_which_version_of_ours_it_is_for(tmp_path: Path) -> None:
    packages = tmp_path / "lib" / "python3.11" / "site-packages"
    packages.mkdir(parents=True)
    name_ourselves(tmp_path, '[project]\nname = "labloop"\nversion = "1.2.3"\n')
    text = (packages / "labloop-1.2.3.dist-info" / "METADATA").read_text()
    assert "Name: labloop\nVersion: 1.2.3\n" in text
