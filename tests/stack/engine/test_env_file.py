from pathlib import Path

from stack.engine.env_file import ensure_env_file, machine_address
from stack.engine.settings import LabSettings
from stack.settings import read_env_file


def test_the_settings_are_written_once_with_this_machines_address(tmp_path: Path) -> None:
    path = tmp_path / ".env"
    assert ensure_env_file(path, "192.0.2.7")
    assert read_env_file(path) == {"LAB_HOST": "192.0.2.7"}
    assert "#NAS_PATH=" in path.read_text(), "all the others are there to be changed"
    path.write_text("LAB_HOST=lab.example\n")
    assert not ensure_env_file(path, "192.0.2.7")
    assert read_env_file(path) == {"LAB_HOST": "lab.example"}


def test_a_machine_has_an_address_or_a_name_that_may_be_set() -> None:
    assert LabSettings.from_env({"LAB_HOST": machine_address()}).lab_host == machine_address()
