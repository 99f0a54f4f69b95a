import sqlite3
import threading
import time
from pathlib import Path

import pytest

from services.label_studio import django_app, template


@pytest.fixture
def builds(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Folders in which a database was built; the migrations are played by one table."""
    built: list[Path] = []

    def set_up(data_dir: Path, nas_root: Path, secret_key: str, pragmas: str) -> None:
        built.append(data_dir)

    def migrate() -> None:
        time.sleep(0.05)
        with sqlite3.connect(built[-1] / template.DATABASE) as connection:
            connection.execute("CREATE TABLE project (id INTEGER)")
        connection.close()

    monkeypatch.setattr(template, "template_path", lambda folder: folder / "1" / template.DATABASE)
    monkeypatch.setattr(django_app, "set_up", set_up)
    monkeypatch.setattr(django_app, "migrate", migrate)
    return built


def journal_mode(database: Path) -> str:
    connection = sqlite3.connect(database)
    try:
        return str(connection.execute("PRAGMA journal_mode").fetchone()[0])
    finally:
        connection.close()


def test_of_several_builders_at_once_one_works(tmp_path: Path, builds: list[Path]) -> None:
    threads = [threading.Thread(target=template.make_template, args=(tmp_path,)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(builds) == 1
    assert sorted(path.name for path in (tmp_path / "1").iterdir()) == [
        ".lock",
        template.DATABASE,
    ]


def test_a_builder_that_fails_leaves_no_template(
    tmp_path: Path, builds: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise sqlite3.OperationalError("disk I/O error")

    with monkeypatch.context() as broken:
        broken.setattr(django_app, "migrate", fail)
        with pytest.raises(sqlite3.OperationalError):
            template.make_template(tmp_path)
    assert [path.name for path in (tmp_path / "1").iterdir()] == [".lock"]
    assert template.make_template(tmp_path).is_file()


def test_a_copy_is_a_private_whole_database_with_a_write_ahead_log(
    tmp_path: Path, builds: list[Path]
) -> None:
    source = template.make_template(tmp_path)
    home = tmp_path / "home"
    home.mkdir()
    database = home / template.DATABASE
    template.copy_template(source, database)
    assert database.read_bytes() == source.read_bytes()
    assert database.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in home.iterdir()] == [template.DATABASE]
    assert journal_mode(database) == "wal"
