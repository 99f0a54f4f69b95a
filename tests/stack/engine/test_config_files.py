from pathlib import Path

from stack.engine.config_files import FOLDERS, config_folder, ensure_config
from stack.home import Home


def checkout(root: Path) -> Path:
    for name in FOLDERS:
        (root / "services" / name / "tools").mkdir(parents=True)
        (root / "services" / name / "README.md").write_text("for people")
        (root / "services" / name / "tools" / "run.sh").write_text("echo")
        (root / "services" / name / "tools" / "run.sh").chmod(0o700)
        (root / "services" / name / "plain.conf").write_text("a")
        (root / "services" / name / "plain.conf").chmod(0o600)
    return root


def test_containers_get_a_copy_that_they_may_read_whatever_the_umask_was(tmp_path: Path) -> None:
    folder = ensure_config(Home(tmp_path / "home"), checkout(tmp_path / "code"))
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert found == {
        f"{name}/{file}" for name in FOLDERS for file in ("tools/run.sh", "plain.conf")
    }
    assert (folder / "db" / "tools" / "run.sh").stat().st_mode & 0o777 == 0o755
    assert (folder / "db" / "plain.conf").stat().st_mode & 0o777 == 0o644
    assert (folder / "db" / "tools").stat().st_mode & 0o777 == 0o755


def test_another_state_of_the_files_is_another_folder(tmp_path: Path) -> None:
    home, code = Home(tmp_path / "home"), checkout(tmp_path / "code")
    first = ensure_config(home, code)
    assert ensure_config(home, code) == first == config_folder(home, code)
    (code / "services" / "gateway" / "plain.conf").write_text("b")
    second = ensure_config(home, code)
    assert second != first
    assert (first / "gateway" / "plain.conf").read_text() == "a"
    (code / "services" / "gateway" / "README.md").write_text("for other people")
    assert ensure_config(home, code) == second
