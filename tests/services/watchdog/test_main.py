import pytest

from services.watchdog import health
from services.watchdog.__main__ import main


def test_unusable_settings_end_with_2_and_all_problems(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for key in ("NAS_ROOT", "STATE_DIR", "LABEL_STUDIO_URL"):
        monkeypatch.delenv(key, raising=False)
    assert main([]) == 2
    said = capsys.readouterr().err
    assert "NAS_ROOT is not set" in said and "LABEL_STUDIO_URL is not set" in said


def test_the_health_check_says_why_in_one_line(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    heartbeat = tmp_path_factory.mktemp("state") / "heartbeat"
    monkeypatch.setenv("HEARTBEAT_FILE", str(heartbeat))
    assert health.main() == 1
    heartbeat.write_text("no space is left")
    assert health.main() == 1
    heartbeat.write_text("")
    assert health.main() == 0
    assert capsys.readouterr().out == "no heartbeat yet\nno space is left\nhealthy\n"
