import errno
import os
from pathlib import Path
from typing import Any

import pytest

from services.ingest.ledger import UNKNOWN_NS, Ledger, Row, Stamp
from services.ingest.scan import HOT_S, Look, RawdataScan
from services.ingest.settle import SettleDesk


def paths(look: Look) -> list[str]:
    return sorted(found.path for found in look.found)


def test_a_frequent_look_lists_only_changed_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in "abc":
        (tmp_path / name).mkdir()
        (tmp_path / name / "1.png").touch()
    known = {name: {"1.png": Stamp(0, UNKNOWN_NS)} for name in "abc"}
    scan = RawdataScan(tmp_path, lambda folder: known.get(folder, {}))
    assert paths(scan.look(0, full=False)) == []
    scan.look(HOT_S + 1, full=False)
    listed: list[str] = []
    real = os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: listed.append(Path(path).name) or real(path))
    (tmp_path / "b" / "2.png").touch()
    assert paths(scan.look(HOT_S + 2, full=False)) == ["b/2.png"]
    assert listed == ["b"]


def test_a_folder_stays_hot_for_a_while(tmp_path: Path) -> None:
    """A server with stamps of one second hides a second change within the same second."""
    (tmp_path / "a").mkdir()
    scan = RawdataScan(tmp_path, lambda _: {})
    scan.look(0, full=True)
    stamp = (tmp_path / "a").stat()
    (tmp_path / "a" / "1.png").touch()
    os.utime(tmp_path / "a", ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    assert paths(scan.look(HOT_S - 0.1, full=False)) == ["a/1.png"]
    assert paths(scan.look(HOT_S + 0.1, full=False)) == []


def test_new_folders_are_followed_and_links_are_not(tmp_path: Path) -> None:
    root = tmp_path / "rawdata"
    root.mkdir()
    scan = RawdataScan(root, lambda _: {})
    scan.look(0, full=True)
    (root / "x" / "y").mkdir(parents=True)
    (root / "x" / "y" / "1.png").touch()
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "2.png").touch()
    (root / "link").symlink_to(tmp_path / "secret")
    (root / "@eaDir").mkdir()
    (root / "@eaDir" / "3.png").touch()
    look = scan.look(1, full=False)
    assert {found.path: found.trouble for found in look.found} == {
        "x/y/1.png": None,
        "link": "symlink",
    }


def test_a_folder_that_becomes_a_link_is_left(tmp_path: Path) -> None:
    root = tmp_path / "rawdata"
    (root / "a").mkdir(parents=True)
    scan = RawdataScan(root, lambda _: {})
    scan.look(0, full=True)
    (root / "a").rmdir()
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "2.png").touch()
    (root / "a").symlink_to(tmp_path / "secret")
    assert paths(scan.look(1, full=False)) == ["a"]
    assert paths(scan.look(100, full=True)) == ["a"]


def test_a_full_look_sees_files_rewritten_in_place(tmp_path: Path) -> None:
    (tmp_path / "1.png").write_bytes(b"12")
    known = {"": {"1.png": Stamp(2, (tmp_path / "1.png").stat().st_mtime_ns)}}
    scan = RawdataScan(tmp_path, lambda folder: known.get(folder, {}))
    look = scan.look(0, full=True)
    assert (paths(look), look.known_seen) == ([], 1)
    (tmp_path / "1.png").write_bytes(b"123")
    look = scan.look(100, full=True)
    assert (paths(look), look.known_seen) == (["1.png"], 1)


def test_missing_known_files_are_counted(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "1.png").touch()
    known = {"a": {"1.png": Stamp(0, UNKNOWN_NS), "2.png": Stamp(0, UNKNOWN_NS)}}
    scan = RawdataScan(tmp_path, lambda folder: known.get(folder, {}))
    assert scan.look(0, full=True).known_missed == 1
    (tmp_path / "a" / "1.png").unlink()
    (tmp_path / "a").rmdir()
    assert scan.look(1, full=False).known_missed == 2


def test_the_ledger_keeps_rows_by_path_and_pair(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    row = Row("images/a.png", Stamp(1, 2), "picture", "case-1", "<>/a")
    ledger.record("Task001_x", [row, Row("cases.csv", Stamp(3, 4), "sheet")])
    assert ledger.find("Task001_x", "images/a.png") == row
    assert ledger.partners("Task001_x", "<>/a", "picture") == [row]
    assert ledger.partners("Task002_y", "<>/a", "picture") == []
    assert ledger.count("Task001_x") == 1
    ledger.close()
    again = Ledger(tmp_path)
    assert again.folder("Task001_x", "images") == {"a.png": Stamp(1, 2)}
    again.forget("Task001_x", ["images/a.png"])
    assert again.count("Task001_x") == 0
    again.close()


def test_the_desk_says_when_the_next_file_is_due(tmp_path: Path) -> None:
    desk = SettleDesk(quiet_s=5)
    (tmp_path / "1.png").touch()
    scan = RawdataScan(tmp_path, lambda _: {})
    desk.see(scan.look(0, full=True).found, 10)
    assert desk.next_due_s(10) == 15
    assert desk.still_moving(14.9) and not desk.still_moving(15)
    (item,) = desk.quiet(15)
    desk.postpone(item, 40)
    assert desk.quiet(39) == [] and desk.next_due_s(15) == 40
    desk.check(lambda _: None, 40)
    assert len(desk) == 0 and desk.next_due_s(40) is None


def test_a_folder_that_cannot_be_listed_is_tried_at_every_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its rights may change without a change of its time."""
    for name in "ab":
        (tmp_path / name).mkdir()
        (tmp_path / name / "1.png").touch()
    scan = RawdataScan(tmp_path, lambda _: {})
    real = os.scandir

    def denied(path: Path) -> object:
        if Path(path).name == "a":
            raise PermissionError(errno.EACCES, "Permission denied")
        return real(path)

    with monkeypatch.context() as patch:
        patch.setattr(os, "scandir", denied)
        look = scan.look(0, full=True)
        assert (paths(look), look.unreadable) == (["b/1.png"], 1)
        assert scan.look(HOT_S + 1, full=False).unreadable == 1
    look = scan.look(HOT_S + 2, full=False)
    assert (paths(look), look.unreadable) == (["a/1.png"], 0)


def test_a_folder_whose_files_show_no_more_than_their_names_counts_as_unreadable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in "ab":
        (tmp_path / name).mkdir()
        (tmp_path / name / "1.png").touch()
    scan = RawdataScan(tmp_path, lambda _: {})
    real = RawdataScan._meet

    def meet(self: RawdataScan, entry: "os.DirEntry[str]", path: str, *rest: Any) -> None:
        if path == "a/1.png":
            raise PermissionError(errno.EACCES, "Permission denied")
        real(self, entry, path, *rest)

    monkeypatch.setattr(RawdataScan, "_meet", meet)
    look = scan.look(0, full=True)
    assert (paths(look), look.unreadable) == (["b/1.png"], 1)
