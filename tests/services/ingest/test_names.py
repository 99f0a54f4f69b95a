import pytest

from services.ingest.names import (
    is_paper,
    is_passed_over,
    name_trouble,
    patient_key,
    pseudonym,
    safe_name,
)


@pytest.mark.parametrize(
    "name",
    [
        "a.png.part", "abc.ocTransferId42.part", "a.filepart", "~$a.png", "a.png~", ".a.png",
        "._a.png", "Thumbs.db", "desktop.ini", "@eaDir", "#recycle", "#snapshot", "__MACOSX",
        "A.TMP", "a.crdownload", ".DS_Store", ".stfolder",
    ],
)  # fmt: skip
def test_names_of_copies_and_systems_are_passed_over(name: str) -> None:
    assert is_passed_over(name)


@pytest.mark.parametrize("name", ["a.png", "part.png", "tmp", "Bild 1.jpg", "scan"])
def test_other_names_are_not(name: str) -> None:
    assert not is_passed_over(name)


def test_papers_are_passed_over_but_pictures_called_so_are_not() -> None:
    papers = [
        "Cases.CSV",
        "README.md",
        "LICENSE",
        "sub/licence.txt",
        "LICENSE.x_y.txt",
        "dataset.json",
    ]
    assert all(is_paper(path) for path in papers)
    assert not is_paper("readme.png") and not is_paper("sub/cases.csv")


def test_a_camera_prefix_before_four_digits_is_the_patient() -> None:
    assert patient_key("sub/la_003_0000.jpg") == "la_003"
    assert patient_key("la_003_0000.nii.png") == "la_003_0000.nii"
    assert patient_key("IM-0667-0001.jpeg") == "IM-0667-0001"
    assert patient_key("_0001.png") == "_0001"


def test_pseudonyms_are_stable_and_keyed() -> None:
    assert pseudonym("key", "Müller") == pseudonym("key", "Müller")
    assert pseudonym("key", "Müller") != pseudonym("other", "Müller")
    assert len(pseudonym("key", "x")) == 14


def test_a_patient_has_one_pseudonym_however_the_letters_are_composed() -> None:
    assert pseudonym("key", "Mu\u0308ller") == pseudonym("key", "M\u00fcller") == "p-4e6ce1acb9a2"


def test_unusual_letters_are_fine_but_tricks_are_not() -> None:
    # U+202F stands in the names of macOS screenshots.
    for name in ("Müller.png", "10.00\u202fAM.png", "心臓\u3000図.png", "a b'c.png"):
        assert name_trouble(name) is None
    for name in ("a\nb", "a\x7f", "m\udcfcller", "a\u202eb", "a\\b"):
        assert name_trouble(name)


def test_a_safe_name_keeps_what_it_can() -> None:
    assert safe_name("x/Bild (1).png") == "Bild_1_.png"
    assert safe_name("reason.txt") == "file-reason.txt"
    assert safe_name("…") == "_"
    assert len(safe_name("a" * 300 + ".png")) == 100
