import pytest

from imaging.io.casesheet import parse_case_sheet
from services.ingest.tree import Place, arrangement, class_folder, place_of


@pytest.mark.parametrize(
    ("picture", "mask"),
    [
        ("images/a.png", "masks/a.png"),
        ("images/a.jpg", "labels/a.png"),
        ("imagesTr/la_003.png", "labelsTr/la_003.tif"),
        ("imagesTs/x.png", "labelsTs/x.png"),
        ("site/Images/deep/a.png", "site/Masks/deep/a.png"),
        ("images/SC-N-03.dcm.png", "masks/SC-N-03.dcm.png"),
    ],
)
def test_a_picture_and_its_mask_share_a_key(picture: str, mask: str) -> None:
    assert not place_of(picture).is_mask and place_of(mask).is_mask
    assert place_of(picture).pair == place_of(mask).pair


@pytest.mark.parametrize(
    ("picture", "mask"),
    [
        ("images/a.png", "masks/b.png"),
        ("imagesTr/a.png", "labelsTs/a.png"),
        ("site1/images/a.png", "site2/masks/a.png"),
    ],
)
def test_strangers_do_not_pair(picture: str, mask: str) -> None:
    assert place_of(picture).pair != place_of(mask).pair


def test_a_plain_picture_has_no_pair() -> None:
    assert place_of("2026/a.png") == Place(is_mask=False, pair=None)


@pytest.mark.parametrize(
    ("path", "folder"),
    [
        ("normal/a.png", "normal"),
        ("train/NORMAL/a.png", "NORMAL"),
        ("images/pneumonia/a.png", "pneumonia"),
        ("a.png", None),
        ("unlabelled/a.png", None),
        ("imagesTr/a.png", None),
    ],
)
def test_the_first_folder_with_a_meaning_names_the_class(path: str, folder: str | None) -> None:
    assert class_folder(path) == folder


def test_class_folders_are_a_classification() -> None:
    found = arrangement(["b/1.png", "a/2.png", "3.png"], None)
    assert (found.kind, found.classes) == ("classification", ("a", "b"))


@pytest.mark.parametrize(
    "paths",
    [
        ["1.png", "2.png"],
        ["only/1.png", "only/2.png"],
        ["a/x/1.png", "b/2.png"],
        [f"patient{number}/1.png" for number in range(51)],
    ],
)
def test_other_trees_are_plain(paths: list[str]) -> None:
    found = arrangement(paths, None)
    assert (found.kind, found.classes, found.masks) == ("segmentation", (), ())


def test_masks_beside_pictures_are_a_segmentation() -> None:
    found = arrangement(["images/a.png", "masks/a.png", "images/b.png"], None)
    assert (found.kind, found.masks) == ("segmentation", ("masks/a.png",))


def test_labels_in_a_case_list_are_a_classification() -> None:
    sheet = parse_case_sheet(b"file,label\n1.png,ill|old\n2.png,well\n")
    found = arrangement(["1.png", "2.png"], sheet)
    assert (found.kind, found.classes) == ("classification", ("ill", "old", "well"))
    assert found.multi_label


def test_masks_win_over_labels_in_a_case_list() -> None:
    sheet = parse_case_sheet(b"file,label\na.png,ill\n")
    assert arrangement(["images/a.png", "masks/a.png"], sheet).kind == "segmentation"


def test_composed_and_decomposed_letters_name_the_same_class_and_pair() -> None:
    assert class_folder("tumo\u0308r/a.png") == "tum\u00f6r"
    assert place_of("images/o\u0308.png").pair == place_of("masks/\u00f6.png").pair
    paths = ["tumo\u0308r/a.png", "tum\u00f6r/b.png", "normal/c.png"]
    assert arrangement(paths, None).classes == ("normal", "tum\u00f6r")
    sheet = parse_case_sheet("file,label\na.png,tumo\u0308r\nb.png,tum\u00f6r\n".encode())
    assert arrangement(["a.png", "b.png"], sheet).classes == ("tum\u00f6r",)
