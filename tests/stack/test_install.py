"""Making environments, with a uv that only pretends: what is asked of it, and when."""

import ast
import fcntl
import os
import sys
import threading
from pathlib import Path

import pytest

from stack import install_tool
from stack.environments import ROOT, STAMP, Checkout
from stack.errors import UsageError
from stack.install import UNFINISHED, run, set_up
from stack.install_tool import SetupError, Tool, find_tool

# Notes each call in `calls`, obeys the file `refuse` (a word that makes a call fail).
UV = f"""#!/bin/sh
here=$(dirname "$0")
if [ "$1" = --version ]; then echo "uv 9.9.9"; exit 0; fi
echo "$*" >> "$here/calls"
if [ -s "$here/refuse" ] && echo "$*" | grep -q -- "$(cat "$here/refuse")"; then
    echo "uv says no"; exit 1
fi
if [ "$1" = venv ]; then
    for folder; do :; done
    mkdir -p "$folder/bin" && ln -s {sys.executable} "$folder/bin/python"
fi
case "$*" in
    *--dry-run*) ;;
    *torch==1.0+cpu*) mkdir -p .venv/lib/python3/site-packages/torch-1.0+cpu.dist-info ;;
esac
"""
PYPROJECT = """
[project.optional-dependencies]
label-studio = ["label-studio", "gunicorn"]
"""


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Checkout:
    tools = tmp_path / ".envs" / "tools" / "bin"
    tools.mkdir(parents=True)
    (tools / "uv").write_text(UV)
    (tools / "uv").chmod(0o755)
    (tools / "python").write_text("#!/bin/sh\n")  # its pip has nothing to say
    (tools / "python").chmod(0o755)
    (tmp_path / "constraints.txt").write_text("torch==1.0\nuv==9.9.9\n")
    (tmp_path / "pyproject.toml").write_text(PYPROJECT)
    start = tmp_path / "services" / "label_studio" / "start.py"
    start.parent.mkdir(parents=True)
    start.write_text("import pathlib; pathlib.Path('template-made').touch()\n")
    monkeypatch.setattr("stack.install.sees_gpu", lambda: False)
    monkeypatch.setattr("stack.install.LOOK_EVERY_S", 0.02)
    return Checkout(tmp_path)


def calls(checkout: Checkout) -> list[str]:
    file = checkout.root / ".envs" / "tools" / "bin" / "calls"
    return file.read_text().splitlines() if file.exists() else []


def refuse(checkout: Checkout, word: str) -> None:
    (checkout.root / ".envs" / "tools" / "bin" / "refuse").write_text(word)


def test_environments_are_made_under_the_constraints(checkout: Checkout) -> None:
    set_up(checkout, ["label-studio"])
    make, install = calls(checkout)
    assert make.startswith("venv ") and make.endswith(str(checkout.root / ".envs/label-studio"))
    assert install.endswith("-c constraints.txt label-studio gunicorn")
    assert (checkout.root / "template-made").exists()
    assert not (checkout.root / ".envs" / "label-studio" / UNFINISHED).exists()


def test_nothing_is_done_when_nothing_changed(
    checkout: Checkout, capsys: pytest.CaptureFixture[str]
) -> None:
    set_up(checkout, ["labloop", "label-studio"])
    before = calls(checkout)
    set_up(checkout, ["labloop", "label-studio"])
    assert calls(checkout) == before
    assert capsys.readouterr().out.endswith("the environments are up to date\n")


@pytest.mark.parametrize("file", ["constraints.txt", "pyproject.toml"])
def test_a_change_of_what_is_wanted_installs_again(checkout: Checkout, file: str) -> None:
    set_up(checkout, ["label-studio"])
    with (checkout.root / file).open("a") as stream:
        stream.write("# another\n")
    set_up(checkout, ["label-studio"])
    assert [call.split()[0] for call in calls(checkout)] == ["venv", "pip", "pip"]


def test_another_python_makes_the_environment_anew(checkout: Checkout) -> None:
    set_up(checkout, ["label-studio"])
    kept = checkout.root / ".envs" / "label-studio" / "kept"
    kept.touch()
    set_up(Checkout(checkout.root, (*sys.version_info[:2], 99)), ["label-studio"])
    assert kept.exists()  # a later patch version is built upon
    set_up(Checkout(checkout.root, (3, 99, 0)), ["label-studio"])
    assert not kept.exists()


def test_what_is_half_made_is_made_anew(checkout: Checkout) -> None:
    refuse(checkout, "gunicorn")
    with pytest.raises(
        SetupError, match=r"label-studio: installing packages failed:\n.*\buv says no"
    ):
        set_up(checkout, ["label-studio"])
    folder = checkout.root / ".envs" / "label-studio"
    assert (folder / UNFINISHED).exists() and not (folder / STAMP).exists()
    (folder / "leftover").touch()
    refuse(checkout, "")
    set_up(checkout, ["label-studio"])
    assert not (folder / "leftover").exists() and checkout.is_ready(
        checkout.environment("label-studio")
    )


def test_a_lost_interpreter_is_noticed(checkout: Checkout) -> None:
    set_up(checkout, ["label-studio"])
    checkout.interpreter(checkout.environment("label-studio")).unlink()
    assert not checkout.is_ready(checkout.environment("label-studio"))
    set_up(checkout, ["label-studio"])
    assert checkout.is_ready(checkout.environment("label-studio"))


def test_one_failure_does_not_stop_the_other_environment(checkout: Checkout) -> None:
    refuse(checkout, "gunicorn")
    with pytest.raises(SetupError):
        set_up(checkout, ["labloop", "label-studio"])
    assert checkout.is_ready(checkout.environment("labloop"))


# --- PyTorch ----------------------------------------------------------------------------------


def torch_calls(checkout: Checkout) -> list[str]:
    return [call for call in calls(checkout) if "torch==" in call]


def test_without_a_gpu_the_cpu_build_comes_from_the_users_own_indexes(checkout: Checkout) -> None:
    set_up(checkout, ["labloop"])
    ask, install = torch_calls(checkout)
    assert ask == f"{install} --dry-run" and "torch==1.0+cpu" in ask and "--no-deps" in ask
    assert "torch-backend" not in ask


def test_else_from_pytorchs_own_index(checkout: Checkout) -> None:
    refuse(checkout, "torch==1.0+cpu")
    set_up(checkout, ["labloop"])
    assert [
        ("--torch-backend cpu" in call, "--dry-run" in call) for call in torch_calls(checkout)
    ] == [
        (False, True),
        (True, True),
        (True, False),
    ]


def test_else_the_usual_build_after_a_word_about_its_size(
    checkout: Checkout, capsys: pytest.CaptureFixture[str]
) -> None:
    refuse(checkout, "torch==")
    set_up(checkout, ["labloop"])
    assert "3 GB to download" in capsys.readouterr().err
    assert checkout.is_ready(checkout.environment("labloop"))


def test_an_upgrade_stays_with_the_cpu_build(checkout: Checkout) -> None:
    set_up(checkout, ["labloop"])
    old = checkout.root / ".venv" / "lib" / "python3" / "site-packages"
    (old / "torch-1.0+cpu.dist-info").rename(old / "torch-0.9+cpu.dist-info")
    (checkout.root / ".venv" / STAMP).unlink()
    before = len(torch_calls(checkout))
    set_up(checkout, ["labloop"])
    assert len(torch_calls(checkout)) == before + 2


def test_with_a_gpu_the_usual_build_is_right(
    checkout: Checkout, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stack.install.sees_gpu", lambda: True)
    set_up(checkout, ["labloop"])
    assert torch_calls(checkout) == []


def test_an_index_that_never_answers_is_given_up(
    checkout: Checkout, monkeypatch: pytest.MonkeyPatch
) -> None:
    uv = checkout.root / ".envs" / "tools" / "bin" / "uv"
    uv.write_text(UV.replace("*--dry-run*) ;;", "*--dry-run*) exec sleep 60 ;;"))
    monkeypatch.setattr("stack.install.QUESTION_S", 0.1)
    set_up(checkout, ["labloop"])
    assert checkout.is_ready(checkout.environment("labloop"))


# --- the tool ---------------------------------------------------------------------------------


def test_a_second_setup_waits_for_the_first(
    checkout: Checkout, capsys: pytest.CaptureFixture[str]
) -> None:
    with (checkout.root / ".envs" / ".lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        second = threading.Thread(target=set_up, args=(checkout, ["label-studio"]))
        second.start()
        second.join(0.3)
        assert second.is_alive() and calls(checkout) == []
    second.join(20)
    assert "waiting" in capsys.readouterr().out and len(calls(checkout)) == 2


def test_bare_debian_is_told_which_package_is_missing(
    checkout: Checkout, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(install_tool, "answers", lambda *_: False)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(SetupError, match="ensurepip") as caught:
        find_tool(checkout)
    assert caught.value.hint == "apt-get install python3-venv"


def test_uv_is_used_with_the_users_pip_configuration(checkout: Checkout) -> None:
    python = checkout.root / ".envs" / "tools" / "bin" / "python"
    words = """:env:.find-links='/one /two'\nglobal.no-index='1'"""
    python.write_text(f"#!/bin/sh\ncat <<'END'\n{words}\nEND\n")
    tool = find_tool(checkout)
    assert tool.uv is not None and tool.variables["UV_FIND_LINKS"] == "/one,/two"
    assert tool.install(Path("p"), "x")[-2:] == ["--no-index", "x"]
    assert "/one" not in repr(tool)  # indexes may carry passwords


def test_pip_does_it_where_uv_cannot_be_had() -> None:
    tool = Tool(Path("/usr/bin/python3"), None, {})
    assert tool.make(Path("env")) == ["/usr/bin/python3", "-m", "venv", "env"]
    assert tool.install(Path("env/bin/python"), "x")[:4] == [
        "env/bin/python",
        "-m",
        "pip",
        "install",
    ]


def test_an_unknown_environment_is_wrong_usage(checkout: Checkout) -> None:
    with pytest.raises(UsageError, match="expected one of labloop"):
        set_up(checkout, ["lablop"])
    assert run(["--with", "lablop"]) == 2


def test_an_old_python_can_read_the_door() -> None:
    """It must parse, to say that it is too old."""
    source = (ROOT / "stack" / "setup_env.py").read_text(encoding="utf-8")
    tree = ast.parse(source, feature_version=(3, 5))
    imported_at_once = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    assert all(isinstance(node, ast.Import) for node in imported_at_once)
