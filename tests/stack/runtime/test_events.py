import time
from pathlib import Path

import pytest

from stack.runtime.events import Alarm, filesystem_of, wants_events

MOUNTS = r"""21 1 254:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw
30 21 0:40 / /mnt/nas rw shared:2 - nfs4 box:/share rw
31 21 0:41 / /mnt/my\040nas rw - cifs //box/share rw
32 30 0:42 / /mnt/nas/local rw - tmpfs none rw
"""


@pytest.mark.parametrize(
    ("folder", "kind"),
    [
        ("/home/lab", "ext4"),
        ("/mnt/nas", "nfs4"),
        ("/mnt/nas/dataset", "nfs4"),
        ("/mnt/nas2", "ext4"),
        ("/mnt/my nas/x", "cifs"),
        ("/mnt/nas/local/x", "tmpfs"),
    ],
)
def test_the_filesystem_of_a_folder_is_that_of_its_mount(folder: str, kind: str) -> None:
    assert filesystem_of(Path(folder), MOUNTS) == kind


def test_without_mounts_nothing_is_known() -> None:
    assert filesystem_of(Path("/x"), "") == ""


def test_events_can_be_chosen(tmp_path: Path) -> None:
    assert wants_events("on", Path("/mnt/nas")) and not wants_events("off", tmp_path)


def test_an_alarm_tells_which_paths_changed(tmp_path: Path) -> None:
    (tmp_path / "case").mkdir()
    alarm = Alarm(keeps_paths=True)
    alarm.start()
    try:
        alarm.watch({(tmp_path, True)})
        (tmp_path / "case" / "12-3.json").write_text("{}")
        assert alarm.rung.wait(10)
        changed, deadline = alarm.take_changed(), time.monotonic() + 10
        while tmp_path / "case" / "12-3.json" not in changed and time.monotonic() < deadline:
            changed |= alarm.take_changed()
        assert tmp_path / "case" / "12-3.json" in changed
    finally:
        alarm.stop()


def test_an_alarm_that_nobody_asks_gathers_no_paths(tmp_path: Path) -> None:
    alarm = Alarm()
    alarm.start()
    try:
        alarm.watch({(tmp_path, True)})
        (tmp_path / "a.png").write_bytes(b"x")
        assert alarm.rung.wait(10)
        assert alarm.take_changed() == set()
    finally:
        alarm.stop()
