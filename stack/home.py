"""A home: the folder that holds everything one stack of the local runner owns.

    <home>/nas/             the share; a link to it when an existing one is used
    <home>/state/<service>/ 0700; databases, cursors and heartbeats: never on the NAS
    <home>/secrets/         0700; files 0600
    <home>/logs/            <service>.log, and supervisor.log
    <home>/run/             stack.json (what runs), ports.json, lock

Nothing is created or read by building a path, but for the link of `nas`.
"""

from dataclasses import dataclass
from pathlib import Path

from imaging.layout import Nas

SUPERVISOR = "supervisor"  # its log lies beside those of the services


@dataclass(frozen=True, slots=True)
class Home:
    """One stack's folder; several may run side by side."""

    root: Path  # absolute

    @property
    def nas_folder(self) -> Path:
        return self.root / "nas"

    @property
    def nas(self) -> Nas:
        """The share itself: services compare real paths, so a link is followed here."""
        return Nas(self.nas_folder.resolve())

    @property
    def secrets(self) -> Path:
        return self.root / "secrets"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    @property
    def run(self) -> Path:
        return self.root / "run"

    @property
    def lock(self) -> Path:
        """Held by the supervisor as long as it lives; the kernel lets go when it dies."""
        return self.run / "lock"

    @property
    def stack_state(self) -> Path:
        """What runs, in which state: written by the supervisor, read by everybody."""
        return self.run / "stack.json"

    @property
    def ports(self) -> Path:
        return self.run / "ports.json"

    @property
    def states(self) -> Path:
        """0700: Label Studio's database knows its tokens."""
        return self.root / "state"

    def state(self, service: str) -> Path:
        return self.states / service

    def log(self, service: str) -> Path:
        return self.logs / f"{service}.log"

    def secret(self, name: str) -> Path:
        return self.secrets / name
