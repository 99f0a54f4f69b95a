"""restic on a box where there is no stack yet: the calls of restic.py, without Compose.

It only looks: the repository is mounted read-only, and nothing is locked.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from stack.engine import program
from stack.engine.compose_call import ComposeFailedError
from stack.engine.docker_call import Docker
from stack.engine.repository import NAS_REPOSITORY, BackupSettings, NoRepositoryError
from stack.engine.restic import LIMIT_S

PASSWORD = "/run/backup-password"
CREDENTIALS = "/run/backup-environment"


@dataclass(frozen=True, slots=True)
class BareRestic:
    """Takes the words of `docker compose run` and gives them to `docker run`."""

    docker: Docker
    image: str
    settings: BackupSettings
    password_file: Path
    nas: Path | None  # where this machine has the share

    def run(self, *words: str, input_text: str | None = None, timeout_s: float = LIMIT_S) -> str:
        """What restic wrote to stdout.

        Raises:
            ComposeFailedError: it failed.
        """
        command = [self.docker.program, *self.words(inner_words(words))]
        answer = program.ask(
            command, self.docker.environment, timeout_s=timeout_s, input_text=input_text or ""
        )
        if answer.exit_code != 0:
            raise ComposeFailedError(words, answer.exit_code, answer.said)
        return answer.output

    def stream(self, *words: str, on_line: Callable[[str], None]) -> None:
        for line in self.run(*words).splitlines():
            on_line(line)

    def words(self, inner: Sequence[str]) -> list[str]:
        """The call of `docker run`.

        Raises:
            NoRepositoryError: the repository is in a share that this machine does not have.
        """
        mounts = {str(self.password_file.absolute()): PASSWORD}
        repository = "/repository"
        if self.settings.kind == "remote":
            repository = self.settings.place
            if self.settings.environment:
                mounts[str(self.settings.environment)] = CREDENTIALS
        else:
            mounts[str(self.folder)] = repository
        words = ["run", "--rm", "--interactive", "--user", "0", "--read-only", "--tmpfs", "/tmp"]
        words += ["--network", "bridge" if self.settings.kind == "remote" else "none"]
        words += ["--cap-drop", "ALL", "--cap-add", "DAC_READ_SEARCH"]
        words += [
            "--env",
            f"RESTIC_REPOSITORY={repository}",
            "--env",
            "RESTIC_CACHE_DIR=/tmp/cache",
        ]
        words += ["--env", f"RESTIC_PASSWORD_FILE={PASSWORD}"]
        words += [word for one in mounts.items() for word in ("--volume", f"{one[0]}:{one[1]}:ro")]
        start = f'[ -f {CREDENTIALS} ] && {{ set -a; . {CREDENTIALS}; set +a; }}; exec "$@"'
        return [*words, "--entrypoint", "sh", self.image, "-c", start, "sh", *inner]

    @property
    def folder(self) -> Path:
        """Of the repository, on this machine."""
        if self.settings.kind == "folder":
            found = Path(self.settings.place)
        elif self.nas is None:
            raise NoRepositoryError(
                "the backups are on a share that only containers mount",
                hint="Mount it on this machine and name its backups/restic with --from.",
            )
        else:
            found = self.nas / Path(NAS_REPOSITORY).relative_to("/nas")
        if not found.is_dir():
            raise NoRepositoryError(f"{found} is not there")
        return found


def inner_words(words: Sequence[str]) -> tuple[str, ...]:
    """The program's own part of a call that was made for `docker compose run`."""
    service = words.index("backup")
    return ("sh" if "--entrypoint" in words[:service] else "restic", *words[service + 1 :])
