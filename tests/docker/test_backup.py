"""Backup and restore of a lab, with the real PostgreSQL and restic; Label Studio is not needed."""

import hashlib
import os
import shutil
import stat
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from imaging.layout import MARKER
from stack.cli import main
from stack.engine.backup import only_one, open_repository
from stack.engine.engine import Engine
from stack.engine.lab import Lab, open_lab, save_lab
from stack.engine.manifest import Manifest
from stack.engine.repository import BackupSettings
from stack.engine.restic import Restic
from stack.engine.restore import RestoreWishes, restore
from stack.engine.start import plan_stack
from stack.engine.up import UpWishes, prepare, read_lab_settings
from stack.home import Home
from tests.docker.bases import POSTGRES, RESTIC, ensure_base
from tests.docker.engine import GID, UID, docker, try_docker, wait_for

pytestmark = pytest.mark.docker
STACK = f"labloop-test-backup-{os.getpid()}"
NEXTCLOUD = f"{STACK}-nextcloud"
# The official image keeps its release there, and its data and settings beside a copy of it.
NEXTCLOUD_KEPT = ("version.php", "config/config.php")
NEXTCLOUD_RECIPE = """FROM {base}
RUN mkdir -p /usr/src/nextcloud/lib /usr/src/nextcloud/config \\
 && echo "nextcloud lib/release.php" >/usr/src/nextcloud/lib/release.php \\
 && echo "nextcloud version.php" >/usr/src/nextcloud/version.php \\
 && echo none >/usr/src/nextcloud/config/config.php
"""
TABLES = {
    "label-studio": "CREATE TABLE task AS SELECT n AS id, md5(n::text) AS data "
    "FROM generate_series(1, 500) n; CREATE TABLE project AS SELECT 1 AS id; "
    'ALTER TABLE task OWNER TO "label-studio"; CREATE TABLE htx_user (email text); '
    "INSERT INTO htx_user VALUES ('a@b.c'), ('ä@ö.ü')",
    "nextcloud": "CREATE TABLE oc_users AS SELECT 'admin' AS uid",
}
VOLUMES = {  # volume → file → owner and mode
    "label-studio": {"media/upload/1/a b.png": (UID, 0o640), "media/ü": (UID, 0o600)},
    "gateway": {"caddy/pki/root.key": (UID, 0o600)},
    "nextcloud": {
        "config/config.php": (33, 0o640),
        "data/admin/files/x": (33, 0o644),
        "version.php": (33, 0o644),
        "lib/release.php": (33, 0o644),
    },
    "ingest": {"seen.json": (UID, 0o660)},
    "watchdog": {"Task001_x.json": (UID, 0o660), "heartbeat": (UID, 0o660)},
}
TASK = "dataset/Task001_x"
NAS = (
    *(MARKER, f"{TASK}/task.yaml", f"{TASK}/cases/c1/case.json", f"{TASK}/cases/c1/volume.nii.gz"),
    *(f"{TASK}/annotations/c1/7-1.json", f"{TASK}/snapshots/s1/manifest.json"),
    *(f"{TASK}/rejected/line\nbreak/reason.txt", f"{TASK}/rejected/back\\slash"),
    *("models/Task001_x/v1/model.pt", "runs/Task001_x/r1/metrics.json"),
)
NOT_SAVED = (
    *(f"{TASK}/rawdata/la_001_0000.png", f"{TASK}/data/train/x.png", f"{TASK}/.staging/half/x"),
    *("runs/Task001_x/r1/checkpoints/last.pt", "people's own/paper.doc"),
)


@dataclass(frozen=True)
class Box:
    """One machine's folders, and the stack on it."""

    root: Path

    @property
    def home(self) -> Home:
        return Home(self.root / "home")

    @property
    def nas(self) -> Path:
        return self.root / "nas"

    @property
    def env_file(self) -> Path:
        return self.root / "env"

    def write_env(self, **more: str) -> None:
        settings = {
            "STACK_NAME": STACK,
            "COMPOSE_PROFILES": "lab",
            "LAB_HOST": "localhost",
            "NAS_PATH": str(self.nas),
            "POSTGRES_IMAGE": ensure_base(POSTGRES),
            "RESTIC_IMAGE": ensure_base(RESTIC),
            "NEXTCLOUD_IMAGE": NEXTCLOUD,
            **more,
        }
        self.env_file.write_text("".join(f"{key}={value}\n" for key, value in settings.items()))

    def start_database(self) -> Lab:
        """As much of `labloop up` as a backup needs."""
        settings = read_lab_settings(self.home, UpWishes(env_file=self.env_file))
        plan = plan_stack(self.home, settings, with_gpu=False)
        self.home.root.mkdir(parents=True, exist_ok=True)
        if not self.home.nas_folder.is_symlink():
            self.home.nas_folder.symlink_to(self.nas)
        with Engine.connected() as engine:
            prepare(engine, plan, ensure_base(RESTIC))
        lab = save_lab(plan.lab, plan.variables)
        for name in (*VOLUMES, "files-lite"):
            docker("volume", "create", "--label", f"org.labloop.stack={STACK}", lab.volume(name))
        lab.compose.run("up", "--detach", "--no-deps", "--wait", "--pull", "never", "db")
        return lab

    def call(self, *words: str) -> int:
        return main([*words, "--home", str(self.home.root)])

    def backup(self) -> int:
        return self.call("backup", "--env-file", str(self.env_file))

    def restore(self, *words: str) -> int:
        return self.call("restore", *words, "--env-file", str(self.env_file))

    def manifest(self) -> Manifest:
        lab = open_lab(self.home)
        restic = open_repository(lab, BackupSettings.from_env(lab.settings.values))
        return restic.manifest(restic.backups().complete[-1][1])

    def destroy(self) -> None:
        remove_stack()
        for folder in (self.home.root, self.nas):
            shutil.rmtree(folder, ignore_errors=True)


def remove_stack() -> None:
    label = f"label=com.docker.compose.project={STACK}"
    for name in docker("ps", "--all", "--quiet", "--filter", label).split():
        try_docker("rm", "--force", "--volumes", name)
    for name in docker("volume", "ls", "--quiet", "--filter", f"name={STACK}_").split():
        docker("volume", "rm", "--force", name)
    for name in docker("network", "ls", "--quiet", "--filter", label).split():
        try_docker("network", "rm", name)


def fill(box: Box, lab: Lab) -> None:
    for name, script in TABLES.items():
        words = ("psql", "-U", "postgres", "-d", name, "--set=ON_ERROR_STOP=1", "-c", script)
        lab.compose.execute("db", *words)
    for volume, files in VOLUMES.items():
        lines = ["cd /v"]
        for path, (owner, mode) in files.items():
            lines += [f'mkdir -p "$(dirname "{path}")"', f'echo "{volume} {path}" >"{path}"']
            lines += [f'chmod {mode:o} "{path}"', f'chown {owner}:{GID} "{path}"']
        lines += [f"chown {UID}:{GID} .", "chmod 2770 .", "ln -s nowhere link", "mkdir empty"]
        in_volume(volume, "\n".join(lines))
    for path in (*NAS, *NOT_SAVED):
        put(box.nas / path, f"nas {path}\n" * 1000)
    put(box.nas / "models" / "Task001_x" / "champion.json", '{"version": "v1"}')
    put(box.nas / TASK / "cases" / "c1" / "big.bin", "")
    (box.nas / TASK / "cases" / "c1" / "big.bin").write_bytes(os.urandom(9_000_000))
    (box.nas / "models" / "Task001_x" / "v1" / "model.pt").chmod(0o440)
    box.nas.chmod(0o2775)


def put(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    os.chown(path, UID, GID)
    for folder in path.parents:
        if folder.name in ("nas", "") or stat.S_IMODE(folder.stat().st_mode) == 0o2775:
            break
        os.chown(folder, UID, GID)
        folder.chmod(0o2775)


def in_volume(name: str, script: str) -> str:
    words = ("run", "--rm", "--network", "none", "--volume", f"{STACK}_{name}:/v")
    return docker(*words, "--entrypoint", "sh", ensure_base(RESTIC), "-ec", script)


def seen_in(volume: str) -> str:
    """Everything in a volume: type, mode, owner, size, name; and the content of files."""
    find = "cd /v; find . -printf '%y %m %U:%G %l %p\\n' | sort; "
    return in_volume(volume, find + "find . -type f -print0 | sort -z | xargs -0 -r sha256sum")


def seen_on(folder: Path) -> dict[str, tuple[str, int, int, str]]:
    return {
        str(path.relative_to(folder)): (
            oct(path.lstat().st_mode),
            path.lstat().st_uid,
            path.lstat().st_gid,
            hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "",
        )
        for path in sorted(folder.rglob("*"))
    }


def rows(lab: Lab) -> str:
    words = ("psql", "-U", "postgres", "-At", "-d", "label-studio", "-c")
    question = (
        "SELECT * FROM task ORDER BY id; SELECT * FROM htx_user; SELECT tableowner, tablename"
    )
    question += " FROM pg_tables WHERE schemaname = 'public' ORDER BY 2"
    answer = lab.compose.execute("db", *words, question)
    return answer + lab.compose.execute(
        "db", *words[:4], "-d", "nextcloud", "-c", "SELECT * FROM oc_users"
    )


@pytest.fixture(scope="module")
def nextcloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    folder = tmp_path_factory.mktemp("image")
    (folder / "Dockerfile").write_text(NEXTCLOUD_RECIPE.format(base=ensure_base(RESTIC)))
    docker("build", "--quiet", "--tag", NEXTCLOUD, str(folder))
    yield
    docker("image", "rm", NEXTCLOUD)


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory, nextcloud: None) -> Iterator[Box]:
    """A filled lab with one backup; the tests below build on each other's, the last destroys it."""
    if os.geteuid() != 0:
        pytest.skip("only root can give files to the lab's users")
    root = tmp_path_factory.mktemp("lab")
    box = Box(root / "box")
    box.nas.mkdir(parents=True)
    for name in ("", "dataset", "models", "runs", "backups"):
        (box.nas / name).mkdir(exist_ok=True)
        os.chown(box.nas / name, UID, GID)
        (box.nas / name).chmod(0o2775)
    box.write_env()
    try:
        fill(box, box.start_database())
        assert box.backup() == 0
        yield box
    finally:
        remove_stack()


Said = pytest.CaptureFixture[str]


def repository(box: Box) -> Restic:
    lab = open_lab(box.home)
    return open_repository(lab, BackupSettings.from_env(lab.settings.values))


def test_a_second_backup_adds_what_is_new(box: Box, capsys: Said) -> None:
    first = box.manifest()
    put(box.nas / TASK / "annotations" / "c1" / "8-1.json", "{}")
    assert box.backup() == 0, capsys.readouterr()
    second = box.manifest()
    new = second.files.keys() - first.files.keys()
    assert new == {f"nas/{TASK}/annotations/c1/8-1.json"}
    path = f"nas/{TASK}/cases/c1/big.bin"
    assert second.files[path] == first.files[path]
    files, _ = repository(box).backups().complete[-1]
    assert files.added_bytes < 500_000 < 9_000_000 < files.size_bytes
    assert "nas" in capsys.readouterr().out


def test_the_manifest_says_what_is_saved_and_what_is_not(box: Box) -> None:
    manifest = box.manifest()
    saved = {path.removeprefix("nas/") for path in manifest.files if path.startswith("nas/")}
    assert set(NAS) <= saved
    assert not set(NOT_SAVED) & saved
    assert manifest.entries[f"nas/{TASK}/rawdata"].kind == "dir", "where pictures go again"
    model = box.nas / "models" / "Task001_x" / "v1" / "model.pt"
    entry = manifest.files["nas/models/Task001_x/v1/model.pt"]
    assert entry.sha256 == hashlib.sha256(model.read_bytes()).hexdigest()
    assert entry.rights == ("0440", UID, GID)
    odd = manifest.files[f"nas/{TASK}/rejected/line\nbreak/reason.txt"]
    assert odd.sha256 == hashlib.sha256((box.nas / NAS[6]).read_bytes()).hexdigest()
    assert manifest.champions == {"Task001_x": "v1"}
    assert manifest.databases["label-studio"].rows == {"htx_user": 2, "project": 1, "task": 500}
    assert manifest.databases["nextcloud"].server >= 170000
    assert "nextcloud/lib/release.php" not in manifest.files
    assert "secrets/pseudonym-key" in manifest.files and "secrets/db/db-admin-password" not in (
        manifest.files
    )


def test_what_goes_wrong_is_said(box: Box, capsys: Said) -> None:
    password = box.home.secret("backup-password")
    right = password.read_text()
    password.write_text("wrong")
    capsys.readouterr()
    assert box.backup() == 2
    assert "does not open with this password" in capsys.readouterr().err
    password.write_text(right)
    with only_one(box.home):
        assert box.backup() == 3
    (box.nas / MARKER).rename(box.nas / "marker")
    assert box.backup() == 3
    (box.nas / "marker").rename(box.nas / MARKER)
    lab = open_lab(box.home)
    lab.compose.run("stop", "db")
    assert box.backup() == 1
    assert "not running" in capsys.readouterr().err
    lab.compose.run("start", "db")


def test_a_damaged_repository_is_found(box: Box, capsys: Said) -> None:
    assert box.call("backup", "--verify") == 0
    assert "2 backups can be read" in capsys.readouterr().out
    folder = box.nas / "backups" / "restic" / "data"
    packs = [path for path in folder.rglob("*") if path.is_file()]
    largest = max(packs, key=lambda path: path.stat().st_size)
    content = largest.read_bytes()
    largest.chmod(0o600)
    half = len(content) // 2
    largest.write_bytes(content[:half] + bytes([content[half] ^ 1]) + content[half + 1 :])
    assert box.call("backup", "--verify") == 1
    assert "begin a new repository" in capsys.readouterr().err
    largest.write_bytes(content)


def test_what_a_killed_backup_left_goes_with_the_next(box: Box, capsys: Said) -> None:
    restic = repository(box)
    restic.run("backup", "--tag", "labloop", "--quiet", "/saved/nas/models")
    assert len(restic.backups().rest) == 1
    words = ("run", "--rm", "--no-deps", "-T", "backup", "backup", "--stdin")
    command = [*replace(open_lab(box.home).compose, profile="tools").command, *words]
    locks = box.nas / "backups" / "restic" / "locks"
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL) as killed:
        wait_for("it holds a lock", lambda: any(locks.iterdir()), 30.0)
        assert box.backup() == 3
        said = capsys.readouterr().err
        name = next(word for word in said.split() if word.startswith(f"{STACK}-backup-run"))
        docker("kill", "--signal", "KILL", name)
        assert killed.stdin
        killed.stdin.close()
    assert any(locks.iterdir()), "a lock of nobody"
    assert box.backup() == 0, capsys.readouterr()
    assert not restic.backups().rest and not any(locks.iterdir())


def test_a_full_disk_is_said_and_the_last_backup_stays(box: Box, capsys: Said) -> None:
    small = box.root / "small"
    small.mkdir()
    if try_mount := subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", str(small)], check=False
    ).returncode:
        pytest.skip(f"no small disk can be mounted here ({try_mount})")
    try:
        box.write_env(BACKUP_REPOSITORY=str(small))
        box.start_database()
        assert box.backup() == 1
        assert "no space left" in capsys.readouterr().err
    finally:
        subprocess.run(["umount", str(small)], check=False)
        box.write_env()
        box.start_database()
    assert box.call("backup", "--list") == 0


def test_nothing_is_restored_over_data(box: Box, capsys: Said) -> None:
    assert box.backup() == 0
    capsys.readouterr()
    assert box.restore() == 3
    said = capsys.readouterr().err
    assert f"{STACK}_label-studio" in said and "secrets" in said and "db" in said
    assert box.restore("--replace") == 3, "nobody was there to say the stack's name"


def test_a_share_with_a_later_answer_is_left_alone(box: Box, capsys: Said) -> None:
    password = box.root / "written down"
    password.write_text(box.home.secret("backup-password").read_text())
    before = seen_on(box.nas)
    remove_stack()
    shutil.rmtree(box.home.root)
    changed = box.nas / TASK / "annotations" / "c1" / "7-1.json"
    kept = changed.read_text()
    changed.write_text("a later answer")
    assert box.restore("--password-file", str(password)) == 3
    assert f"other content in nas/{TASK}/annotations/c1/7-1.json" in capsys.readouterr().err
    assert changed.read_text() == "a later answer"
    assert not box.home.secrets.exists() and not docker("volume", "ls", "-qf", f"name={STACK}_")
    changed.write_text(kept)
    assert box.restore("--password-file", str(password)) == 0, capsys.readouterr()
    assert "were there already" in capsys.readouterr().out
    after = seen_on(box.nas)
    assert all(after[path] == found for path, found in before.items() if "backups" not in path)


def test_a_lab_is_put_back_on_an_empty_box(
    box: Box, capsys: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last: it destroys everything, the settings, too."""
    lab = box.start_database()
    assert box.backup() == 0, capsys.readouterr()
    volumes = {name: seen_in(name) for name in VOLUMES}
    secrets = secrets_of(box)
    on_nas, tables, manifest = seen_on(box.nas), rows(lab), box.manifest()
    elsewhere = box.root / "taken away"
    shutil.copytree(box.nas / "backups" / "restic", elsewhere)
    password = box.root / "written down"
    password.write_text(secrets["backup-password"])
    settings = box.env_file.read_text()
    box.destroy()
    box.env_file.unlink()
    monkeypatch.setenv("RESTIC_IMAGE", ensure_base(RESTIC))

    words = ("--from", str(elsewhere), "--password-file", str(password))
    assert box.restore(*words) == 0, capsys.readouterr()
    said = capsys.readouterr().out
    assert f"{len(manifest.files)} files" in said and "500 tasks" in said
    assert box.env_file.read_text() == settings
    again = open_lab(box.home)
    again.compose.run("up", "--detach", "--no-deps", "--wait", "--pull", "never", "db")
    assert rows(again) == tables
    assert secrets_of(box) == secrets
    for name, before in volumes.items():
        assert own_lines(name, seen_in(name)) == own_lines(name, before)
    release = in_volume("nextcloud", "cat /v/lib/release.php /v/version.php /v/config/config.php")
    expected = [f"nextcloud {name}" for name in ("lib/release.php", *NEXTCLOUD_KEPT)]
    assert release.splitlines() == expected, "the image's release around what was saved"
    restored = seen_on(box.nas)
    assert set(NAS) <= set(restored)
    assert not set(NOT_SAVED) & set(restored)
    differing = [path for path, found in restored.items() if found != on_nas[path]]
    assert not [path for path in differing if not path.startswith("backups")]


def test_a_stack_is_replaced_when_its_name_is_said(box: Box) -> None:
    """Runs after the one above, on the box that it made."""
    in_volume("label-studio", "echo later >/v/later")
    wishes = RestoreWishes(
        source=str(box.root / "taken away"), env_file=box.env_file, with_replace=True
    )
    report = restore(box.home, wishes, lambda _: STACK, lambda _: None)
    assert report.rows["label-studio"] == 503
    assert "later" not in seen_in("label-studio")
    assert list(box.home.root.glob("secrets.*")), "the former secrets were put aside"


def secrets_of(box: Box) -> dict[str, str]:
    return {path.name: path.read_text() for path in box.home.secrets.iterdir() if path.is_file()}


def own_lines(volume: str, seen: str) -> list[str]:
    """Without heartbeats, and in Nextcloud's folder without what is neither data nor settings."""
    paths = {line: line.rpartition(" ./")[2] for line in seen.splitlines()}
    foreign = ("lib", "link", "empty") if volume == "nextcloud" else ()
    return [
        line
        for line, path in paths.items()
        if not line.endswith("heartbeat") and not path.startswith(foreign)
    ]
