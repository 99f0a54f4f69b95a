"""Where backups go and what goes there: the settings, restic's words, and its errors explained.

StackError
├── BackupError (1)
│   ├── RepositoryGoneError     it does not answer
│   ├── RepositoryFullError     no space is left
│   ├── DamagedError            what was stored cannot all be read back, or is not what was stored
│   └── IncompleteError         something could not be read, so that this backup does not count
├── NoRepositoryError (2)       there is no repository at that place
├── WrongPasswordError (2)      it opens with another password
└── RepositoryLockedError (3)   somebody else is working on it
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

from stack.engine.manifest import shortened
from stack.errors import RefusedError, StackError, UsageError
from stack.runtime.settings import EnvReader

FILES_TAG = "labloop"  # a snapshot of files …
MANIFEST_TAG = "labloop-manifest"  # … and the one of its manifest, which says that it is complete
KEEP = ("--keep-daily", "7", "--keep-weekly", "5", "--keep-monthly", "12")
NAS_REPOSITORY = "/nas/backups/restic"
NAS_PARTS = (".labloop", "dataset", "models", "runs")
# Of Nextcloud's folder the rest is its release, which its image brings along.
NEXTCLOUD_PARTS = ("config", "data", "custom_apps", "themes", "version.php")
# What is in the making, is made anew from the rest, or is dealt out again at every start. A folder
# itself stays, with its owner; its content does not.
LEFT_OUT = (
    "/saved/secrets/*/*",
    "/saved/nas/dataset/*/data/*",
    "/saved/nas/runs/*/*/checkpoints/*",
    "/saved/nas/**/.staging/*",
    "/saved/nas/**/.*.part",
    "/saved/*/heartbeat",
)
RAWDATA = "/saved/nas/dataset/*/rawdata/*"


class BackupError(StackError):
    """A backup or a restore failed."""

    hint = "Earlier backups are as good as they were; `labloop backup --list` shows them."


class RepositoryGoneError(BackupError):
    hint = "Is the disk mounted, the server up, the address in BACKUP_REPOSITORY right?"


class RepositoryFullError(BackupError):
    hint = (
        "Make room where BACKUP_REPOSITORY points; what was begun goes with the next backup. "
        "Earlier backups are as good as they were."
    )


class DamagedError(BackupError):
    hint = "Take no risk: begin a new repository at another place, then look into this one."


class IncompleteError(BackupError):
    """Something could not be read."""


class NoRepositoryError(UsageError):
    hint = "`labloop backup` makes it; BACKUP_REPOSITORY (or --from) says where it is looked for."


class WrongPasswordError(UsageError):
    hint = (
        "It opens with the `backup-password` of the stack that made it: give that file with "
        "--password-file, or put it in the home's secrets/."
    )


class RepositoryLockedError(RefusedError):
    hint = "Wait until it is done there. If that machine is gone: `labloop backup --unlock`."


@dataclass(frozen=True, slots=True)
class BackupSettings:
    """What people may choose about backups. .env.example explains each."""

    kind: Literal["nas", "folder", "remote"]
    place: str  # for people and for restic
    environment: Path | None  # a file with credentials of a remote repository
    with_rawdata: bool

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> Self:
        """Read them.

        Raises:
            SettingsError: one or more of them cannot be used.
        """
        with EnvReader(env) as read:
            place = read.text("BACKUP_REPOSITORY", default="")
            credentials = read.text("BACKUP_ENVIRONMENT", default="")
            if credentials and not Path(credentials).is_file():
                read.problems.append(f"BACKUP_ENVIRONMENT is {credentials!r}, expected a file")
            if "@" in place and not place.startswith(("sftp:", "/")):
                read.problems.append(
                    "BACKUP_REPOSITORY holds a user's name or password, expected them in the file "
                    "that BACKUP_ENVIRONMENT names (RESTIC_REST_USERNAME, RESTIC_REST_PASSWORD)"
                )
            if place.startswith("sftp:"):
                read.problems.append(
                    "BACKUP_REPOSITORY is on sftp, expected rest:, s3: or a folder"
                )
            if place and not place.startswith("/") and ":" not in place:
                read.problems.append(
                    f"BACKUP_REPOSITORY is {place!r}, expected a path from / on or restic's URL"
                )
            return cls(
                kind="nas" if not place else "folder" if place.startswith("/") else "remote",
                place=place or NAS_REPOSITORY,
                environment=Path(credentials).absolute() if credentials else None,
                with_rawdata=read.choice("BACKUP_RAWDATA", ("yes", "no"), default="no") == "yes",
            )

    @property
    def override(self) -> str | None:
        """The file of stack/overrides/ that tells Compose."""
        return None if self.kind == "nas" else f"backup-{self.kind}"


def backup_words(*, with_rawdata: bool) -> list[str]:
    """restic's words that save everything there is to save."""
    left_out = [*LEFT_OUT, *([] if with_rawdata else [RAWDATA])]
    words = []
    for area, parts in (("nas", NAS_PARTS), ("nextcloud", NEXTCLOUD_PARTS)):
        words.append(f"--exclude=/saved/{area}/*")
        words += [f"--exclude=!/saved/{area}/{part}" for part in parts]
    # Last: a pattern with `!` takes back what those before it leave out.
    words += [f"--exclude={pattern}" for pattern in left_out]
    return ["backup", "--json", "--tag", FILES_TAG, "--group-by", "host,tags", *words, "/saved"]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One of restic's snapshots."""

    id: str
    time: str
    host: str
    tags: tuple[str, ...]
    files: int
    size_bytes: int
    added_bytes: int

    @property
    def short_id(self) -> str:
        return self.id[:8]


def read_snapshots(records: Sequence[Mapping[str, Any]]) -> list[Snapshot]:
    """What `restic snapshots --json` says, oldest first."""
    found = []
    for record in records:
        summary = record.get("summary") or {}
        found.append(
            Snapshot(
                id=str(record["id"]),
                time=str(record["time"])[:19] + "Z",
                host=str(record["hostname"]),
                tags=tuple(record.get("tags") or ()),
                files=int(summary.get("total_files_processed", 0)),
                size_bytes=int(summary.get("total_bytes_processed", 0)),
                added_bytes=int(summary.get("data_added_packed", 0)),
            )
        )
    return sorted(found, key=lambda one: one.time)


@dataclass(frozen=True, slots=True)
class Backups:
    """What a repository holds of one lab."""

    complete: Sequence[tuple[Snapshot, Snapshot]]  # files and manifest, oldest first
    rest: Sequence[Snapshot]  # halves of which the other is not there

    def of(self, host: str) -> "Backups":
        """Those of one lab; where there is none of that name, those of the only lab there is.

        Raises:
            UsageError: they are of several other labs.
        """
        hosts = sorted({files.host for files, _ in self.complete})
        if host not in hosts and len(hosts) > 1:
            raise UsageError(
                f"STACK_NAME is {host!r}, expected one whose backups are there: {', '.join(hosts)}",
                hint="Set STACK_NAME for this one call, or in .env.",
            )
        chosen = host if host in hosts else "".join(hosts)
        return Backups([pair for pair in self.complete if pair[0].host == chosen], self.rest)

    def choose(self, wanted: str) -> tuple[Snapshot, Snapshot]:
        """The one that a person named: `latest`, or the beginning of its name.

        Raises:
            UsageError: there is none, or more than one.
        """
        if not self.complete:
            raise UsageError("found no complete backup, expected one", hint="`labloop backup`")
        if wanted == "latest":
            return self.complete[-1]
        fits = [pair for pair in self.complete if pair[0].id.startswith(wanted)]
        if len(fits) != 1:
            names = shortened(files.short_id for files, _ in self.complete)
            raise UsageError(f"{len(fits)} backups are called {wanted!r}, expected one of {names}")
        return fits[0]


def manifest_tags(files: str) -> str:
    """Of the snapshot that holds the manifest of a snapshot of files."""
    return f"{MANIFEST_TAG},of-{files}"


def pair_up(snapshots: Sequence[Snapshot]) -> Backups:
    """Find each snapshot's manifest. What other programs keep in the repository is theirs."""
    files = [one for one in snapshots if FILES_TAG in one.tags]
    manifests = {
        tag.removeprefix("of-"): one
        for one in snapshots
        if MANIFEST_TAG in one.tags
        for tag in one.tags
        if tag.startswith("of-")
    }
    complete = [(one, manifests.pop(one.id)) for one in files if one.id in manifests]
    kept = {one.id for one, _ in complete}
    return Backups(complete, [*(one for one in files if one.id not in kept), *manifests.values()])


def explain(exit_code: int, said: str, place: str) -> StackError:
    """restic's failure, as an error that says what to do."""
    text = f"{place}: {said}"
    lowered = said.lower()
    if exit_code == 10:
        return NoRepositoryError(f"{place} is no repository of backups")
    if exit_code == 12 or "wrong password" in lowered:
        return WrongPasswordError(f"{place} does not open with this password")
    if "no space left" in lowered or "disk quota" in lowered:
        return RepositoryFullError(text)
    if exit_code == 11 or "already locked" in lowered:
        return RepositoryLockedError(text)
    if any(
        sign in lowered for sign in ("repository contains errors", "does not match", "ciphertext")
    ):
        return DamagedError(text)
    if exit_code == 124 or any(
        sign in lowered
        for sign in (
            "connection refused",
            "no such host",
            "timeout",
            "unable to open",
            "permission",
        )
    ):
        reason = said.split(" | ", maxsplit=1)[0]  # the rest are restic's further tries
        return RepositoryGoneError(f"{place} does not answer: {reason}")
    return BackupError(f"{text} (exit code {exit_code})")
