from pathlib import Path

import pytest

from services.watchdog.settings import WatchdogSettings
from stack.runtime.settings import SettingsError


def test_all_problems_are_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as caught:
        WatchdogSettings.from_env({"WATCHDOG_PORT": "x", "POLL_S": "0"})
    found = "; ".join(caught.value.problems)
    for key in ("NAS_ROOT", "STATE_DIR", "HEARTBEAT_FILE", "LABEL_STUDIO_TOKEN_FILE", "POLL_S"):
        assert key in found
    assert "WATCHDOG_PORT" in found and "WEBHOOK_SECRET_FILE" in found


def test_the_defaults_are_for_one_box(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("s")
    settings = WatchdogSettings.from_env(
        {
            "NAS_ROOT": "/nas",
            "STATE_DIR": "/state",
            "HEARTBEAT_FILE": "/state/heartbeat",
            "LABEL_STUDIO_URL": "http://127.0.0.1:8080",
            "LABEL_STUDIO_TOKEN_FILE": str(tmp_path / "secret"),
            "WEBHOOK_SECRET_FILE": str(tmp_path / "secret"),
        }
    )
    assert (settings.host, settings.poll_s, settings.full_scan_s) == ("127.0.0.1", 10, 600)
