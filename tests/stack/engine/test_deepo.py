"""Composing a base with deepo's generator; a tiny repository stands in for the real one."""

import subprocess
from pathlib import Path

import pytest

from stack.engine.deepo import (
    DeepoError,
    DeepoWishes,
    adapted,
    compose_dockerfile,
    fetched,
    generator_words,
)
from stack.errors import UsageError

# In the words of the real one: the lines that matter, and how it reads its command line.
GENERATOR = r"""
import argparse
parser = argparse.ArgumentParser()
parser.add_argument("path")
parser.add_argument("modules", nargs="*")
parser.add_argument("--cuda-ver")
parser.add_argument("--cudnn-ver")
parser.add_argument("--ubuntu-ver", default="20.04")
args = parser.parse_args()
python = [m.partition("==")[2] or "3.8" for m in args.modules if m.startswith("python")]
cudnn = f"-cudnn{args.cudnn_ver}" if args.cudnn_ver else ""
base = f"nvidia/cuda:{args.cuda_ver}{cudnn}-devel-ubuntu{args.ubuntu_ver}"
if args.cuda_ver is None:
    base = f"ubuntu:{args.ubuntu_ver}"
lines = [f"FROM {base}", "ENV LANG C.UTF-8", 'RUN APT_INSTALL="apt-get install -y" && \\']
for v in python:
    lines += [
        "    $APT_INSTALL \\",
        f"        python{v} \\",
        f"        python{v}-distutils \\",
        "        && \\",
        "    wget -O ~/get-pip.py \\",
        "        https://bootstrap.pypa.io/get-pip.py && \\",
        f"    python{v} ~/get-pip.py && \\",
        f"    ln -s /usr/bin/python{v} /usr/local/bin/python && \\",
    ]
open(args.path, "w").write("\n".join([*lines, "    ldconfig", ""]))
"""


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("deepo")
    (root / "generator").mkdir()
    (root / "generator" / "generate.py").write_text(GENERATOR)
    identity = ["-c", "user.name=n", "-c", "user.email=n@example.org"]
    for words in (["init", "--quiet"], ["add", "."], [*identity, "commit", "--quiet", "-m", "x"]):
        subprocess.run(["git", *words], cwd=root, check=True, capture_output=True)
    return root


def wishes(repository: Path, **given: str) -> DeepoWishes:
    words = ["git", "-C", str(repository), "rev-parse", "HEAD"]
    commit = subprocess.run(words, check=True, capture_output=True, text=True).stdout.strip()
    settings = {f"DEEPO_{name.upper()}": value for name, value in given.items()}
    settings = {"DEEPO_REPOSITORY": str(repository), "DEEPO_COMMIT": commit} | settings
    return DeepoWishes.from_settings(settings)


def compose(wishes: DeepoWishes, folder: Path) -> str:
    return compose_dockerfile(wishes, folder).read_text()


def test_todays_ubuntu_gets_todays_python(repository: Path, tmp_path: Path) -> None:
    text = compose(wishes(repository), tmp_path)
    assert text.startswith("FROM docker.io/nvidia/cuda:13.0.2-devel-ubuntu24.04\n")
    assert "python3.12 \\" in text and "distutils" not in text
    assert "ln -sf /usr/bin/python3.12 /usr/local/bin/python3 && \\" in text
    assert "ENV PIP_BREAK_SYSTEM_PACKAGES=1" in text
    assert "--mount=type=secret,id=pip" in text and text.count("RUN ") == 1


def test_an_older_ubuntu_is_left_as_it_is_written(repository: Path, tmp_path: Path) -> None:
    text = compose(wishes(repository, ubuntu="22.04", python="3.10", cuda="none"), tmp_path)
    assert text.startswith("FROM docker.io/library/ubuntu:22.04\n")
    assert "python3.10-distutils" in text and "PIP_BREAK" not in text


def test_the_same_wishes_give_the_same_tag_and_others_another(
    repository: Path, tmp_path: Path
) -> None:
    usual = compose_dockerfile(wishes(repository), tmp_path)
    assert usual.parent.name.startswith("cu13.0.2-py3.12-")
    assert compose_dockerfile(wishes(repository), tmp_path) == usual
    assert compose_dockerfile(wishes(repository, base="own:1"), tmp_path) != usual


def test_get_pip_comes_from_elsewhere_when_asked(repository: Path, tmp_path: Path) -> None:
    mirror = "https://mirror.lan/get-pip.py"
    text = compose(wishes(repository, get_pip=mirror), tmp_path)
    assert mirror in text and "bootstrap.pypa.io" not in text
    text = compose(wishes(repository, get_pip="apt"), tmp_path)
    assert "$APT_INSTALL python3-pip && \\" in text and "get-pip" not in text


def test_the_generator_is_asked_by_its_own_options() -> None:
    given = DeepoWishes(modules="python, opencv", cuda="12.1.1", cudnn="8", ubuntu="22.04")
    assert generator_words(given) == [
        *("python==3.12", "opencv", "--ubuntu-ver", "22.04"),
        *("--cuda-ver", "12.1.1", "--cudnn-ver", "8"),
    ]
    assert generator_words(DeepoWishes(modules="pytorch"))[:2] == ["python==3.12", "pytorch"]
    assert generator_words(DeepoWishes(modules="tools", cuda="none"))[0] == "tools"


@pytest.mark.parametrize(
    ("settings", "base"),
    [
        ({"DEEPO_CUDNN": "yes"}, "docker.io/nvidia/cuda:13.0.2-cudnn-devel-ubuntu24.04"),
        (
            {"DEEPO_CUDA": "12.1.1", "DEEPO_CUDNN": "8", "DEEPO_UBUNTU": "22.04"},
            "docker.io/nvidia/cuda:12.1.1-cudnn8-devel-ubuntu22.04",
        ),
        ({"REGISTRY_PREFIX": "reg.lan/hub"}, "reg.lan/hub/nvidia/cuda:13.0.2-devel-ubuntu24.04"),
        ({"DEEPO_BASE": "own:1", "REGISTRY_PREFIX": "reg.lan"}, "own:1"),
    ],
)
def test_the_base_follows_from_the_versions(settings: dict[str, str], base: str) -> None:
    assert DeepoWishes.from_settings(settings).base == base


def test_all_wrong_wishes_are_told_at_once() -> None:
    wrong = {"DEEPO_CUDA": "new", "DEEPO_COMMIT": "main", "DEEPO_MODULES": "python;rm"}
    with pytest.raises(UsageError, match=r"DEEPO_CUDA.*DEEPO_COMMIT.*DEEPO_MODULES") as error:
        DeepoWishes.from_settings(wrong)
    assert error.value.exit_code == 2


def test_a_commit_that_is_there_is_not_fetched_again(repository: Path, tmp_path: Path) -> None:
    given = wishes(repository)
    fetched(given.repository, given.commit, tmp_path / "source")
    assert fetched("/nowhere", given.commit, tmp_path / "source").is_dir()
    with pytest.raises(DeepoError, match="git fetch"):
        fetched("/nowhere", "0" * 40, tmp_path / "source")


def test_a_dockerfile_of_another_form_is_refused() -> None:
    with pytest.raises(DeepoError, match="no line like"):
        adapted("FROM a\nRUN true\n", DeepoWishes(base="b"))
