"""The command line: exit codes, messages, and that it answers at once."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from imaging.publish import write_json
from stack.bootstrap import init_nas
from stack.cli import INTERRUPTED, build_parser, main
from stack.control import stop
from stack.engine.lab import make_lab, save_lab
from stack.engine.settings import LabSettings
from stack.home import Home
from stack.lock import only_supervisor
from stack.processes import marked, start_time
from stack.state import ServiceStatus, StackStatus, write_state
from stack.status import COUNTS
from tests.stack.fake_stack import beat, service, web, write_stack

# What takes long to import; a verb that needs one of these imports it when it runs.
HEAVY = ("torch", "monai", "openvino", "scipy", "numpy", "httpx", "matplotlib", "starlette")


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    home = Home(tmp_path / "home")
    yield home
    stop(home)


def labloop(*words: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "stack.cli", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


@pytest.mark.parametrize("words", [("--help",), ("status", "--home", "{home}"), ("up", "--help")])
def test_heavy_modules_are_not_imported_to_answer(home: Home, words: tuple[str, ...]) -> None:
    arguments = [word.replace("{home}", str(home.root)) for word in words]
    code = (
        "import sys\nfrom stack.cli import main\n"
        f"try:\n    main({arguments!r})\nexcept SystemExit:\n    pass\n"
        f"sys.stderr.write(' '.join(sorted(set({HEAVY!r}) & set(sys.modules))))"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert answer.stderr == "" and answer.stdout


def test_home_and_debug_are_taken_before_and_after_the_verb() -> None:
    parser = build_parser()
    for words in (
        ["--home", "h", "status"],
        ["status", "--home", "h"],
        ["nas", "init", "f", "--home", "h"],
    ):
        assert parser.parse_args(words).home == Path("h")
    assert parser.parse_args(["--home", "a", "status", "--home", "b"]).home == Path("b")
    assert parser.parse_args(["--debug", "down"]).debug


def test_every_verb_names_the_function_that_acts() -> None:
    parser = build_parser()
    for words in (["down"], ["logs"], ["doctor"], ["setup"], ["up", "--local"], ["task", "list"]):
        assert callable(parser.parse_args(words).act)


@pytest.mark.parametrize(
    "words",
    [
        ["no-such-verb"],
        ["up", "--local", "--port", "a=x"],
        ["logs", "-n", "many"],
        ["status", "--home", ""],
        ["down", "--home", " "],
    ],
)
def test_wrong_usage_is_exit_code_2(words: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(words)
    assert caught.value.code == 2


@pytest.mark.parametrize(
    ("ports", "words"),
    [
        (("a=12345", "b=12345"), "port 12345 is given to a and b"),
        (("a=12345", "a=12346"), "a is given the ports 12345 and 12346"),
        (("a={taken}",), "port {taken}, asked for a, is in use"),
    ],
)
def test_ports_that_cannot_be_given_are_wrong_usage(
    home: Home,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    ports: tuple[str, ...],
    words: str,
) -> None:
    second = {"port": "B_PORT"}
    compose = write_stack(tmp_path / "stack", a=web(), b=beat(**second))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        taken = str(listener.getsockname()[1])
        given = [f"--port={port.replace('{taken}', taken)}" for port in ports]
        up = ["up", "--local", *given, "--home", str(home.root), "--compose", str(compose)]
        assert main(up) == 2
        assert words.replace("{taken}", taken) in capsys.readouterr().err


@pytest.mark.parametrize("place", ["/proc/nowhere", "{file}"])
def test_a_home_that_cannot_be_made_is_wrong_usage(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], place: str
) -> None:
    (tmp_path / "file").touch()
    place = place.replace("{file}", str(tmp_path / "file"))
    assert main(["up", "--local", "--home", place]) == 2
    words = capsys.readouterr().err
    assert place in words and "Error" not in words


def test_a_demo_set_that_is_unknown_is_wrong_usage(
    home: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["demo", "--data", "nope", "--home", str(home.root)]) == 2
    words = capsys.readouterr().err
    assert "cardiac_lv_sunnybrook" in words and "LABLOOP_DATA" in words
    assert "make setup" not in words


def test_an_interruption_while_the_command_line_is_read_is_quiet(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("stack.cli.build_parser", interrupt)
    assert main(["status"]) == INTERRUPTED
    assert capsys.readouterr().err == ""


def test_hardly_anything_is_imported_before_an_interruption_would_be_quiet() -> None:
    code = "import sys, stack.cli; print(*(name for name in sys.modules if 'stack' in name))"
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert answer.stdout.split() == ["stack", "stack.cli"]


def test_status_of_a_stack_that_never_ran(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "--home", str(home.root)]) == 1
    answer = capsys.readouterr()
    assert "not running" in answer.out and "label-studio" in answer.out
    assert f"there is no home at {home.root}" in answer.out
    assert main(["status", "--json", "--home", str(home.root)]) == 1
    record = json.loads(capsys.readouterr().out)
    assert record["healthy"] is False and record["services"][0]["state"] == "stopped"
    assert not home.root.exists()  # looking makes nothing


def test_status_counts_the_deaths_of_a_service_that_is_well_in_between(
    home: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    last = "ended with exit code 3 after 61 s"
    again = f"{last}; starts again in 1 s"
    services = (
        ServiceStatus("shop", "healthy", deaths=14, last_death=last),
        ServiceStatus("till", "restarting", reason=again, deaths=1, last_death=last),
    )
    with only_supervisor(home):
        pid = os.getpid()
        write_state(home, StackStatus(pid, start_time(pid) or 0, "", services))
        main(["status", "--home", str(home.root)])
    words = capsys.readouterr().out
    assert f"died 14 times in the last hour, last: {last}" in words
    assert f"{again}; died once in the last hour" in words


def test_cases_that_nobody_has_answered_are_not_said_to_wait(
    home: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    init_nas(home.nas_folder).task("Task001_heart").root.mkdir()
    counts = dict.fromkeys(COUNTS, 1)
    write_json(home.state("watchdog") / "Task001_heart.json", counts)
    main(["status", "--home", str(home.root)])
    words = "1 labelled, 1 unanswered, 1 new, 1 left out, 1 set aside"
    assert words in capsys.readouterr().out


def test_down_without_a_stack_is_no_failure(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["down", "--home", str(home.root)]) == 0
    assert "nothing was running" in capsys.readouterr().out


def test_an_error_has_a_message_a_hint_and_no_traceback(home: Home, tmp_path: Path) -> None:
    compose = write_stack(tmp_path / "stack", shop=web())
    answer = labloop("up", "--local", "-d", "--home", home.root, "--compose", compose, "--nas", "/")
    assert answer.returncode == 3  # refused by a check
    assert "error: / has no marker file" in answer.stderr
    assert "hint:  Mount it, or make it one with `labloop nas init /`." in answer.stderr
    assert "Traceback" not in answer.stderr + answer.stdout
    debug = labloop("--debug", *answer.args[3:])
    assert "Traceback" in debug.stderr and "RefusedError" in debug.stderr


def test_a_fault_of_ours_is_told_as_one(
    home: Home, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fall_over(*_: object) -> None:
        raise KeyError("oops")

    monkeypatch.setattr("stack.status.overview", fall_over)
    assert main(["status", "--home", str(home.root)]) == 1
    assert "KeyError: 'oops'" in capsys.readouterr().err


def test_up_in_the_background_status_logs_and_down(home: Home, tmp_path: Path) -> None:
    compose = write_stack(tmp_path / "stack", shop=web(login="me@lab"), till=beat())
    up = ("up", "--local", "--home", home.root, "--compose", compose)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    started = labloop(*up, "-d", "--port", f"shop={port}")
    assert started.returncode == 0, started.stderr
    assert f"http://127.0.0.1:{port}/" in started.stdout and "me@lab" in started.stdout
    password = home.secret("admin-password").read_text().strip()
    assert password not in started.stdout + started.stderr

    begun = time.monotonic()
    status = labloop("status", "--home", home.root)
    assert time.monotonic() - begun < 5.0  # 0.15 s when nobody else needs the cores
    assert status.returncode == 0 and "healthy" in status.stdout
    again = labloop(*up)
    assert again.returncode == 1 and "is running" in again.stderr

    assert "web says hello" in labloop("logs", "shop", "--home", home.root).stdout
    assert "shop       | web says hello" in labloop("logs", "--home", home.root).stdout
    unknown = labloop("logs", "nobody", "--home", home.root)
    assert unknown.returncode == 2 and "expected one of shop, supervisor, till" in unknown.stderr

    ended = labloop("down", "--home", home.root)
    assert ended.returncode == 0 and "the stack is down" in ended.stdout
    assert marked(home.root) == []


def test_up_reports_the_service_that_cannot_start(home: Home, tmp_path: Path) -> None:
    compose = write_stack(tmp_path / "stack", shop=service("crash", "2"))
    answer = labloop("up", "--local", "-d", "--home", home.root, "--compose", compose)
    assert answer.returncode == 1
    assert "shop failing (ended with exit code 2" in answer.stderr
    status = labloop("status", "--home", home.root)
    assert "last lines of shop" in status.stdout and "the disk is on fire" in status.stdout


def test_up_shows_why_a_service_fails_and_names_no_others(home: Home, tmp_path: Path) -> None:
    slow = beat(health={"heartbeat": "${STATE_DIR}/never", "start_s": 60})
    compose = write_stack(tmp_path / "stack", shop=service("crash", "2"), till=slow)
    answer = labloop("up", "--local", "-d", "--home", home.root, "--compose", compose)
    assert answer.returncode == 1
    assert "shop failing (ended with exit code 2" in answer.stderr and "till" not in answer.stderr
    assert "the disk is on fire" in answer.stdout
    assert "The rest keeps running; `labloop down` stops it." in answer.stderr
    assert len(marked(home.root, "till")) == 1


def test_up_on_a_running_stack_takes_no_options_and_only_greets(home: Home, tmp_path: Path) -> None:
    compose = write_stack(tmp_path / "stack", shop=web())
    up = ("up", "--local", "-d", "--home", home.root, "--compose", compose)
    assert labloop(*up).returncode == 0
    greeting = labloop(*up)
    assert greeting.returncode == 0 and "http://127.0.0.1" in greeting.stdout
    assert "starts" not in greeting.stdout
    for option in (("--port", "shop=12345"), ("--nas", tmp_path), ("--env-file", tmp_path / "x")):
        answer = labloop(*up, *option)
        assert answer.returncode == 1
        assert "is running" in answer.stderr and "`labloop down`" in answer.stderr


def test_a_ctrl_c_while_a_background_stack_starts_says_that_it_goes_on(
    home: Home, tmp_path: Path
) -> None:
    slow = beat(health={"heartbeat": "${STATE_DIR}/never", "start_s": 60})
    command = [sys.executable, "-m", "stack.cli", "up", "--local", "-d", "--home", str(home.root)]
    with subprocess.Popen(
        [*command, "--compose", str(write_stack(tmp_path / "stack", shop=slow))],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None and "the stack starts" in process.stdout.readline()
        os.kill(process.pid, 2)
        words, complaint = process.communicate(timeout=20)
    assert process.returncode == 130 and complaint == ""
    assert "goes on in the background" in words and "labloop down" in words
    assert marked(home.root)


def test_a_stack_in_the_background_speaks_of_no_ctrl_c(home: Home, tmp_path: Path) -> None:
    compose = write_stack(tmp_path / "stack", shop=beat())
    up = labloop("up", "--local", "-d", "--home", home.root, "--compose", compose)
    assert up.returncode == 0 and "Ctrl-C" not in up.stdout
    assert "Ctrl-C" not in home.log("supervisor").read_text()


def test_a_ctrl_c_stops_a_stack_in_the_foreground(home: Home, tmp_path: Path) -> None:
    compose = write_stack(tmp_path / "stack", shop=beat())
    command = [sys.executable, "-m", "stack.cli", "up", "--local", "--home", str(home.root)]
    with subprocess.Popen(
        [*command, "--compose", str(compose)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        while "Ctrl-C" not in process.stdout.readline():
            assert process.poll() is None
        os.kill(process.pid, 2)
        assert process.wait(timeout=20) == 0
    assert marked(home.root) == []


def test_logs_into_a_closed_pipe_end_quietly(home: Home) -> None:
    home.logs.mkdir(parents=True)
    home.log("shop").write_text("line\n" * 20_000)
    command = f"{sys.executable} -m stack.cli logs shop -n 20000 --home {home.root} | head -n 1"
    answer = subprocess.run(
        ["bash", "-c", command], capture_output=True, text=True, check=True, timeout=60
    )
    assert (answer.stdout, answer.stderr) == ("line\n", "")


def test_a_folder_becomes_a_share(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["nas", "init", str(tmp_path / "share")]) == 0
    assert (tmp_path / "share" / ".labloop").is_file()
    assert "labloop up --local --nas" in capsys.readouterr().out


def test_the_local_runner_leaves_a_home_of_docker_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = {"STACK_NAME": "heart"}
    save_lab(make_lab(Home(tmp_path), LabSettings.from_env(given), [], "0-x"), given)
    assert main(["up", "--local", "--home", str(tmp_path)]) == 3
    assert "is in Docker" in capsys.readouterr().err
