"""A room for Nextcloud's scripts: a fake php and curl, and folders in place of the container's."""

import fcntl
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[3]
TOOLS = ROOT / "services" / "nextcloud" / "tools"
HOOK = ROOT / "services" / "nextcloud" / "before-starting" / "10-labloop.sh"
SHELL = shutil.which("dash") or "sh"
FRESH = {
    "installed": True,
    "installs": True,
    "maintenance": False,
    "needsDbUpgrade": False,
    "groups": {"admin": ["admin"]},
    "apps": ["files", "firstrunwizard", "weather_status"],
    "mounts": [],
    "people": {"admin": "a password"},
    "broken": [],
    "calls": [],
}


@dataclass(frozen=True, slots=True)
class Room:
    """Where the scripts run, and what they are told."""

    folder: Path

    def program(self, name: str, text: str) -> None:
        path = self.folder / "bin" / name
        path.write_text(text)
        path.chmod(0o755)

    def change(self, **values: object) -> None:
        with self.state_file.open("r+") as file:  # a loop's php may be at it
            fcntl.flock(file, fcntl.LOCK_EX)
            state = {**json.load(file), **values}
            file.seek(0)
            file.truncate()
            json.dump(state, file)

    @property
    def state(self) -> dict[str, Any]:
        with self.state_file.open() as file:
            fcntl.flock(file, fcntl.LOCK_SH)
            return dict(json.load(file))

    @property
    def state_file(self) -> Path:
        return self.folder / "state.json"

    @property
    def env(self) -> Mapping[str, str]:
        return {
            "PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}",
            "FAKE_STATE": str(self.state_file),
            "LABLOOP_ROOM": str(self.folder / "html"),
            "LABLOOP_TOOLS": str(TOOLS),
            "LABLOOP_SHARE": str(self.folder / "nas"),
            "LABLOOP_TMP": str(self.folder / "tmp"),
            "LABLOOP_RETRY_S": "1",
            "LABLOOP_TRIES": "1",
        }

    def run(self, script: Path, *words: str, given: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [SHELL, str(script), *words],
            input=given,
            capture_output=True,
            text=True,
            check=False,
            env=self.env,
            timeout=30.0,
        )

    def start(self, script: Path, *words: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [SHELL, str(script), *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=self.env,
        )


@pytest.fixture
def room(tmp_path: Path) -> Room:
    for name in ("bin", "html/config", "html/data", "nas", "tmp"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "nas" / ".labloop").touch()
    (tmp_path / "state.json").write_text(json.dumps(FRESH))
    made = Room(tmp_path)
    fake = Path(__file__).parent / "fake_php.py"
    made.program("php", f'#!/bin/sh\nexec {sys.executable} -I -S {fake} "$@"\n')
    return made
