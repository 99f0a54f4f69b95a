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
HERE = Path(__file__).parent
PROGRAM = "/usr/local/bin/docker-entrypoint.sh"
UNDOCUMENTED = tuple(
    f"--dpkgopt=path-exclude=/usr/share/{folder}/*" for folder in ("man", "doc", "locale", "info")
)


@dataclass(frozen=True, slots=True)
class Base:
    """An image that stands in for an official one."""

    name: str
    packages: tuple[str, ...]
    changes: tuple[str, ...]  # as in a Dockerfile
    suite: str = "bookworm"
    user: str = ""  # made as 999:999, the official images' number, before a package makes another
    entrypoint: Path | None = None
    finish: tuple[str, ...] = ()  # commands in the finished tree

    @property
    def tag(self) -> str:
        """Another one for other content; and each month, for Debian's security updates."""
        parts = [self.suite, time.strftime("%Y-%m"), repr(self.packages), repr(self.changes)]
        parts += [self.entrypoint.read_text(encoding="utf-8")] if self.entrypoint else []
        parts += [part for part in (self.user, *self.finish) if part]
        digest = hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]
        return f"labloop-base-{self.name}:{digest}"


PYTHON = Base(
    "python", ("ca-certificates", "python3", "python3-pip"), ("ENV LANG=C.UTF-8", 'CMD ["python3"]')
)
POSTGRES = Base(
    "postgres",
    ("postgresql-17",),
    (
        "ENV PATH=/usr/lib/postgresql/17/bin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "ENV PGDATA=/var/lib/postgresql/data PG_MAJOR=17 LANG=C.UTF-8",
        "VOLUME /var/lib/postgresql/data",
        'ENTRYPOINT ["docker-entrypoint.sh"]',
        'CMD ["postgres"]',
        "STOPSIGNAL SIGINT",
        "EXPOSE 5432",
    ),
    suite="trixie",
    user="postgres",
    entrypoint=HERE / "postgres-entrypoint.sh",
    finish=(
        "rm -rf /var/lib/postgresql/17 /etc/postgresql/17",  # the cluster that Debian makes
        "install -d -o postgres -g postgres -m 1777 /var/lib/postgresql/data",
        "install -d /docker-entrypoint-initdb.d",
        "sed -i \"s/^#listen_addresses.*/listen_addresses = '*'/\" "
        "/usr/share/postgresql/17/postgresql.conf.sample",
    ),
)
REDIS = Base(
    "redis",
    ("redis-server",),
    (
        "WORKDIR /data",
        "VOLUME /data",
        'ENTRYPOINT ["docker-entrypoint.sh"]',
        'CMD ["redis-server"]',
        "EXPOSE 6379",
    ),
    user="redis",
    entrypoint=HERE / "redis-entrypoint.sh",
    finish=("install -d -o redis -g redis /data",),
)
RESTIC = Base(
    "restic", ("ca-certificates", "restic"), ('ENTRYPOINT ["/usr/bin/restic"]',), suite="trixie"
)
# The official image is Alpine's: busybox in place of coreutils and wget. As there, the program is
# given a capability, so that a container without NET_BIND_SERVICE does not start it.
CADDY = Base(
    "caddy",
    ("ca-certificates", "caddy", "libcap2-bin", "wget"),
    (
        "ENV XDG_CONFIG_HOME=/config XDG_DATA_HOME=/data",
        "WORKDIR /srv",
        'CMD ["caddy", "run", "--config", "/etc/caddy/Caddyfile", "--adapter", "caddyfile"]',
    ),
    finish=(
        "mkdir -p /config/caddy /data/caddy",
        "/usr/sbin/setcap cap_net_bind_service=+ep /usr/bin/caddy",
    ),
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
    command += [f"--include={','.join(base.packages)}", *_hooks(base)]
    command += [base.suite, str(part), _mirror()]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    if answer.returncode != 0:
        pytest.fail(f"{' '.join(command)}:\n{answer.stderr[-3000:]}")
    part.rename(archive)
    return archive


def _hooks(base: Base) -> list[str]:
    hooks: list[str] = []
    if base.user:
        # By hand: at this moment there is no useradd yet.
        user, group = f"{base.user}:x:999:999::/var/lib/{base.user}:/bin/sh", f"{base.user}:x:999:"
        hooks += [f'--essential-hook=echo "{user}" >>"$1/etc/passwd"']
        hooks += [f'--essential-hook=echo "{group}" >>"$1/etc/group"']
    if base.entrypoint is not None:
        hooks += [f"--customize-hook=upload {base.entrypoint} {PROGRAM}"]
        hooks += [f'--customize-hook=chmod 755 "$1{PROGRAM}"']
    return hooks + [f'--customize-hook=chroot "$1" {command}' for command in base.finish]


def _mirror() -> str:
    """The Debian mirror that this machine uses itself; it carries every suite."""
    words = ["apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages"]
    words += ["Origin: Debian", f"Codename: {PYTHON.suite}"]
    lines = subprocess.run(words, capture_output=True, text=True, check=True).stdout.split()
    if not lines:
        pytest.skip(f"apt knows no mirror of Debian's {PYTHON.suite}: no base image can be made")
    return lines[0]
