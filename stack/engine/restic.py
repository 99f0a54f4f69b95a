"""Calls restic in the containers `backup` (which only reads) and `restore` (which writes)."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from stack.engine.compose_call import ComposeFailedError
from stack.engine.manifest import ROOT, Entry, Manifest, is_odd, read_listing
from stack.engine.repository import (
    FILES_TAG,
    KEEP,
    BackupError,
    Backups,
    DamagedError,
    NoRepositoryError,
    Snapshot,
    explain,
    manifest_tags,
    pair_up,
    read_snapshots,
)

Service = Literal["backup", "restore"]
OnRecord = Callable[[Mapping[str, Any]], None]
MANIFEST = "/manifest.json"
LIMIT_S = 24 * 3600.0  # a first backup over a slow line
PATIENCE = ("--retry-lock", "1m")
INCOMPLETE = 3  # restic's word for: a snapshot was made, but not of everything
CREDENTIALS = "if [ -f /run/backup-environment ]; then set -a; . /run/backup-environment; fi; "
PROBE = CREDENTIALS + "exec timeout 60 restic cat config --no-lock --quiet"
HASH = "xargs -0 -r sha256sum || true"  # a file that is gone by now has no line
RIGHTS = "xargs -0 -r stat -c '%f %u %g %n' || true"
# `$1` is the snapshot; a line for each path, in their order.
HASH_STORED = CREDENTIALS + (
    "SNAPSHOT=$1; export SNAPSHOT; xargs -0 -r -n 1 sh -c "
    '\'{ restic dump --quiet "$SNAPSHOT" "$1" || touch /tmp/failed; } | sha256sum; '
    "test ! -e /tmp/failed' sh"
)


class Caller(Protocol):
    """What is needed of Compose."""

    def run(
        self, *words: str, input_text: str | None = None, timeout_s: float = LIMIT_S
    ) -> str: ...

    def stream(self, *words: str, on_line: Callable[[str], None]) -> None: ...


@dataclass(frozen=True, slots=True)
class Restic:
    """One lab's repository."""

    compose: Caller
    place: str  # for people
    host: str  # whose snapshots these are; empty: everybody's

    def run(self, *words: str, service: Service = "backup", input_text: str | None = None) -> str:
        """What restic wrote to stdout.

        Raises:
            StackError: it failed; repository.py has the reasons.
        """
        words = (*_run(service), *words)
        try:
            return self.compose.run(*words, input_text=input_text, timeout_s=LIMIT_S)
        except ComposeFailedError as error:
            raise explain(error.code, error.tail, self.place) from error

    def stream(self, *words: str, on_record: OnRecord, service: Service = "backup") -> int:
        """Hand on what restic says with --json; 0, or INCOMPLETE."""

        def read(line: str) -> None:
            if line.startswith("{"):
                on_record(json.loads(line))

        try:
            self.compose.stream(*_run(service), *words, on_line=read)
        except ComposeFailedError as error:
            if error.code == INCOMPLETE:
                return INCOMPLETE
            raise explain(error.code, error.tail, self.place) from error
        return 0

    def shell(self, script: str, *arguments: str, service: Service, input_text: str = "") -> str:
        """Run a script where the files are."""
        entry = _run(service, "--entrypoint", "sh")
        try:
            return self.compose.run(
                *entry, "-ec", script, "sh", *arguments, input_text=input_text, timeout_s=LIMIT_S
            )
        except ComposeFailedError as error:
            raise explain(error.code, error.tail, self.place) from error

    # --- the repository --------------------------------------------------------------------------

    def probe(self) -> None:
        """See that the repository is there and opens; restic itself would try for 15 minutes.

        Raises:
            StackError: it does not; repository.py has the reasons.
        """
        self.shell(PROBE, service="backup")

    def ensure_repository(self) -> bool:
        """Make it unless it is there; whether it was made.

        Raises:
            StackError: it is there and does not open, or it does not answer.
        """
        try:
            self.probe()
        except NoRepositoryError:
            self.run("init")
            return True
        return False

    def backups(self) -> Backups:
        """What is there of this lab; of every lab, where none is named."""
        whose = ("--host", self.host) if self.host else ()
        text = self.run("snapshots", "--json", "--no-lock", *whose)
        return pair_up(read_snapshots(json.loads(text)))

    def locks(self) -> list[Mapping[str, Any]]:
        """Who says to be working on the repository."""
        names = self.run("list", "locks", "--no-lock", "--quiet").split()
        return [json.loads(self.run("cat", "lock", name, "--no-lock", "--quiet")) for name in names]

    def unlock(self) -> None:
        self.run("unlock", "--remove-all")

    def check(self) -> None:
        """Read every byte back and hold it against its own hash.

        Raises:
            DamagedError: something is not what was stored.
        """
        words = ("check", "--read-data", "--quiet", *PATIENCE)
        try:
            self.compose.run(*_run("backup"), *words, timeout_s=LIMIT_S)
        except ComposeFailedError as error:
            reason = explain(error.code, error.tail, self.place)
            if type(reason) is BackupError:  # nothing that restic has a word for
                reason = DamagedError(str(reason))
            raise reason from error

    def retain(self) -> Backups:
        """Forget what no rule keeps and give back its room; what is left."""
        keep = ("--tag", FILES_TAG, "--host", self.host, "--group-by", "host,tags", *KEEP)
        self.run("forget", *PATIENCE, "--quiet", "--prune", *keep)
        left = self.backups()
        self.forget([one.id for one in left.rest])  # their files were forgotten just now
        return left

    def forget(self, snapshots: Sequence[str]) -> None:
        if snapshots:
            self.run("forget", *PATIENCE, "--quiet", *snapshots)

    # --- manifests -------------------------------------------------------------------------------

    def store_manifest(self, manifest: Manifest) -> None:
        """The last step of a backup: now it counts."""
        words = ("backup", "--stdin", "--stdin-filename", MANIFEST, "--quiet", *PATIENCE)
        tags = manifest_tags(manifest.snapshot)
        self.run(*words, "--tag", tags, input_text=manifest.to_json())

    def manifest(self, snapshot: Snapshot) -> Manifest:
        """The record of a backup.

        Raises:
            DamagedError: it is not what was stored.
        """
        text = self.run("dump", "--no-lock", "--quiet", snapshot.id, MANIFEST)
        try:
            return Manifest.from_json(text)
        except ValueError as error:
            raise DamagedError(f"{self.place}: manifest of {snapshot.short_id}: {error}") from error

    def listing(self, snapshot: str) -> dict[str, Entry]:
        return read_listing(self.run("ls", "--json", "--no-lock", snapshot))

    def stored_text(self, snapshot: str, path: str) -> str:
        """A small file as it was saved."""
        return self.run("dump", "--no-lock", "--quiet", snapshot, ROOT + path)

    # --- files -----------------------------------------------------------------------------------

    def hashes(self, paths: Sequence[str], service: Service) -> dict[str, str]:
        """SHA-256 of what lies on disk; files that are not there are left out."""
        return read_hashes(self.shell(HASH, service=service, input_text=_list(paths)))

    def stored_hashes(self, snapshot: str, paths: Sequence[str]) -> dict[str, str]:
        """SHA-256 of what is in the repository; takes a second for each."""
        if not paths:
            return {}
        answer = self.shell(
            HASH_STORED, snapshot, service="backup", input_text=_list(paths, with_odd=True)
        )
        lines = [line.split()[0] for line in answer.splitlines() if line.strip()]
        return dict(zip(paths, lines, strict=True))

    def rights(self, paths: Sequence[str], service: Service) -> dict[str, tuple[str, int, int]]:
        """Mode, owner and group of what is there."""
        return read_rights(self.shell(RIGHTS, service=service, input_text=_list(paths)))


def _run(service: Service, *options: str) -> tuple[str, ...]:
    return ("run", "--rm", "--no-deps", "-T", "--quiet-pull", *options, service)


def _list(paths: Sequence[str], *, with_odd: bool = False) -> str:
    return "".join(f"{ROOT}{path}\0" for path in paths if with_odd or not is_odd(path))


def read_hashes(text: str) -> dict[str, str]:
    """What `sha256sum` wrote."""
    found = {}
    for line in text.splitlines():
        digest, _, path = line.partition("  ")
        if len(digest) == 64 and path.startswith(ROOT):
            found[path.removeprefix(ROOT)] = digest
    return found


def read_rights(text: str) -> dict[str, tuple[str, int, int]]:
    """What `stat` wrote: mode in hexadecimal, owner, group, path."""
    found = {}
    for line in text.splitlines():
        mode, uid, gid, path = line.split(" ", 3)
        found[path.removeprefix(ROOT)] = (f"{int(mode, 16) & 0o7777:04o}", int(uid), int(gid))
    return found
