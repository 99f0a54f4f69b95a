"""The search for planted identities finds them wherever a service may have put them."""

import gzip
import sqlite3
import zipfile
import zlib
from pathlib import Path

import pytest

from tests.phi import PLANTED, assert_nothing_planted, planted_in, require

NAME = "Testperson^Alma^Q"


def test_names_are_found_however_they_are_written(tmp_path: Path) -> None:
    require(PLANTED)
    for form in (NAME, NAME.upper(), "testperson_alma_q", "Testperson Alma Q"):
        for coding in ("utf-8", "utf-16", "utf-16-be"):
            assert planted_in(b"\1\2" + form.encode(coding) + b"\0") == {NAME}
    assert planted_in(b"nothing of the kind") == set()


def test_names_are_found_in_packed_files(tmp_path: Path) -> None:
    require(PLANTED)
    assert planted_in(gzip.compress(NAME.encode())) == {NAME}
    chunk = b"Comment\0\0" + zlib.compress(NAME.encode())
    png = b"\x89PNG\r\n\x1a\n" + len(chunk).to_bytes(4, "big") + b"zTXt" + chunk + b"\0\0\0\0"
    assert planted_in(png) == {NAME}
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.txt", NAME * 9)
    assert planted_in((tmp_path / "a.zip").read_bytes()) == {NAME}
    with sqlite3.connect(tmp_path / "a.db") as database:
        database.execute("create table t (x)")
        database.execute("insert into t values (?)", (NAME,))
    database.close()
    assert planted_in((tmp_path / "a.db").read_bytes()) == {NAME}


def test_files_and_their_names_are_looked_at_but_for_those_beside(tmp_path: Path) -> None:
    require(PLANTED)
    (tmp_path / "rawdata").mkdir()
    (tmp_path / "rawdata" / "a.dcm").write_text(NAME)
    (tmp_path / "log.txt").write_text("case-1 landed")
    assert_nothing_planted(tmp_path, beside=[tmp_path / "rawdata"])
    with pytest.raises(AssertionError, match=r"a\.dcm"):
        assert_nothing_planted(tmp_path)
    (tmp_path / "EX-4471902.png").write_bytes(b"")
    with pytest.raises(AssertionError, match="in the name"):
        assert_nothing_planted(tmp_path, beside=[tmp_path / "rawdata"])


def test_a_search_through_nothing_is_no_proof(tmp_path: Path) -> None:
    require(PLANTED)
    with pytest.raises(AssertionError, match="nothing was looked at"):
        assert_nothing_planted(tmp_path)
