import pytest

from imaging.errors import RecordError
from imaging.io.casesheet import CaseSheet, parse_case_sheet


def sheet(text: str) -> CaseSheet:
    return parse_case_sheet(text.encode())


def test_a_row_is_found_by_path_or_by_bare_name() -> None:
    rows = sheet("file,patient\nimages/a.png,P1\nb.png,P2\n")
    assert rows.find("images/a.png") is not None
    assert rows.find("a.png") is None
    found = rows.find("images/deeper/b.png")
    assert found is not None and found.patient == "P2"


def test_it_is_told_which_rows_apply_by_bare_name_only() -> None:
    rows = sheet("file\nimages/a.png\nb.png\n")
    assert rows.goes_by_name("images/b.png")
    assert not rows.goes_by_name("images/a.png")
    assert not rows.goes_by_name("b.png")  # that is its path
    assert not rows.goes_by_name("images/c.png")


def test_windows_paths_and_decomposed_letters_are_the_same_file() -> None:
    rows = sheet("file\nrawdata\\images\\mu\u0308ller.png\n")
    assert rows.find("images/m\u00fcller.png") is not None


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_spreadsheets_use_other_delimiters(delimiter: str) -> None:
    text = delimiter.join(["File", " Patient ", "scanner"]) + "\r\n" + delimiter.join("abc")
    row = parse_case_sheet(b"\xef\xbb\xbf" + text.encode()).find("a")
    assert row is not None
    assert (row.patient, dict(row.metadata)) == ("b", {"scanner": "c"})


def test_labels_may_be_several_columns_or_share_a_cell() -> None:
    rows = sheet("file,label,label_2,labels\na,x,y,\nb,,,z|x\nc,,,\n")
    assert [row.labels for row in rows.rows.values()] == [("x", "y"), ("z", "x"), ()]
    assert rows.label_names == ("x", "y", "z")
    assert rows.is_multi_label
    assert not sheet("file,label\na,x\n").is_multi_label


def test_short_lines_blank_lines_and_repeated_lines_are_fine() -> None:
    rows = sheet("file,patient,age\na\n\n ,,\nb,P,7\nb,P,7\n")
    assert list(rows.rows) == ["a", "b"]
    assert rows.rows["a"].patient == ""


def test_empty_columns_at_the_end_are_passed_over() -> None:
    rows = sheet("file,patient,,,\na.png,P1,,,\nb.png,P2,,,stray\n")
    assert [(row.patient, dict(row.metadata)) for row in rows.rows.values()] == [
        ("P1", {}),
        ("P2", {}),
    ]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is empty"),
        (b"picture,patient\na,P\n", "no column `file`"),
        (b"file,patient\na,M\xfcller\n", "not UTF-8"),
        (b"file,patient\na,\x00\n", "zero bytes"),
        (b"file,patient\na,P,Q\n", "line 2 has 3 fields"),
        (b"file,patient\n,P\n", "line 2 names no file"),
        (b"file,patient\na,P\na,Q\n", "line 3 says something else"),
        (b"file,patient,patient\na,P,Q\n", "twice"),
        (b'file,patient\n"a,P\n', "cases.csv: "),
    ],
)
def test_a_bad_sheet_is_refused_by_line(data: bytes, message: str) -> None:
    with pytest.raises(RecordError, match=message):
        parse_case_sheet(data)


def test_refusals_name_no_patient() -> None:
    with pytest.raises(RecordError) as caught:
        sheet("file,patient\nx.png,Mueller\nx.png,Schmidt\n")
    assert "Mueller" not in str(caught.value) and "Schmidt" not in str(caught.value)


def test_case_and_channel_say_which_files_are_one_case() -> None:
    rows = sheet(
        "file,case,channel\na_t1.nii,a,T1\na_fl.nii,a,FLAIR\na_seg.nii,a,label\nb_t1.nii,b,T1\n"
    )
    assert rows.channels == ("T1", "FLAIR")
    row = rows.find("x/a_seg.nii")
    assert row is not None and (row.case, row.is_label_map) == ("a", True)


def test_case_without_channel_is_metadata() -> None:
    row = sheet("file,case\na.png,7\n").find("a.png")
    assert row is not None and row.metadata == {"case": "7"} and not row.case


def test_a_case_without_its_channel_is_refused() -> None:
    with pytest.raises(RecordError, match="line 2 has a case without a channel"):
        sheet("file,case,channel\na.nii,a,\n")
