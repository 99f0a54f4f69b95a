"""Settings of the trainer."""

from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from stack.runtime.settings import EnvReader


@dataclass(frozen=True, slots=True)
class TrainerSettings:
    """What the trainer needs to know. Every field is explained in .env.example."""

    nas_root: Path
    heartbeat_file: Path
    poll_s: float  # between looks for run requests
    lease_stale_s: float  # a run whose trainer was not heard of for this long is taken over
    max_attempts: int  # a run that crashed this often has failed
    threads: int  # CPU threads of a training; 0 = as many as torch thinks right
    nice: int  # how far a training stands back for others on this machine, 0 to 19
    device: str  # auto = a GPU when there is one
    log_level: str

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> Self:
        with EnvReader(env) as read:
            return cls(
                nas_root=read.folder("NAS_ROOT"),
                heartbeat_file=read.folder("HEARTBEAT_FILE"),
                poll_s=read.number("POLL_S", default=5.0, at_least=0.1),
                lease_stale_s=read.number("TRAINER_LEASE_STALE_S", default=60.0, at_least=2.0),
                max_attempts=read.integer("TRAINER_MAX_ATTEMPTS", default=3, at_least=1),
                threads=read.integer("TRAINER_THREADS", default=0),
                nice=read.integer("TRAINER_NICE", default=5),
                device=read.choice("TRAINER_DEVICE", ("auto", "cpu", "cuda"), default="auto"),
                log_level=read.choice(
                    "LOG_LEVEL", ("DEBUG", "INFO", "WARNING", "ERROR"), default="INFO"
                ),
            )


def let_threads_sleep(env: MutableMapping[str, str]) -> None:
    """Make the processes that inherit this environment wait without burning CPU time.

    By default OpenMP's threads spin while they wait for one another. On a box that does other work
    too, one of them waits for a core while the rest spin on theirs: 0.4 to 1.5 iterations per
    second instead of 3.5 (two threads on two busy cores).
    """
    env.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def heartbeat_file(env: Mapping[str, str]) -> Path:
    """Where the loop beats; all that the health check needs to know."""
    with EnvReader(env) as read:
        return read.folder("HEARTBEAT_FILE")
