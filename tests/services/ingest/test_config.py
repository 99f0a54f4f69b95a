import errno
from pathlib import Path

import pytest

from imaging.labels import label_scheme
from imaging.layout import MARKER, Nas
from imaging.task import TaskConfig, save_task
from services.ingest.config import ConfigDesk
from services.ingest.errors import HoldError

CONFIG = TaskConfig(kind="classification", scheme=label_scheme(["a", "b"]))


@pytest.fixture
def desk(tmp_path: Path) -> ConfigDesk:
    (tmp_path / MARKER).touch()
    desk = ConfigDesk(Nas(tmp_path).task("Task001_test"))
    save_task(desk.task.config, CONFIG)
    return desk


def test_a_task_yaml_is_read_once_until_it_changes(desk: ConfigDesk) -> None:
    assert desk.read()
    assert not desk.read()
    desk.task.config.write_text("kind: classification\nlabels: [a, b, c]\n")
    assert desk.read()
    assert desk.config is not None and desk.config.scheme.names == ("a", "b", "c")


def test_a_task_yaml_with_problems_holds_the_task_until_it_is_mended(desk: ConfigDesk) -> None:
    assert desk.read()
    desk.task.config.write_text("kind: painting")
    for _ in range(2):
        with pytest.raises(HoldError, match="kind is 'painting'"):
            desk.read()
    assert desk.config is None
    save_task(desk.task.config, CONFIG)
    assert desk.read()
    assert desk.config == CONFIG


@pytest.mark.parametrize(
    ("where", "error"),
    [
        ("pathlib.Path.read_text", OSError(errno.ESTALE, "Stale file handle")),
        ("services.ingest.config.load_task", ValueError("a bug")),
    ],
)
def test_a_task_yaml_that_could_not_be_read_is_tried_again(
    desk: ConfigDesk, monkeypatch: pytest.MonkeyPatch, where: str, error: Exception
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(where, fail)
        for _ in range(2):
            with pytest.raises((HoldError, ValueError)):
                desk.read()
            assert desk.config is None
    assert desk.read()
    assert desk.config == CONFIG
