"""Settings of files-lite."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from stack.runtime.settings import EnvReader


@dataclass(frozen=True, slots=True)
class FilesLiteSettings:
    """What files-lite needs to know; all of it stands in its image."""

    nas_root: Path
    state_dir: Path  # unfinished uploads and sessions are remembered there, not on the share
    accounts: str = field(repr=False)  # the accounts file's text

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> Self:
        with EnvReader(env) as read:
            return cls(
                nas_root=read.folder("NAS_ROOT"),
                state_dir=read.folder("STATE_DIR"),
                accounts=read.secret("FILES_LITE_ACCOUNTS_FILE"),
            )


def nas_root(env: Mapping[str, str]) -> Path:
    """The share; all that the health check needs to know."""
    with EnvReader(env) as read:
        return read.folder("NAS_ROOT")
