import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from imaging.io.mask import MaskContent
from services.ingest.description import named_labels
from services.ingest.errors import SecondIngestError
from services.ingest.health import main as health
from services.ingest.inferred import scheme_of_masks
from services.ingest.service import MIN_WAIT_S, StateLock, run, run_once
from services.ingest.settings import IngestSettings
from services.ingest.tempo import Tempo
from stack.runtime.events import Alarm
from stack.runtime.settings import SettingsError
from tests.services.ingest.conftest import TASK, Lab, file_bytes, picture


def test_an_event_wakes_the_loop_long_before_the_poll(lab: Lab) -> None:
    alarm, stop = Alarm(), threading.Event()

    def drop_and_stop() -> None:
        """A person, who waits for the first round, and then for the file to be seen."""
        deadline = time.monotonic() + 10
        while lab.ingest.visitors.keys() != {TASK} and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(MIN_WAIT_S)
        lab.drop_picture("new/a.png", seed=1)
        while not lab.ingest.visitors[TASK].desk.items and time.monotonic() < deadline:
            time.sleep(0.05)
        stop.set()

    person = threading.Thread(target=drop_and_stop)
    alarm.start()
    person.start()
    try:
        run(lab.ingest, 60.0, stop, alarm)
    finally:
        person.join()
        alarm.stop()
    assert list(lab.ingest.visitors[TASK].desk.items) == ["new/a.png"]


def test_once_ends_when_all_is_done(lab: Lab) -> None:
    lab.tempo = Tempo.once(0.2, 1800.0)
    lab.restart()
    lab.ingest.tools = tools = lab._tools()
    object.__setattr__(tools, "clock", time.monotonic)
    lab.drop_picture("images/a.png", seed=1)
    lab.drop("images/bad.png", b"junk")
    lab.drop("masks/lonely.png", file_bytes(picture(3)))
    started = time.monotonic()
    assert run_once(lab.ingest, 0.2, threading.Event())
    assert time.monotonic() - started < 5
    assert len(lab.label_studio.cases()) == 1
    assert set(lab.refusals()) == {"not-an-image", "mask-without-picture"}


def test_once_ends_badly_while_label_studio_is_away(lab: Lab) -> None:
    lab.tempo = Tempo.once(0.1, 1800.0)
    lab.restart()
    lab.ingest.tools = tools = lab._tools()
    object.__setattr__(tools, "clock", time.monotonic)
    lab.label_studio.down = True
    lab.drop_picture("a.png", seed=1)
    assert not run_once(lab.ingest, 0.1, threading.Event())
    assert len(lab.cases()) == 1


def test_two_processes_cannot_share_a_state_folder(tmp_path: Path) -> None:
    with StateLock(tmp_path), pytest.raises(SecondIngestError), StateLock(tmp_path):
        pass
    with StateLock(tmp_path):
        pass


def environment(tmp_path: Path) -> dict[str, str]:
    secret = tmp_path / "secret"
    secret.write_text("s")
    files = ("LABEL_STUDIO_TOKEN", "ML_BACKEND_TOKEN", "WEBHOOK_SECRET", "PSEUDONYM_KEY")
    return {f"{name}_FILE": str(secret) for name in files} | {
        "NAS_ROOT": str(tmp_path / "nas"),
        "STATE_DIR": str(tmp_path / "state"),
        "HEARTBEAT_FILE": str(tmp_path / "state" / "heartbeat"),
        "LABEL_STUDIO_URL": "http://127.0.0.1:9",
        "ML_BACKEND_URL": "http://127.0.0.1:9",
        "WEBHOOK_URL": "http://127.0.0.1:9",
    }


def test_settings_have_defaults_and_name_every_problem(tmp_path: Path) -> None:
    settings = IngestSettings.from_env(environment(tmp_path))
    assert (settings.poll_s, settings.quiet_s, settings.file_events) == (5.0, 5.0, "auto")
    assert settings.full_scan_s == 1800.0 and settings.max_pixels == 100_000_000
    with pytest.raises(SettingsError) as caught:
        IngestSettings.from_env({"INGEST_QUIET_S": "soon", "FILE_EVENTS": "maybe"})
    assert len(caught.value.problems) >= 10


def test_the_process_pauses_without_a_marker_and_stops_on_request(tmp_path: Path) -> None:
    env = os.environ | environment(tmp_path)
    process = subprocess.Popen([sys.executable, "-m", "services.ingest"], env=env)
    try:
        heartbeat = tmp_path / "state" / "heartbeat"
        deadline = time.monotonic() + 20
        while not heartbeat.exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        assert "not mounted" in heartbeat.read_text()
        process.terminate()
        assert process.wait(10) == 0
    finally:
        process.kill()
        process.wait()


def test_the_health_check_tells_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HEARTBEAT_FILE", str(tmp_path / "heartbeat"))
    assert health() == 1
    assert "no heartbeat" in capsys.readouterr().out
    (tmp_path / "heartbeat").write_text("")
    assert health() == 0
    (tmp_path / "heartbeat").write_text("the NAS is gone")
    assert health() == 1
    assert capsys.readouterr().out.endswith("the NAS is gone\n")


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        ({"0": "background", "1": "liver", "2": "tumour"}, ("liver", "tumour")),
        ({"background": 0, "liver": 1}, ("liver",)),
        ({"background": 0, "whole": [1, 2], "core": 2}, ()),
        ({"0": "background", "2": "tumour"}, ()),
        ("nonsense", ()),
    ],
)
def test_label_names_of_both_dataset_json_dialects(labels: object, names: tuple[str, ...]) -> None:
    assert named_labels({"labels": labels}) == names
    assert named_labels([]) == ()


@pytest.mark.parametrize(
    ("contents", "names"),
    [
        ([MaskContent(values=(0, 255))], ("heart",)),
        ([MaskContent(values=(0, 65535)), MaskContent(values=(0, 1))], ("heart",)),
        (
            [MaskContent(values=(0, 1)), MaskContent(values=(0, 3))],
            ("label 1", "label 2", "label 3"),
        ),
        ([MaskContent(values=tuple(range(256)))], ("heart",)),
        ([MaskContent(colors=((0, 0, 0), (255, 0, 0)))], ("heart",)),
        (
            [MaskContent(colors=((0, 0, 0), (255, 0, 0))), MaskContent(colors=((0, 9, 0),))],
            ("label 1", "label 2"),
        ),
        ([], ("heart",)),
    ],
)
def test_masks_tell_their_labels(contents: list[MaskContent], names: tuple[str, ...]) -> None:
    assert scheme_of_masks(contents, "heart").names == names
