"""The record that a restore is checked against."""

import json

import pytest

from stack.engine.manifest import (
    Database,
    Entry,
    Manifest,
    compare,
    compare_rows,
    is_odd,
    known_hashes,
    read_listing,
    shortened,
)

LISTING = [
    {"struct_type": "snapshot", "paths": ["/saved"]},
    {"struct_type": "node", "path": "/saved", "type": "dir", "mode": 0o755, "uid": 0, "gid": 0},
    {
        **{"struct_type": "node", "path": "/saved/nas", "type": "dir", "uid": 5, "gid": 2000},
        "mode": 1 << 31 | 1 << 22 | 0o775,  # Go's bits for a folder and for setgid
    },
    {
        **{"struct_type": "node", "path": "/saved/nas/a b", "type": "file", "uid": 5, "gid": 6},
        **{"mode": 0o640, "size": 3, "mtime": "m", "ctime": "c", "inode": 7},
    },
]


def file(sha256: str = "", *, size: int = 3, stamp: str = "m c 7", mode: str = "0640") -> Entry:
    return Entry("file", mode, 5, 6, size, stamp, sha256)


def manifest(**entries: Entry) -> Manifest:
    return Manifest(
        stack="lab",
        created="2026-03-14T09:15:00Z",
        snapshot="ab" * 32,
        image_tag="t",
        label_studio="1.2",
        revision="r",
        databases={"label-studio": Database(170005, {"task": 3})},
        champions={"Task001_x": "v1"},
        entries={path.replace("__", "/"): entry for path, entry in entries.items()},
    )


def test_a_listing_is_read_with_unix_rights() -> None:
    entries = read_listing("\n".join(json.dumps(line) for line in LISTING))
    assert entries == {"nas": Entry("dir", "2775", 5, 2000), "nas/a b": file()}


def test_a_manifest_survives_its_file() -> None:
    one = manifest(nas=Entry("dir", "2775", 5, 2000), nas__x=file("aa"), secrets__y=file("bb"))
    assert Manifest.from_json(one.to_json()) == one
    assert one.areas() == {"nas": (1, 3), "secrets": (1, 3)}
    with pytest.raises(ValueError, match="another format"):
        Manifest.from_json('{"format": 2}')
    with pytest.raises(ValueError, match="no manifest"):
        Manifest.from_json('{"format": 1}')


def test_only_files_that_restic_took_for_unchanged_keep_their_hash() -> None:
    before = manifest(nas__same=file("aa"), nas__newer=file("bb"), nas__longer=file("cc"))
    now = {
        "nas/same": file(),
        "nas/newer": file(stamp="m2 c2 7"),
        "nas/longer": file(size=4),
        "nas/new": file(),
        "nas/dir": Entry("dir", "0755", 0, 0),
    }
    assert known_hashes(now, before) == {"nas/same": "aa"}
    assert known_hashes(now, None) == {}


def test_what_differs_is_told_apart() -> None:
    expected = {
        "nas/well": file("aa"),
        "nas/gone": file("bb"),
        "nas/other": file("cc"),
        "nas/opened": file("dd", mode="0600"),
        "nas/link": Entry("symlink", "0777", 0, 0),
    }
    hashes = {"nas/well": "aa", "nas/other": "zz", "nas/opened": "dd"}
    rights = dict.fromkeys(("nas/well", "nas/other", "nas/opened"), ("0640", 5, 6))
    found = compare(expected, hashes, {**rights, "nas/link": ("0755", 1, 1)})
    assert (found.missing, found.changed, found.rights) == (
        ["nas/gone"],
        ["nas/other"],
        ["nas/opened"],
    )
    assert found and found.words == (
        "missing: nas/gone; other content: nas/other; other owner or mode: nas/opened"
    )
    assert not compare({"nas/well": file("aa")}, hashes, rights)


def test_tables_are_compared_row_for_row() -> None:
    assert compare_rows({"task": 3, "user": 1}, {"task": 3, "user": 1}) == []
    assert compare_rows({"task": 3, "user": 1}, {"task": 2, "new": 5}) == [
        "new has 5, expected no table",
        "task has 2, expected 3",
        "user has no table, expected 1",
    ]


def test_names_that_no_line_can_hold_are_known() -> None:
    assert is_odd("a\nb") and is_odd("a\\b") and is_odd("a\ufffd") and not is_odd("ä b'c\"$x")
    assert shortened(["a", "b", "c"], most=2) == "a, b and 1 more"
