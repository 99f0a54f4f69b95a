"""Settings of ingest."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from stack.runtime.settings import EnvReader


@dataclass(frozen=True, slots=True)
class IngestSettings:
    """What ingest needs to know. Every field is explained in .env.example."""

    nas_root: Path
    state_dir: Path  # local disk: SQLite breaks on NFS and CIFS
    heartbeat_file: Path
    label_studio_url: str
    label_studio_token: str
    ml_backend_url: str  # empty = projects are not connected to one
    ml_backend_token: str
    webhook_url: str  # the watchdog's, as Label Studio reaches it
    webhook_secret: str
    pseudonym_key: str  # lost, patients get new pseudonyms and could cross a split
    poll_s: float  # between looks at folders
    quiet_s: float  # a file untouched this long counts as fully written
    full_scan_s: float  # between looks at every file
    max_pixels: int  # of one picture; about 5 bytes of memory each
    max_voxels: int  # of one volume; about 8 bytes of memory each
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
                ml_backend_url=read.text("ML_BACKEND_URL", default=""),
                ml_backend_token=read.secret("ML_BACKEND_TOKEN_FILE"),
                webhook_url=read.text("WEBHOOK_URL", default=""),
                webhook_secret=read.secret("WEBHOOK_SECRET_FILE"),
                pseudonym_key=read.secret("PSEUDONYM_KEY_FILE"),
                poll_s=read.number("POLL_S", default=5.0, at_least=0.1),
                quiet_s=read.number("INGEST_QUIET_S", default=5.0, at_least=0.1),
                full_scan_s=read.number("INGEST_FULL_SCAN_S", default=1800.0, at_least=1.0),
                max_pixels=read.integer("INGEST_MAX_PIXELS", default=100_000_000, at_least=64),
                max_voxels=read.integer("INGEST_MAX_VOXELS", default=300_000_000, at_least=8),
                file_events=read.choice("FILE_EVENTS", ("auto", "on", "off"), default="auto"),
                log_level=read.choice(
                    "LOG_LEVEL", ("DEBUG", "INFO", "WARNING", "ERROR"), default="INFO"
                ),
            )


def heartbeat_file(env: Mapping[str, str]) -> Path:
    """Where the loop beats; all that the health check needs to know."""
    with EnvReader(env) as read:
        return read.folder("HEARTBEAT_FILE")
