"""Settings of the watchdog."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from stack.runtime.settings import EnvReader


@dataclass(frozen=True, slots=True)
class WatchdogSettings:
    """What the watchdog needs to know. Every field is explained in .env.example."""

    nas_root: Path
    state_dir: Path  # local disk: SQLite breaks on NFS and CIFS
    heartbeat_file: Path
    label_studio_url: str
    label_studio_token: str
    webhook_secret: str  # Label Studio sends it along; without it nobody is answered
    host: str  # address the webhook listens on
    port: int
    poll_s: float  # between looks, when nothing wakes the loop
    full_scan_s: float  # between comparisons of every annotated task with the NAS
    file_events: str  # auto = on local filesystems
    log_level: str

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> Self:
        with EnvReader(env) as read:
            return cls(
                nas_root=read.folder("NAS_ROOT"),
                state_dir=read.folder("STATE_DIR"),
                heartbeat_file=read.folder("HEARTBEAT_FILE"),
                label_studio_url=read.text("LABEL_STUDIO_URL"),
                label_studio_token=read.secret("LABEL_STUDIO_TOKEN_FILE"),
                webhook_secret=read.secret("WEBHOOK_SECRET_FILE"),
                host=read.text("WATCHDOG_HOST", default="127.0.0.1"),
                port=read.integer("WATCHDOG_PORT", default=8096),
                poll_s=read.number("POLL_S", default=10.0, at_least=0.1),
                full_scan_s=read.number("WATCHDOG_FULL_SCAN_S", default=600.0, at_least=1.0),
                file_events=read.choice("FILE_EVENTS", ("auto", "on", "off"), default="auto"),
                log_level=read.choice(
                    "LOG_LEVEL", ("DEBUG", "INFO", "WARNING", "ERROR"), default="INFO"
                ),
            )


def heartbeat_file(env: Mapping[str, str]) -> Path:
    """Where the loop beats; all that the health check needs to know."""
    with EnvReader(env) as read:
        return read.folder("HEARTBEAT_FILE")
