"""Base images without a registry: made of Debian's packages, with the official images' contract.

mmdebstrap makes each once a month and keeps it in `.cache/docker`.
"""

import hashlib
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from stack.environments import ROOT
from tests.docker.engine import docker, try_docker

CACHE = ROOT / ".cache" / "docker"
SUITE = "bookworm"
POSTGRES_ENTRYPOINT = Path(__file__).parent / "postgres-entrypoint.sh"
UNDOCUMENTED = tuple(
    f"--dpkgopt=path-exclude=/usr/share/{folder}/*" for folder in ("man", "doc", "locale", "info")
)


@dataclass(frozen=True, slots=True)
class Base:
    """An image that stands in for an official one."""

    name: str
    packages: tuple[str, ...]
    changes: tuple[str, ...]  # as in a Dockerfile
    entrypoint: Path | None = None

    @property
    def tag(self) -> str:
        """Another one for other content; and each month, for Debian's security updates."""
        parts = [SUITE, time.strftime("%Y-%m"), repr(self.packages), repr(self.changes)]
        parts += [self.entrypoint.read_text(encoding="utf-8")] if self.entrypoint else []
        digest = hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]
        return f"labloop-base-{self.name}:{digest}"


PYTHON = Base(
    "python", ("ca-certificates", "python3", "python3-pip"), ("ENV LANG=C.UTF-8", 'CMD ["python3"]')
)
POSTGRES = Base(
    "postgres",
    ("postgresql-15",),
    (
        "ENV PATH=/usr/lib/postgresql/15/bin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "ENV PGDATA=/var/lib/postgresql/data",
        "USER postgres",
        'ENTRYPOINT ["docker-entrypoint.sh"]',
        'CMD ["postgres"]',
    ),
    POSTGRES_ENTRYPOINT,
)


def ensure_base(base: Base) -> str:
    """The image's tag; it is there afterwards."""
    if try_docker("image", "inspect", base.tag).returncode != 0:
        words = [word for change in base.changes for word in ("--change", change)]
        docker("import", *words, str(_root_filesystem(base)), base.tag, timeout_s=300.0)
    return base.tag


def _root_filesystem(base: Base) -> Path:
    archive = CACHE / f"{base.tag.replace(':', '-')}.tar"
    if archive.is_file():
        return archive
    if shutil.which("mmdebstrap") is None:
        pytest.skip("mmdebstrap, which makes base images, is not installed")
    CACHE.mkdir(parents=True, exist_ok=True)
    for old in CACHE.glob(f"labloop-base-{base.name}-*"):
        old.unlink()
    part = archive.with_suffix(".part.tar")
    command = ["mmdebstrap", "--quiet", "--variant=minbase", *UNDOCUMENTED]
    command += [f"--include={','.join(base.packages)}", *_hooks(base), SUITE, str(part), _mirror()]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    if answer.returncode != 0:
        pytest.fail(f"{' '.join(command)}:\n{answer.stderr[-3000:]}")
    part.rename(archive)
    return archive


def _hooks(base: Base) -> list[str]:
    if base.entrypoint is None:
        return []
    program = "/usr/local/bin/docker-entrypoint.sh"
    return [
        f"--customize-hook=upload {base.entrypoint} {program}",
        f'--customize-hook=chmod 755 "$1{program}"',
        '--customize-hook=chroot "$1" install -d -o postgres -m 700 /var/lib/postgresql/data',
    ]


def _mirror() -> str:
    """The Debian mirror that this machine uses itself."""
    words = ["apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages"]
    words += ["Origin: Debian", f"Codename: {SUITE}"]
    lines = subprocess.run(words, capture_output=True, text=True, check=True).stdout.split()
    if not lines:
        pytest.skip(f"apt knows no mirror of Debian's {SUITE}, which base images are made of")
    return lines[0]
