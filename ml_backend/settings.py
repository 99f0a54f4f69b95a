"""The settings of the back end, and of the adapter for label-studio-ml."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from imaging.errors import UnsafeNameError
from imaging.ids import checked_task_name
from stack.runtime.settings import EnvReader

LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")


@dataclass(frozen=True, slots=True)
class BackendSettings:
    """What the pre-annotation service needs to know. Every field is explained in .env.example."""

    nas_root: Path
    heartbeat_file: Path
    label_studio_url: str
    label_studio_token: str = field(repr=False)
    host: str
    port: int
    token: str = field(repr=False)  # the password of every request, under any user name
    threads: int  # pictures computed at the same time; 0 = one for each core
    max_batch: int  # pictures handed to the model together; more than 1 pays on a GPU only
    push_every_s: float  # how often Label Studio is asked what lacks a prediction
    keep_old_s: float  # how long a replaced version's predictions stay for open editors
    poll_s: float  # how often the champion pointers are looked at
    log_level: str

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> Self:
        with EnvReader(env) as read:
            return cls(
                nas_root=read.folder("NAS_ROOT"),
                heartbeat_file=read.folder("HEARTBEAT_FILE"),
                label_studio_url=read.text("LABEL_STUDIO_URL"),
                label_studio_token=read.secret("LABEL_STUDIO_TOKEN_FILE"),
                host=read.text("ML_BACKEND_HOST", "127.0.0.1"),
                port=read.integer("ML_BACKEND_PORT", 9090),
                token=read.secret("ML_BACKEND_TOKEN_FILE"),
                threads=read.integer("ML_BACKEND_THREADS", 0),
                max_batch=read.integer("ML_BACKEND_MAX_BATCH", 1, at_least=1),
                push_every_s=read.number("ML_BACKEND_PUSH_EVERY_S", 10.0, at_least=0.1),
                keep_old_s=read.number("ML_BACKEND_KEEP_OLD_S", 600.0),
                poll_s=read.number("POLL_S", 0.5, at_least=0.05),
                log_level=read.choice("LOG_LEVEL", LEVELS, "INFO"),
            )


@dataclass(frozen=True, slots=True)
class AdapterSettings:
    """What `LabloopModel` needs inside somebody's own label-studio-ml server."""

    nas_root: Path
    task: str  # label-studio-ml serves one model, so one task folder

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> Self:
        with EnvReader(env) as read:
            task = read.text("LABLOOP_TASK")
            try:
                checked_task_name(task)
            except UnsafeNameError as error:
                read.problems.append(f"LABLOOP_TASK: {error}")
            return cls(nas_root=read.folder("NAS_ROOT"), task=task)
