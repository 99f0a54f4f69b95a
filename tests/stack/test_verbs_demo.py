"""Demos leave their homes behind to be looked at, but not for ever."""

from pathlib import Path

from stack.home import Home
from stack.lock import only_supervisor
from stack.verbs_demo import KEPT, remove_old_homes


def test_the_newest_demos_and_those_that_run_stay(tmp_path: Path) -> None:
    homes = [tmp_path / f"20260314T0915{second:02}Z" for second in range(KEPT + 3)]
    for home in homes:
        snapshot = home / "nas" / "snapshots" / "snap-1"
        snapshot.mkdir(parents=True)
        (snapshot / "manifest.json").touch()
        snapshot.chmod(0o500)
    share = tmp_path / "share"
    (share / "dataset").mkdir(parents=True)
    (homes[1] / "link").symlink_to(share)
    with only_supervisor(Home(homes[0])):
        assert remove_old_homes(tmp_path) == 2
    assert sorted(tmp_path.iterdir()) == sorted([homes[0], *homes[3:], share])
    assert (share / "dataset").is_dir()


def test_nothing_is_removed_where_no_demo_has_been(tmp_path: Path) -> None:
    assert remove_old_homes(tmp_path / ".demo") == 0
